//! libFuzzer's target for onnx files: see check::check_onnx.
#![no_main]

mlctl_fuzz::fuzz_target_of!(mlctl_fuzz::check::check_onnx, mlctl_fuzz::mutate_onnx::mutate);
