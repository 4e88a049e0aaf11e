//! What the machine says: its name, its file system's size, its descriptor limit.

use std::path::Path;

/// The machine's name, or `localhost`.
pub(crate) fn hostname() -> String {
    ["/proc/sys/kernel/hostname", "/etc/hostname"]
        .iter()
        .filter_map(|file| std::fs::read_to_string(file).ok())
        .map(|name| name.trim().to_owned())
        .find(|name| !name.is_empty())
        .unwrap_or_else(|| "localhost".to_owned())
}

/// 80 % of the file system that holds `path`, or would.
pub(crate) fn default_storage(path: &Path) -> u64 {
    path.ancestors().find_map(|dir| fs4::total_space(dir).ok()).map_or(0, |total| total / 5 * 4)
}

/// The limit on open descriptors (soft), as `/proc` has it.
pub(crate) fn descriptor_limit() -> usize {
    std::fs::read_to_string("/proc/self/limits")
        .ok()
        .and_then(|limits| {
            let line = limits.lines().find(|l| l.starts_with("Max open files"))?.to_owned();
            line.split_whitespace().nth(3)?.parse().ok()
        })
        .unwrap_or(1024)
}

/// The descriptors that the process may come to have: the hard limit, up to which the worker raises its own.
pub(crate) fn descriptors() -> usize {
    std::fs::read_to_string("/proc/self/limits")
        .ok()
        .and_then(|limits| {
            let line = limits.lines().find(|l| l.starts_with("Max open files"))?.to_owned();
            line.split_whitespace().nth(4)?.parse().ok()
        })
        .unwrap_or(1024)
}

/// The memory that this process may take, in bytes: the control group's, if it has a limit, else the machine's; 0 if unknown.
pub(crate) fn memory() -> u64 {
    let read = |file: &str| std::fs::read_to_string(file).ok();
    let group = read("/sys/fs/cgroup/memory.max")
        .or_else(|| read("/sys/fs/cgroup/memory/memory.limit_in_bytes"))
        .and_then(|text| text.trim().parse::<u64>().ok());
    let machine = read("/proc/meminfo").and_then(|text| {
        let line = text.lines().find(|line| line.starts_with("MemTotal:"))?.to_owned();
        Some(line.split_whitespace().nth(1)?.parse::<u64>().ok()? << 10)
    });
    match (group, machine) {
        (Some(group), Some(machine)) => group.min(machine),
        (one, other) => one.or(other).unwrap_or(0),
    }
}
