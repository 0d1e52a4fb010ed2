//! The archive: every Kafka record as a line of a compressed object in S3, and back.
//!
//! Owns the names of objects ([`key`]), the format of a line ([`mod@line`]), packing records into objects ([`writer`]),
//! reading them back with each record counted once ([`reader`]), objects of one record ([`single`], [`quarantine`]), and the S3 adapter of
//! [`pipeline::ports::ObjectStore`] ([`s3`]). Does not own: which records to archive and what to answer to the
//! trigger (`functions/archiver`), expiry (a lifecycle rule of the bucket), and replay (`functions/replayer`).
//!
//! README.md beside this crate describes the format for people who read the bucket with other tools.

mod error;
pub mod key;
pub mod line;
mod offsets;
pub mod quarantine;
pub mod reader;
pub mod s3;
pub mod single;
pub mod writer;

pub use error::ArchiveError;
pub use key::{Hour, ObjectKey, Series, Status};
pub use offsets::OffsetRanges;
pub use reader::{ArchiveReader, Coverage, Filter, PartitionCoverage, Records};
pub use s3::S3Objects;
