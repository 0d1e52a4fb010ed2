//! The archive's objects, by S3, zstd and JSON.

use anyhow::Context as _;
use aws_sdk_s3::Client as S3;
use base64_simd::STANDARD;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::{Message, Object, Place};

/// Every object of records in the bucket.
///
/// # Errors
/// If one cannot be read, or is none of ours.
pub async fn objects(s3: &S3, bucket: &str) -> anyhow::Result<Vec<Object>> {
    let mut objects = Vec::new();
    let mut after = None;
    loop {
        let page = s3.list_objects_v2().bucket(bucket).set_continuation_token(after).send().await?;
        for listed in page.contents() {
            let key = listed.key().unwrap_or_default();
            if !key.ends_with(".ndjson.zst") {
                continue;
            }
            let body = s3.get_object().bucket(bucket).key(key).send().await?.body.collect().await?.into_bytes();
            let text = zstd::decode_all(body.as_ref()).with_context(|| format!("{key} is not zstd"))?;
            let lines = text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).map(line);
            let lines = lines.collect::<anyhow::Result<_>>().with_context(|| format!("a line of {key}"))?;
            objects.push(Object { key: key.to_owned(), lines });
        }
        after = page.next_continuation_token().map(str::to_owned);
        if after.is_none() {
            return Ok(objects);
        }
    }
}

#[derive(Deserialize)]
struct Line<'a> {
    topic: String,
    partition: i32,
    offset: i64,
    timestamp: i64,
    key: Option<String>,
    key_base64: Option<String>,
    headers: Vec<LineHeader>,
    #[serde(borrow, default)]
    value: Option<&'a RawValue>,
    value_text: Option<String>,
    value_base64: Option<String>,
}

#[derive(Deserialize)]
struct LineHeader {
    name: String,
    value: Option<String>,
    value_base64: Option<String>,
}

fn bytes(text: Option<String>, base64: Option<String>) -> anyhow::Result<Option<Vec<u8>>> {
    match (text, base64) {
        (None, Some(base64)) => Ok(Some(STANDARD.decode_to_vec(base64)?)),
        (text, _) => Ok(text.map(String::into_bytes)),
    }
}

fn line(line: &[u8]) -> anyhow::Result<(String, Place, Message)> {
    let line: Line<'_> = serde_json::from_slice(line)?;
    let headers = line.headers.into_iter().map(|of| Ok((of.name, bytes(of.value, of.value_base64)?)));
    let value = match line.value {
        Some(json) if json.get() != "null" => Some(json.get().as_bytes().to_vec()),
        Some(_) | None => bytes(line.value_text, line.value_base64)?,
    };
    let message = Message {
        key: bytes(line.key, line.key_base64)?,
        value,
        headers: headers.collect::<anyhow::Result<_>>()?,
        timestamp: line.timestamp,
    };
    Ok((line.topic, (line.partition, line.offset), message))
}
