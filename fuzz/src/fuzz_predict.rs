//! libFuzzer's target for TensorFlow Serving's requests in JSON: see check_serve::check_predict.
#![no_main]

mlctl_fuzz::fuzz_target_of!(
    mlctl_fuzz::check_serve::check_predict,
    mlctl_fuzz::mutate_text::mutate
);
