//! Reads the archive's objects with S3, zstd and JSON.

use anyhow::Context as _;
use aws_sdk_s3::Client as S3;
use base64_simd::STANDARD;
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::task::JoinSet;

use crate::evidence::message::{Message, Object, PartitionOffset};

/// Objects read at the same time.
const WIDTH: usize = 8;
/// Maximum number of keys per answer. S3 itself returns at most 1,000; the embedded S3 reads the whole bucket for each
/// answer.
const KEYS: i32 = 1_000_000;

/// Names of all objects under a prefix.
///
/// # Errors
/// If they cannot be listed.
pub async fn keys(s3: &S3, bucket: &str, prefix: &str) -> anyhow::Result<Vec<String>> {
    let mut pages = s3.list_objects_v2().bucket(bucket).prefix(prefix).max_keys(KEYS).into_paginator().send();
    let mut keys = Vec::new();
    while let Some(page) = pages.next().await {
        let page = page.with_context(|| format!("cannot list {prefix}"))?;
        keys.extend(page.contents().iter().filter_map(|listed| listed.key().map(str::to_owned)));
    }
    keys.retain(|key| key.ends_with(".ndjson.zst"));
    Ok(keys)
}

/// Reads objects, in any order.
///
/// # Errors
/// If an object cannot be read, or does not have the format of the archive.
pub async fn objects(s3: &S3, bucket: &str, keys: Vec<String>) -> anyhow::Result<Vec<Object>> {
    let mut objects = Vec::with_capacity(keys.len());
    for some in keys.chunks(WIDTH) {
        let mut reading = JoinSet::new();
        for key in some.iter().cloned() {
            let request = s3.get_object().bucket(bucket).key(&key);
            reading.spawn(async move {
                let body = request.send().await?.body.collect().await?.into_bytes();
                object(key, &body)
            });
        }
        while let Some(read) = reading.join_next().await {
            objects.push(read.context("a reader panicked")??);
        }
    }
    Ok(objects)
}

fn object(key: String, body: &[u8]) -> anyhow::Result<Object> {
    let text = zstd::decode_all(body).with_context(|| format!("{key} is not zstd"))?;
    let lines = text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).map(line);
    let lines = lines.collect::<anyhow::Result<_>>().with_context(|| format!("a line of {key} cannot be read"))?;
    Ok(Object { key, lines })
}

#[derive(Deserialize)]
struct ArchiveLine<'a> {
    topic: String,
    partition: i32,
    offset: i64,
    timestamp: i64,
    key: Option<String>,
    key_base64: Option<String>,
    headers: Vec<ArchiveLineHeader>,
    #[serde(borrow, default)]
    value: Option<&'a RawValue>,
    value_text: Option<String>,
    value_base64: Option<String>,
}

#[derive(Deserialize)]
struct ArchiveLineHeader {
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

fn line(line: &[u8]) -> anyhow::Result<(String, PartitionOffset, Message)> {
    let line: ArchiveLine<'_> = serde_json::from_slice(line)?;
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
