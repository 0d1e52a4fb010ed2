//! Why the archive could not be written or read.

use pipeline::{DependencyError, ErrorClass, Position};

#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    #[error(transparent)]
    Store(#[from] DependencyError),
    #[error("cannot set up zstd compression")]
    Compressor(#[source] std::io::Error),
    #[error("cannot compress archive object {key}")]
    Compress {
        key: String,
        #[source]
        source: std::io::Error,
    },
    #[error("cannot write record {position} as a line of JSON")]
    Encode {
        position: Position,
        #[source]
        source: serde_json::Error,
    },
    #[error("cannot decompress archive object {key} after line {line}")]
    Decompress {
        key: String,
        /// Number of lines read before the error.
        line: u64,
        #[source]
        source: std::io::Error,
    },
    #[error("line {line} of archive object {key} is not a record")]
    Line {
        key: String,
        /// Counted from 1.
        line: u64,
        #[source]
        source: crate::line::LineError,
    },
    #[error("the content of archive object {key} does not match its name: {problem}")]
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

    /// Short name of the cause, from a fixed list, for metrics.
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
