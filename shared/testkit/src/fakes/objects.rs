//! Objects in memory.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use pipeline::ports::{ObjectInfo, ObjectStore, PutResult};
use pipeline::{Dependency, DependencyError, ErrorClass};

use crate::fakes::Faults;

/// An [`ObjectStore`] in memory.
#[derive(Debug, Default)]
pub struct FakeObjects {
    /// The faults of puts, lists and gets, in the order of the calls.
    pub faults: Faults,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    objects: BTreeMap<String, Bytes>,
    refused: BTreeSet<String>,
    puts: usize,
    gets: usize,
}

impl FakeObjects {
    /// From now on every put of a key that contains `part` fails without effect; [`FakeObjects::accept_all`] ends it.
    pub fn refuse(&self, part: &str) {
        self.inner().refused.insert(part.to_owned());
    }

    pub fn accept_all(&self) {
        self.inner().refused.clear();
    }

    /// Every key, in byte order.
    pub fn keys(&self) -> Vec<String> {
        self.inner().objects.keys().cloned().collect()
    }

    /// The body of an object.
    pub fn object(&self, key: &str) -> Option<Bytes> {
        self.inner().objects.get(key).cloned()
    }

    /// Writes an object, and replaces an existing one.
    pub fn overwrite(&self, key: &str, body: impl Into<Bytes>) {
        self.inner().objects.insert(key.to_owned(), body.into());
    }

    /// Deletes an object, as a lifecycle rule does.
    pub fn expire(&self, key: &str) {
        self.inner().objects.remove(key);
    }

    /// Calls of `put_new` so far.
    pub fn puts(&self) -> usize {
        self.inner().puts
    }

    /// Calls of `get` so far.
    pub fn gets(&self) -> usize {
        self.inner().gets
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn failure(class: ErrorClass, tag: &'static str, doing: &'static str, source: &'static str) -> DependencyError {
    DependencyError { dependency: Dependency::S3, class, tag, doing, source: source.into() }
}

#[async_trait]
impl ObjectStore for FakeObjects {
    async fn put_new(&self, key: &str, body: Bytes) -> Result<PutResult, DependencyError> {
        // Other tasks get a turn, as they do during a real call.
        tokio::task::yield_now().await;
        self.inner().puts += 1;
        if self.inner().refused.iter().any(|part| key.contains(part)) {
            return Err(failure(ErrorClass::Transient, "refused", "writing an object", "refused by a test"));
        }
        self.faults.apply(Dependency::S3, || {
            let mut inner = self.inner();
            if inner.objects.contains_key(key) {
                return PutResult::AlreadyThere;
            }
            inner.objects.insert(key.to_owned(), body);
            PutResult::Created
        })
    }

    async fn list(&self, prefix: &str) -> Result<Vec<ObjectInfo>, DependencyError> {
        tokio::task::yield_now().await;
        self.faults.apply(Dependency::S3, || {
            let info = |(key, body): (&String, &Bytes)| ObjectInfo { key: key.clone(), size: body.len() as u64 };
            let inner = self.inner();
            inner.objects.iter().filter(|(key, _)| key.starts_with(prefix)).map(info).collect()
        })
    }

    async fn get(&self, key: &str) -> Result<Bytes, DependencyError> {
        tokio::task::yield_now().await;
        self.inner().gets += 1;
        let body = self.faults.apply(Dependency::S3, || self.inner().objects.get(key).cloned())?;
        body.ok_or_else(|| failure(ErrorClass::Permanent, "absent", "reading an object", "no such key"))
    }
}
