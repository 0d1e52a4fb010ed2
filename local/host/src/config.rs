//! What to host.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

/// Where to listen, and what to host there.
#[derive(Clone, Debug)]
pub struct HostConfig {
    /// Both APIs. Port 0 takes a free one.
    pub listen: SocketAddr,
    pub functions: Vec<FunctionConfig>,
}

impl HostConfig {
    /// On 127.0.0.1:9000, the port that `cargo lambda watch` uses too, so that either can stand behind one setting.
    pub fn new(functions: Vec<FunctionConfig>) -> Self {
        HostConfig { listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 9000)), functions }
    }
}

/// A function that polls the Runtime API.
#[derive(Clone, Debug)]
pub struct FunctionConfig {
    /// The name in the Invoke API.
    pub name: String,
    pub program: PathBuf,
    /// Variables on top of the host's own environment and of those that Lambda sets.
    pub env: Vec<(String, String)>,
    /// Most instances at one time, at least 1.
    pub concurrency: usize,
    /// Calls that may wait for an instance; one more is answered 429. AWS itself has no queue: 0 behaves alike.
    pub queue: usize,
    /// Instances started with the host.
    pub prewarm: usize,
    /// Longest time of one call; Lambda allows 1 s to 15 minutes.
    pub timeout: Duration,
    /// Memory, in MB, as the function is told. Not enforced.
    pub memory_mb: u32,
    /// Where standard output and error go.
    pub log: LogTarget,
}

impl FunctionConfig {
    /// One instance, started on demand; a queue of 1,000; 60 s; 512 MB; logs to standard error.
    pub fn new(name: impl Into<String>, program: impl Into<PathBuf>) -> Self {
        FunctionConfig {
            name: name.into(),
            program: program.into(),
            env: Vec::new(),
            concurrency: 1,
            queue: 1000,
            prewarm: 0,
            timeout: Duration::from_secs(60),
            memory_mb: 512,
            log: LogTarget::Stderr,
        }
    }
}

/// A function that serves HTTP on a port of 127.0.0.1 and answers `GET /healthz`.
#[derive(Clone, Debug)]
pub struct HttpFunction {
    pub name: String,
    pub program: PathBuf,
    /// Variables on top of the host's own environment and of `PORT`.
    pub env: Vec<(String, String)>,
    pub port: u16,
    pub log: LogTarget,
}

/// Where the output of a process goes, line by line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogTarget {
    /// The host's standard error.
    Stderr,
    /// Appended to this file; its folder is made.
    File(PathBuf),
    /// Nowhere; the last lines are still kept for the report of a failed start.
    Discard,
}
