//! Counts the allocations of a function's processes: jemalloc prints its counters when a process ends, and the host
//! writes them to the function's log.

use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use stack::options::Options;

/// The setting of every function with which jemalloc prints, as JSON, no more than the counters of all arenas together.
const SETTING: (&str, &str) = ("_RJEM_MALLOC_CONF", "stats_print:true,stats_print_opts:Jgdablxeh");
/// The counter of allocations asked for; there is one of small and one of large ones.
const REQUESTS: &str = "\"nrequests\":";

/// Options with which every function prints its counters.
pub fn counted(options: Options) -> Options {
    options.with_default(SETTING.0, SETTING.1)
}

/// What is in a log from now on.
#[derive(Debug)]
pub struct AllocationLog {
    path: PathBuf,
    start: u64,
}

impl AllocationLog {
    /// The log of a function, `<name>.log` or `<name>-http.log`, in the folder of logs.
    pub fn from_now_on(logs: &Path, file: &str) -> Self {
        let path = logs.join(file);
        let start = std::fs::metadata(&path).map_or(0, |metadata| metadata.len());
        AllocationLog { path, start }
    }

    /// Allocations of the processes that ended since.
    ///
    /// # Errors
    /// If the log cannot be read or holds no counters: then the function was killed, or is built without them.
    pub fn allocations(&self) -> anyhow::Result<u64> {
        let read = || {
            let mut file = std::fs::File::open(&self.path)?;
            file.seek(SeekFrom::Start(self.start))?;
            let mut text = String::new();
            file.read_to_string(&mut text)?;
            Ok::<_, std::io::Error>(text)
        };
        let text = read().with_context(|| format!("cannot read {}", self.path.display()))?;
        sum(&text).with_context(|| format!("{} holds no counters of jemalloc", self.path.display()))
    }
}

/// Wherever the counters are, because processes end their output without a line break.
fn sum(log: &str) -> Option<u64> {
    let count = |text: &str| {
        let end = text.find(|char: char| !char.is_ascii_digit()).unwrap_or(text.len());
        text[..end].parse::<u64>().ok()
    };
    log.split(REQUESTS).skip(1).filter_map(count).reduce(|sum, count| sum + count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_summed_whatever_is_between_them() {
        let log = r#"{"level":"INFO"}
            {"small":{"nrequests":40,"nfills":1},"large":{"nrequests":2}}{"level":"INFO"}"#;
        assert_eq!(sum(log), Some(42));
        assert_eq!(sum("{\"level\":\"INFO\"}\n"), None);
    }

    #[test]
    fn only_what_comes_after_the_start_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let log = AllocationLog::from_now_on(folder.path(), "ingest-http.log");
        assert!(log.allocations().is_err(), "no log yet");
        std::fs::write(folder.path().join("ingest-http.log"), "\"nrequests\":1}").unwrap();
        assert_eq!(log.allocations().unwrap(), 1);
        let later = AllocationLog::from_now_on(folder.path(), "ingest-http.log");
        assert!(later.allocations().is_err());
    }
}
