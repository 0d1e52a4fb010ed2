//! CPU time and memory of processes, from the kernel's own accounting.

use std::collections::BTreeMap;

use nix::unistd::{SysconfVar, sysconf};

/// User and system CPU time of a process so far, in seconds; `None` if it has ended or this is not Linux.
///
/// Fields 14 and 15 of `/proc/<pid>/stat`, in clock ticks (proc(5)).
pub fn cpu_seconds(pid: u32) -> Option<f64> {
    Some(Stat::of(pid)?.own)
}

/// User and system CPU time so far of all processes that this one started, directly or through others, by name, in seconds.
/// Counts what their own ended children used.
pub fn cpu_of_descendants() -> BTreeMap<String, f64> {
    let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let stats: BTreeMap<u32, Stat> = pids.filter_map(|pid| Some((pid, Stat::of(pid)?))).collect();
    let ours = std::process::id();
    let is_ours = |pid: u32| {
        // Bounded, in case a process ends and its number is used again while we look.
        let ancestors = std::iter::successors(Some(pid), |pid| Some(stats.get(pid)?.parent));
        ancestors.skip(1).take(16).any(|ancestor| ancestor == ours)
    };
    let mut by_name = BTreeMap::new();
    for (pid, stat) in &stats {
        if is_ours(*pid) {
            *by_name.entry(stat.name.clone()).or_default() += stat.own + stat.ended_children;
        }
    }
    by_name
}

/// The most physical memory that a process has had, in bytes (`VmHWM` of proc(5)).
pub fn peak_memory(pid: u32) -> Option<u64> {
    memory(pid, "VmHWM:")
}

/// The physical memory that a process has now, in bytes (`VmRSS` of proc(5)).
pub fn resident_memory(pid: u32) -> Option<u64> {
    memory(pid, "VmRSS:")
}

fn memory(pid: u32, line: &str) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|found| found.strip_prefix(line))?;
    let kilobytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kilobytes * 1024)
}

/// Fields of `/proc/<pid>/stat`; times in seconds.
struct Stat {
    name: String,
    parent: u32,
    own: f64,
    ended_children: f64,
}

impl Stat {
    fn of(pid: u32) -> Option<Self> {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The command's name, in parentheses, may contain spaces. The fields after it start with field 3.
        let (before, after) = stat.rsplit_once(')')?;
        let fields: Vec<&str> = after.split_whitespace().collect();
        let ticks = |field: usize| fields.get(field).and_then(|ticks| ticks.parse::<u32>().ok()).map(f64::from);
        let per_second = f64::from(u32::try_from(sysconf(SysconfVar::CLK_TCK).ok()??).ok()?);
        Some(Stat {
            name: before.split_once('(')?.1.to_owned(),
            parent: fields.get(1)?.parse().ok()?,
            own: (ticks(11)? + ticks(12)?) / per_second,
            ended_children: (ticks(13)? + ticks(14)?) / per_second,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_os = "linux")]
    fn reads_a_live_process_and_not_a_dead_one() {
        assert!(cpu_seconds(std::process::id()).is_some());
        assert_eq!(cpu_seconds(u32::MAX), None);
        assert!(peak_memory(std::process::id()).is_some_and(|bytes| bytes > 100_000));
        assert_eq!(peak_memory(u32::MAX), None);
        assert!(resident_memory(std::process::id()).is_some_and(|bytes| bytes > 100_000));
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn counts_a_child_by_its_name() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        // Until it has become `sleep`, it has our name.
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(5);
        while !cpu_of_descendants().contains_key("sleep") && std::time::Instant::now() < deadline {
            std::thread::yield_now();
        }
        let found = cpu_of_descendants();
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(found.contains_key("sleep"), "{found:?}");
    }
}
