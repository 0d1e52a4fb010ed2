//! Why the archive could not be written or read.

use pipeline::{DependencyError, ErrorClass, Position};

#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    #[error(transparent)]
    Store(#[from] DependencyError),
    #[error("cannot set up compression")]
    Compressor(#[source] std::io::Error),
    #[error("cannot compress {key}")]
    Compress {
        key: String,
        #[source]
        source: std::io::Error,
    },
    #[error("cannot write {position} as a line")]
    Encode {
        position: Position,
        #[source]
        source: serde_json::Error,
    },
    #[error("cannot decompress {key} after line {line}")]
    Decompress {
        key: String,
        /// Lines read so far.
        line: u64,
        #[source]
        source: std::io::Error,
    },
    #[error("{key} line {line} is not a record")]
    Line {
        key: String,
        /// From 1.
        line: u64,
        #[source]
        source: crate::line::LineError,
    },
    #[error("{key} does not hold what its name says: {problem}")]
    Contents { key: String, problem: &'static str },
}

impl ArchiveError {
    pub fn class(&self) -> ErrorClass {
        match self {
            ArchiveError::Store(error) => error.class,
            ArchiveError::Compressor(_)
            | ArchiveError::Compress { .. }
            | ArchiveError::Encode { .. }
            | ArchiveError::Decompress { .. }
            | ArchiveError::Line { .. }
            | ArchiveError::Contents { .. } => ErrorClass::Permanent,
        }
    }

    /// Bounded name of the cause, for metrics.
    pub fn tag(&self) -> &'static str {
        match self {
            ArchiveError::Store(error) => error.tag,
            ArchiveError::Compressor(_) | ArchiveError::Compress { .. } => "compress",
            ArchiveError::Encode { .. } => "encode",
            ArchiveError::Decompress { .. } => "decompress",
            ArchiveError::Line { .. } => "line",
            ArchiveError::Contents { .. } => "contents",
        }
    }
}
