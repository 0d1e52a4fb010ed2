//! Why hosting failed. Failures of a function are not errors of the host: the caller gets them as an answer.

use std::net::SocketAddr;
use std::path::PathBuf;

#[derive(Debug, thiserror::Error)]
pub enum HostError {
    #[error("cannot listen on {address}")]
    Listen {
        address: SocketAddr,
        #[source]
        source: std::io::Error,
    },
    #[error("two functions are named {name}")]
    DuplicateName { name: String },
    #[error("{name}: the program {} does not exist", program.display())]
    MissingProgram { name: String, program: PathBuf },
    #[error("{name}: cannot write the log {}", path.display())]
    Log {
        name: String,
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("{name}: cannot start {}", program.display())]
    Spawn {
        name: String,
        program: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("{name}: port {port} is taken")]
    PortTaken {
        name: String,
        port: u16,
        #[source]
        source: std::io::Error,
    },
    #[error("{name} did not become healthy: {reason}{}", tail_text(tail))]
    Unhealthy { name: String, reason: String, tail: Vec<String> },
}

/// The last log lines as text to append to a message; empty if there are none.
pub(crate) fn tail_text(tail: &[String]) -> String {
    if tail.is_empty() { String::new() } else { format!("; its last output was:\n{}", tail.join("\n")) }
}
