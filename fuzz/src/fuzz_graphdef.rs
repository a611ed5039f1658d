//! libFuzzer's target for SavedModels' graphs: see check_tensorflow::check_saved_model.
#![no_main]

mlctl_fuzz::fuzz_target_of!(
    mlctl_fuzz::check_tensorflow::check_saved_model,
    mlctl_fuzz::mutate_tensorflow::mutate_saved_model
);
