//! How a fuzz target runs: a folder of its own, panics of mlctl that end the process, and counts of what inputs came to.

use crate::check::Reached;
use mlctl::tract::guard;
use std::backtrace::Backtrace;
use std::collections::BTreeMap;
use std::panic;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock};

/// A panic in mlctl's own code ends the process, also where the guard around calls into tract would turn it into an
/// error; panics in tract are the guard's.
pub fn catch_own_panics() {
    let _ = guard::catch_panic("setting its hook", || Ok(()));
    let below = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        let file = info.location().map_or("", |l| l.file());
        if file.starts_with("src/")
            || file.starts_with("/rustc/") && is_ours(&Backtrace::force_capture().to_string())
        {
            eprintln!("a panic in mlctl: {info}\n{}", Backtrace::force_capture());
            std::process::abort();
        }
        below(info);
    }));
}

/// Whether the first frame outside the standard library is mlctl's.
fn is_ours(backtrace: &str) -> bool {
    let functions =
        backtrace.lines().filter_map(|line| line.trim().split_once(": ").map(|(_, name)| name));
    let mut outside = functions.skip_while(|name| {
        !name.contains("rust_begin_unwind") && !name.contains("begin_panic_handler")
    });
    outside.find(|name| name.contains("mlctl") || name.contains("tract")).is_some_and(|name| {
        let (ours, theirs) = (name.find("mlctl"), name.find("tract_"));
        ours.is_some_and(|o| theirs.is_none_or(|t| o < t)) && !name.contains("mlctl_fuzz")
    })
}

/// A folder for the files of one process, below the folder for temporary files.
pub fn folder() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        let folder = std::env::temp_dir().join(format!("mlctl-fuzz-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a folder for temporary files");
        folder
    })
}

unsafe extern "C" {
    fn _exit(status: i32) -> !;
}

/// Counts what inputs came to, in the file that FUZZ_COUNTS names.
pub fn count(reached: Reached) {
    static COUNTS: Mutex<(u64, BTreeMap<Reached, u64>)> = Mutex::new((0, BTreeMap::new()));
    let Ok(mut counts) = COUNTS.lock() else { return };
    counts.0 += 1;
    *counts.1.entry(reached).or_default() += 1;
    let spent = guard::abandoned() > 0;
    if (counts.0 % 200 == 0 || spent)
        && let Some(file) = std::env::var_os("FUZZ_COUNTS")
    {
        let mut text: Vec<String> =
            counts.1.iter().map(|(reached, n)| format!("{n} {reached:?}")).collect();
        if spent {
            text.push("the last one given up by the guard".into());
        }
        let line = format!("{} inputs: {}\n", counts.0, text.join(", "));
        // one line a process: it ends with the text that it wrote last
        let _ =
            std::fs::write(Path::new(&file).with_extension(std::process::id().to_string()), line);
    }
    if spent {
        // A thread that was abandoned, as the guard is meant to, still takes time and memory: libFuzzer starts a new process.
        // SAFETY: ends the process without the exit handlers, by which libFuzzer would take this for a finding.
        unsafe { _exit(0) };
    }
}

/// Declares libFuzzer's target: what must hold of an input, and how inputs are changed and joined.
#[macro_export]
macro_rules! fuzz_target_of {
    ($check:path, $mutate:path) => {
        libfuzzer_sys::fuzz_target!(init: $crate::target::catch_own_panics(), |bytes: &[u8]| {
            $crate::target::count($check($crate::target::folder(), bytes));
        });

        libfuzzer_sys::fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
            let mut draw = $crate::draw::Draw::new(seed.into());
            let changed =
                if draw.one_in(12) { None } else { $mutate(&data[..size], None, &mut draw) };
            match changed.filter(|c| c.len() <= max_size) {
                Some(changed) => {
                    data[..changed.len()].copy_from_slice(&changed);
                    changed.len()
                }
                None => libfuzzer_sys::fuzzer_mutate(data, size, max_size),
            }
        });

        libfuzzer_sys::fuzz_crossover!(|one: &[u8], other: &[u8], out: &mut [u8], seed: u32| {
            let mut draw = $crate::draw::Draw::new(seed.into());
            match $mutate(one, Some(other), &mut draw).filter(|c| c.len() <= out.len()) {
                Some(changed) => {
                    out[..changed.len()].copy_from_slice(&changed);
                    changed.len()
                }
                None => 0,
            }
        });
    };
}
