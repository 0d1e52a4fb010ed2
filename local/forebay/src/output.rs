//! What the commands print.
//!
//! Who reads it may leave early, as `head` does. `println!` panics then, so nothing else here writes to standard output (a lint
//! says so), and the command ends as one does that a closed pipe ends.

use std::fmt;
use std::io::{self, Write as _};
use std::process::ExitCode;

/// Why the output could not be written.
#[derive(Debug, thiserror::Error)]
pub enum OutputError {
    #[error("nobody reads the output any more")]
    Closed,
    #[error("cannot write the output")]
    Failed(#[source] io::Error),
}

impl OutputError {
    /// The exit status of a program that a closed pipe has ended: that of SIGPIPE in a shell.
    pub const CLOSED_STATUS: u8 = 128 + 13;

    /// The exit status of a program that a closed pipe has ended, if that is what happened.
    pub fn exit_of(error: &anyhow::Error) -> Option<ExitCode> {
        match error.downcast_ref()? {
            OutputError::Closed => Some(ExitCode::from(OutputError::CLOSED_STATUS)),
            OutputError::Failed(_) => None,
        }
    }
}

impl From<io::Error> for OutputError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => OutputError::Closed,
            _ => OutputError::Failed(error),
        }
    }
}

/// Prints bytes as they are.
///
/// # Errors
/// If they cannot be written.
pub fn bytes(bytes: &[u8]) -> Result<(), OutputError> {
    let mut out = io::stdout().lock();
    out.write_all(bytes)?;
    Ok(out.flush()?)
}

/// Prints text.
///
/// # Errors
/// If it cannot be written.
pub fn text(text: impl fmt::Display) -> Result<(), OutputError> {
    bytes(text.to_string().as_bytes())
}

/// Prints text and ends the line.
///
/// # Errors
/// If it cannot be written.
pub fn line(line: impl fmt::Display) -> Result<(), OutputError> {
    text(format_args!("{line}\n"))
}

/// Prints a line to standard error. If nobody reads that, nobody can be told.
pub fn complain(line: impl fmt::Display) {
    let _ = writeln!(io::stderr(), "{line}");
}
