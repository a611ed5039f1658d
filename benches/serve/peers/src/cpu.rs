//! CPU time of a process and its children, user and system.

use std::collections::BTreeMap;
use std::fs;

/// Seconds that the process and all that it started have run, to 10 ms; `None` where it is gone.
pub fn seconds(pid: u32) -> Option<f64> {
    const TICKS: f64 = 100.0;
    let all: BTreeMap<u32, (u32, u64)> = fs::read_dir("/proc")
        .ok()?
        .filter_map(|entry| {
            let pid = entry.ok()?.file_name().to_str()?.parse().ok()?;
            let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
            // after the name, which may hold anything: state, ppid, …, utime (12th), stime
            let rest: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
            let number = |at: usize| rest.get(at)?.parse::<u64>().ok();
            Some((pid, (number(1)? as u32, number(11)? + number(12)?)))
        })
        .collect();
    all.get(&pid)?;
    let belongs = |mut other: u32| {
        while other != pid {
            match all.get(&other) {
                Some((parent, _)) => other = *parent,
                None => return false,
            }
        }
        true
    };
    let own = all.iter().filter(|(other, _)| belongs(**other));
    Some(own.map(|(_, (_, ticks))| *ticks as f64).sum::<f64>() / TICKS)
}
