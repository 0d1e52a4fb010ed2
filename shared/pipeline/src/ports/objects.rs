//! An object store with write-once keys.

use async_trait::async_trait;
use bytes::Bytes;

use crate::DependencyError;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PutResult {
    Created,
    /// An object with that key already exists and was not changed.
    AlreadyThere,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectInfo {
    pub key: String,
    /// Size in bytes as stored, i.e. compressed.
    pub size: u64,
}

#[async_trait]
pub trait ObjectStore: Send + Sync {
    /// Writes an object unless its key exists. Of concurrent writers of one key exactly one gets `Created`. If an
    /// answer was lost, a repeated call returns `AlreadyThere` for the caller's own object.
    async fn put_new(&self, key: &str, body: Bytes) -> Result<PutResult, DependencyError>;
    /// Every object whose key starts with `prefix`, in the byte order of the keys.
    async fn list(&self, prefix: &str) -> Result<Vec<ObjectInfo>, DependencyError>;
    /// The body of an object; a missing key is a permanent error.
    async fn get(&self, key: &str) -> Result<Bytes, DependencyError>;
}
