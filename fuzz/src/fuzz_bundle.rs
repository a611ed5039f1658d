//! libFuzzer's target for bundles of variables: see check_tensorflow::check_bundle.
#![no_main]

mlctl_fuzz::fuzz_target_of!(
    mlctl_fuzz::check_tensorflow::check_bundle,
    mlctl_fuzz::mutate_tensorflow::mutate_bundle
);
