//! Records that are in an object of their own, because they are too large for what they have to pass through: a topic, or
//! the event of a trigger.

use std::io;

use bytes::Bytes;
use pipeline::guard::Guard;
use pipeline::ports::ObjectStore;
use pipeline::{Delivery, DependencyError, ErrorClass, Record, object_name};
use tokio::time::Instant;

use crate::single;

/// Why a record cannot be kept in an object, or read from it.
#[derive(Debug, thiserror::Error)]
pub enum QuarantineError {
    #[error("a record cannot be packed for the archive")]
    Pack(#[source] io::Error),
    #[error(transparent)]
    Dependency(#[from] DependencyError),
    #[error("the object {key} cannot be used: {problem}")]
    Object { key: String, problem: &'static str },
}

impl QuarantineError {
    /// The tag of a function's failure that this error caused.
    pub fn tag(&self) -> &'static str {
        match self {
            QuarantineError::Pack(_) => "pack",
            QuarantineError::Dependency(error) => error.failed_tag(),
            QuarantineError::Object { .. } => "quarantined-object",
        }
    }
}

/// Writes a record as an object and returns the object's key. Writing it again changes nothing.
///
/// # Errors
/// If S3 cannot be reached or refuses the object.
pub async fn keep(
    objects: &dyn ObjectStore,
    s3: &Guard,
    record: &Record,
    deadline: Instant,
) -> Result<String, QuarantineError> {
    let key = object_name::quarantined(&record.position, record.digest());
    let body: Bytes = single::pack(record).map_err(QuarantineError::Pack)?;
    s3.call(deadline, "keeping a record in an object", || objects.put_new(&key, body.clone())).await?;
    Ok(key)
}

/// The delivered records in the order of their positions. Those that come as objects are read from there.
///
/// # Errors
/// If S3 cannot be reached, or an object is missing or holds another record than its key says.
pub async fn records(
    delivery: Delivery,
    objects: &dyn ObjectStore,
    s3: &Guard,
    deadline: Instant,
) -> Result<Vec<Record>, QuarantineError> {
    let keys = match delivery {
        Delivery::Records(records) => return Ok(records),
        Delivery::Objects(keys) => keys,
    };
    let mut records = Vec::with_capacity(keys.len());
    // One after another: they are rare, and each may have megabytes.
    for key in &keys {
        let unusable = |problem| QuarantineError::Object { key: key.clone(), problem };
        let topic = object_name::quarantined_topic(key).ok_or_else(|| unusable("its key is not that of a record"))?;
        let object = match s3.call(deadline, "reading a record from its object", || objects.get(key)).await {
            Ok(object) => object,
            Err(error) => match error.class {
                ErrorClass::Permanent => return Err(unusable(error.tag)),
                ErrorClass::Transient | ErrorClass::Overload => return Err(error.into()),
            },
        };
        let record = single::unpack(&object, topic).map_err(unusable)?;
        if object_name::quarantined(&record.position, record.digest()) != *key {
            return Err(unusable("it holds another record"));
        }
        records.push(record);
    }
    records.sort_by(|a, b| a.position.cmp(&b.position));
    Ok(records)
}
