//! The machine as far as it limits what can be run: memory that is free, processor, caches.

use std::fs;
use std::path::Path;

/// Memory that this process can still take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AvailableMemory {
    /// Bytes.
    pub bytes: u64,
    /// What sets the limit: `this machine` or `the control group`.
    pub limited_by: &'static str,
}

/// Memory that this process can still take: what the kernel calls available, or what the tightest of its control
/// groups leaves, whichever is less. `None` where the system does not tell.
pub fn available_memory() -> Option<AvailableMemory> {
    let machine = meminfo("MemAvailable").map(|bytes| AvailableMemory { bytes, limited_by: "this machine" });
    let group = group_memory(Path::new("/proc/self/cgroup"), Path::new("/sys/fs/cgroup"))
        .map(|bytes| AvailableMemory { bytes, limited_by: "the control group" });
    machine.into_iter().chain(group).min_by_key(|memory| memory.bytes)
}

/// All memory of the machine in bytes.
pub fn total_memory() -> Option<u64> {
    meminfo("MemTotal")
}

/// The most memory that this process has had resident so far, in bytes.
pub fn peak_resident() -> Option<u64> {
    kilobytes(&fs::read_to_string("/proc/self/status").ok()?, "VmHWM")
}

/// Makes [`peak_resident`] begin again from what is resident now; whether the system could do that.
pub fn reset_peak_resident() -> bool {
    fs::write("/proc/self/clear_refs", "5").is_ok()
}

/// The memory that this process has resident now, in bytes.
pub fn resident() -> Option<u64> {
    kilobytes(&fs::read_to_string("/proc/self/status").ok()?, "VmRSS")
}

/// The processor's name.
pub fn processor() -> Option<String> {
    let info = fs::read_to_string("/proc/cpuinfo").ok()?;
    let name = |line: &str| {
        let (key, value) = line.split_once(':')?;
        (key.trim() == "model name").then(|| value.trim().to_owned())
    };
    info.lines().find_map(name)
}

/// One level of the first processor's caches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CacheLevel {
    /// `L1d`, `L2`, `L3`.
    pub name: String,
    /// Bytes.
    pub bytes: u64,
    /// How many logical processors share one.
    pub shared_by: usize,
}

/// The data caches of the first processor, nearest first; empty where the system does not tell.
pub fn caches() -> Vec<CacheLevel> {
    let folder = Path::new("/sys/devices/system/cpu/cpu0/cache");
    let read = |index: usize, file: &str| {
        fs::read_to_string(folder.join(format!("index{index}/{file}"))).ok().map(|s| s.trim().to_owned())
    };
    let level = |index: usize| {
        let kind = read(index, "type")?;
        let suffix = match kind.as_str() {
            "Data" => "d",
            "Unified" => "",
            _ => return None,
        };
        Some(CacheLevel {
            name: format!("L{}{suffix}", read(index, "level")?),
            bytes: size_with_suffix(&read(index, "size")?)?,
            shared_by: list_length(&read(index, "shared_cpu_list").unwrap_or_default()),
        })
    };
    (0..8).filter_map(level).collect()
}

/// `48K` in bytes.
fn size_with_suffix(text: &str) -> Option<u64> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let factor = match &text[digits.len()..] {
        "" => 1,
        "K" => 1 << 10,
        "M" => 1 << 20,
        "G" => 1 << 30,
        _ => return None,
    };
    digits.parse::<u64>().ok()?.checked_mul(factor)
}

/// How many numbers a list such as `0-3,8` names.
fn list_length(list: &str) -> usize {
    let part = |part: &str| match part.split_once('-') {
        Some((from, to)) => to.parse::<usize>().ok()?.checked_sub(from.parse().ok()?)?.checked_add(1),
        None => part.parse::<usize>().ok().map(|_| 1),
    };
    list.split(',').filter_map(|p| part(p.trim())).sum()
}

fn meminfo(key: &str) -> Option<u64> {
    kilobytes(&fs::read_to_string("/proc/meminfo").ok()?, key)
}

/// The value of a line `key:   123 kB` in bytes.
fn kilobytes(text: &str, key: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

/// What the control groups above this process leave: the least over a group and all its parents.
fn group_memory(membership: &Path, root: &Path) -> Option<u64> {
    let membership = fs::read_to_string(membership).ok()?;
    let groups = membership.lines().filter_map(|line| {
        let mut fields = line.splitn(3, ':');
        let (_, controllers, path) = (fields.next()?, fields.next()?, fields.next()?);
        match controllers {
            "" => Some((root.to_path_buf(), path, ["memory.max", "memory.current"])),
            list if list.split(',').any(|c| c == "memory") => {
                Some((root.join("memory"), path, ["memory.limit_in_bytes", "memory.usage_in_bytes"]))
            }
            _ => None,
        }
    });
    let left = groups.flat_map(|(root, path, files)| {
        let group = root.join(path.trim_start_matches('/'));
        let chain: Vec<_> =
            group.ancestors().take_while(|folder| folder.starts_with(&root)).map(Path::to_path_buf).collect();
        chain.into_iter().filter_map(move |folder| group_left(&folder, files))
    });
    left.min()
}

/// Bytes below a group's limit; file pages that the kernel can drop count as free.
fn group_left(folder: &Path, [limit, usage]: [&str; 2]) -> Option<u64> {
    let read = |file: &str| fs::read_to_string(folder.join(file)).ok();
    let number = |file: &str| read(file)?.trim().parse::<u64>().ok();
    let limit = number(limit).filter(|&bytes| bytes < 1 << 60)?; // v1 says "no limit" with an enormous number
    let droppable = read("memory.stat").and_then(|stat| {
        stat.lines().find_map(|line| line.strip_prefix("inactive_file ")?.trim().parse::<u64>().ok())
    });
    Some(limit.saturating_sub(number(usage)?.saturating_sub(droppable.unwrap_or(0))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_lists() {
        assert_eq!(size_with_suffix("48K"), Some(48 << 10));
        assert_eq!(size_with_suffix("2M"), Some(2 << 20));
        assert_eq!(size_with_suffix("x"), None);
        for (list, n) in [("0", 1), ("0-3,8", 5), ("", 0)] {
            assert_eq!(list_length(list), n);
        }
        assert_eq!(kilobytes("MemFree: 1 kB\nMemAvailable:  2048 kB\n", "MemAvailable"), Some(2 << 20));
    }

    #[test]
    fn the_tightest_group_counts() {
        let root = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        write("groups", "0::/outer/inner\n");
        write("cg/outer/inner/memory.max", "max\n");
        write("cg/outer/inner/memory.current", "100\n");
        write("cg/outer/memory.max", "1000\n");
        write("cg/outer/memory.current", "700\n");
        write("cg/outer/memory.stat", "anon 1\ninactive_file 300\n");
        let left = group_memory(&root.path().join("groups"), &root.path().join("cg"));
        assert_eq!(left, Some(600));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn this_machine_has_memory_and_this_process_uses_less() {
        let available = available_memory().unwrap().bytes;
        assert!(available > 0 && available <= total_memory().unwrap());
        let large = std::hint::black_box(vec![1u8; 64 << 20]);
        let before = peak_resident().unwrap();
        assert!(before > large.len() as u64);
        drop(large);
        assert!(!reset_peak_resident() || peak_resident().unwrap() < before);
    }
}
