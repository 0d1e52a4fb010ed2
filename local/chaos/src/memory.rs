//! Measures how much memory the function processes use.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::task::JoinHandle;

/// Time between two checks. A shorter-lived process may be missed, but a process that uses much memory lives longer.
const INTERVAL: Duration = Duration::from_millis(250);

/// Peak memory by function, in kB.
pub type Peaks = BTreeMap<String, u64>;

/// Watches the child processes of this process until dropped.
#[derive(Debug)]
pub struct Watch {
    peaks: Arc<Mutex<Peaks>>,
    task: JoinHandle<()>,
}

impl Watch {
    /// Watches every child whose program is in `binaries`.
    ///
    /// # Errors
    /// If the folder does not exist.
    pub fn start(binaries: &Path) -> std::io::Result<Self> {
        let binaries = binaries.canonicalize()?;
        let peaks: Arc<Mutex<Peaks>> = Arc::default();
        let into = Arc::clone(&peaks);
        let task = tokio::spawn(async move {
            loop {
                look(&binaries, &mut into.lock().unwrap_or_else(PoisonError::into_inner));
                tokio::time::sleep(INTERVAL).await;
            }
        });
        Ok(Watch { peaks, task })
    }

    /// The peaks so far.
    pub fn peaks(&self) -> Peaks {
        self.peaks.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn look(binaries: &PathBuf, peaks: &mut Peaks) {
    let Ok(processes) = fs::read_dir("/proc") else { return };
    let own = std::process::id().to_string();
    // A process may end between any two of these calls.
    for process in processes.flatten().map(|entry| entry.path()) {
        let Ok(status) = fs::read_to_string(process.join("status")) else { continue };
        if field(&status, "PPid:") != Some(&own) {
            continue;
        }
        let Ok(program) = fs::read_link(process.join("exe")) else { continue };
        let Ok(name) = program.strip_prefix(binaries) else { continue };
        // The kernel's own high-water mark, so that a peak between two checks is not missed.
        if let Some(kilobytes) = field(&status, "VmHWM:").and_then(|text| text.parse::<u64>().ok()) {
            let peak = peaks.entry(name.display().to_string()).or_default();
            *peak = kilobytes.max(*peak);
        }
    }
}

/// The resident memory of a process, in kB; `None` if it has ended.
pub fn resident(pid: u32) -> Option<u64> {
    field(&fs::read_to_string(format!("/proc/{pid}/status")).ok()?, "VmRSS:")?.parse().ok()
}

/// The first word of a line of `/proc/<pid>/status`.
fn field<'a>(status: &'a str, name: &str) -> Option<&'a str> {
    status.lines().find_map(|line| line.strip_prefix(name))?.split_whitespace().next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_knows_its_own_memory() {
        assert!(resident(std::process::id()).is_some_and(|kilobytes| kilobytes > 100));
        assert_eq!(resident(u32::MAX), None);
    }
}
