//! What a process has used, by `/proc`.

use std::time::Duration;

/// `USER_HZ` of every Linux that Rust's standard library runs on.
const TICK: Duration = Duration::from_millis(10);

/// User and system time of all threads so far, to 10 ms.
pub(crate) fn cpu(pid: u32) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    // The name in brackets may hold anything; after it come state (3), …, utime (14), stime (15).
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    let ticks: u32 = [11, 12].map(|at: usize| fields[at].parse::<u32>().unwrap()).into_iter().sum();
    TICK * ticks
}

/// Resident memory in KiB.
pub(crate) fn resident(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.split_whitespace().next().unwrap().parse().unwrap()
}
