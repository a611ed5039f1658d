//! libFuzzer's target for tflite files: see check::check_tflite.
#![no_main]

mlctl_fuzz::fuzz_target_of!(mlctl_fuzz::check::check_tflite, mlctl_fuzz::mutate_tflite::mutate);
