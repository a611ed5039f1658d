//! libFuzzer's target for the server's config files: see check_serve::check_config.
#![no_main]

mlctl_fuzz::fuzz_target_of!(mlctl_fuzz::check_serve::check_config, mlctl_fuzz::mutate_text::mutate);
