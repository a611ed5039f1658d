//! libFuzzer's target for SavedModels' graphs: see check_tensorflow::check_saved_model.
#![no_main]

use libfuzzer_sys::{fuzz_crossover, fuzz_mutator, fuzz_target, fuzzer_mutate};
use mlctl_fuzz::check_tensorflow::check_saved_model;
use mlctl_fuzz::draw::Draw;
use mlctl_fuzz::mutate_tensorflow::mutate_saved_model;
use mlctl_fuzz::target;

fuzz_target!(init: target::catch_own_panics(), |bytes: &[u8]| {
    target::count(check_saved_model(target::folder(), bytes));
});

fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    let mut draw = Draw::new(seed.into());
    let changed =
        if draw.one_in(12) { None } else { mutate_saved_model(&data[..size], None, &mut draw) };
    match changed.filter(|c| c.len() <= max_size) {
        Some(changed) => {
            data[..changed.len()].copy_from_slice(&changed);
            changed.len()
        }
        None => fuzzer_mutate(data, size, max_size),
    }
});

fuzz_crossover!(|one: &[u8], other: &[u8], out: &mut [u8], seed: u32| {
    match mutate_saved_model(one, Some(other), &mut Draw::new(seed.into()))
        .filter(|c| c.len() <= out.len())
    {
        Some(changed) => {
            out[..changed.len()].copy_from_slice(&changed);
            changed.len()
        }
        None => 0,
    }
});
