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
