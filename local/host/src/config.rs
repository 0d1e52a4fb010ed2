//! The configuration of the host and its functions.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use http::Uri;

/// Where to listen, and what to host there.
#[derive(Clone, Debug)]
pub struct HostConfig {
    /// Both APIs. Port 0 takes a free one.
    pub listen: SocketAddr,
    pub functions: Vec<FunctionConfig>,
    /// Functions that another server runs, by name: calls to them are passed on to it.
    pub elsewhere: BTreeMap<String, FunctionElsewhere>,
}

impl HostConfig {
    /// Listens on 127.0.0.1:9000, like `cargo lambda watch`, so that one setting works for both.
    pub fn new(functions: Vec<FunctionConfig>) -> Self {
        HostConfig { listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 9000)), functions, elsewhere: BTreeMap::new() }
    }
}

/// A function that another server runs.
#[derive(Clone, Debug)]
pub struct FunctionElsewhere {
    /// Where its calls are posted.
    pub url: Uri,
    /// Whether that server takes only one call at a time. Others wait here then: a Runtime Interface Emulator does not survive
    /// two.
    pub one_at_a_time: bool,
}

/// A function that polls the Runtime API.
#[derive(Clone, Debug)]
pub struct FunctionConfig {
    /// The name in the Invoke API.
    pub name: String,
    pub program: PathBuf,
    /// Variables in addition to the host's own environment and to those that Lambda sets.
    pub env: Vec<(String, String)>,
    /// Maximum number of instances at the same time, at least 1.
    pub concurrency: usize,
    /// How many calls may wait for an instance; further calls get 429. AWS has no queue: 0 behaves like AWS.
    pub queue: usize,
    /// Instances started with the host.
    pub prewarm: usize,
    /// Maximum duration of one call; Lambda allows 1 s to 15 minutes.
    pub timeout: Duration,
    /// Memory in MB that the function sees in its environment. Not enforced.
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
    /// Variables in addition to the host's own environment and to `PORT`.
    pub env: Vec<(String, String)>,
    pub port: u16,
    pub log: LogTarget,
}

/// Where the output of a process goes, line by line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogTarget {
    /// The host's standard error.
    Stderr,
    /// Appended to this file. Its folder is created if it is missing.
    File(PathBuf),
    /// Nowhere. The last lines are still kept for the error message of a failed start.
    Discard,
}
