//! libFuzzer's target for KServe's requests, JSON and binary tensors: see check_serve::check_infer.
#![no_main]

mlctl_fuzz::fuzz_target_of!(mlctl_fuzz::check_serve::check_infer, mlctl_fuzz::mutate_text::mutate);
