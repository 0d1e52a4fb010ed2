//! [`ObjectStore`] on S3, or on a service with the same API.

use std::error::Error;

use async_trait::async_trait;
use aws_config::SdkConfig;
use aws_sdk_s3::Client;
use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_s3::primitives::ByteStream;
use aws_types::service_config::ServiceConfigKey;
use bytes::Bytes;
use pipeline::ports::{ObjectInfo, ObjectStore, PutResult};
use pipeline::{Dependency, DependencyError, ErrorClass};

/// One bucket.
///
/// Needs `s3:PutObject`, `s3:GetObject` and `s3:ListBucket` on the bucket. Without `s3:ListBucket`, S3 answers 403
/// instead of 404 for a missing key. Checksums are the SDK's default: a CRC is sent with each put and checked on each
/// get.
#[derive(Clone, Debug)]
pub struct S3Objects {
    client: Client,
    bucket: String,
}

impl S3Objects {
    /// Creates the client. Sends nothing.
    pub fn connect(config: &SdkConfig, bucket: impl Into<String>) -> Self {
        let config = aws_sdk_s3::config::Builder::from(config).force_path_style(has_own_endpoint(config)).build();
        S3Objects { client: Client::from_conf(config), bucket: bucket.into() }
    }

    /// Opens a connection before the first event needs it, because the TLS handshake takes most of the time of a first
    /// call. A failure is logged and not returned, because later calls are retried.
    pub async fn warm_up(&self) {
        if let Err(error) = self.client.head_bucket().bucket(&self.bucket).send().await {
            let error = failure("opening a connection", error);
            tracing::warn!(tag = error.tag, bucket = %self.bucket, "cannot reach the archive bucket at start");
        }
    }
}

/// Whether an endpoint is configured (`AWS_ENDPOINT_URL_S3` and so on). Emulators and S3-compatible services often
/// have one host name for all buckets, so the bucket name goes into the path. AWS expects it in the host name.
fn has_own_endpoint(config: &SdkConfig) -> bool {
    // Building cannot fail, because key and value are set.
    let key = ServiceConfigKey::builder().service_id("S3").env("AWS_ENDPOINT_URL").profile("endpoint_url").build().ok();
    let for_s3 = config.service_config().zip(key).and_then(|(loader, key)| loader.load_config(key));
    config.endpoint_url().is_some() || for_s3.is_some()
}

#[async_trait]
impl ObjectStore for S3Objects {
    async fn put_new(&self, key: &str, body: Bytes) -> Result<PutResult, DependencyError> {
        let put = self
            .client
            .put_object()
            .bucket(&self.bucket)
            .key(key)
            .content_type("application/x-ndjson+zstd")
            .body(ByteStream::from(body))
            .if_none_match("*");
        match put.send().await {
            Ok(_) => Ok(PutResult::Created),
            Err(error) if status(&error) == Some(412) => Ok(PutResult::AlreadyThere),
            Err(error) => Err(failure("writing an object", error)),
        }
    }

    async fn list(&self, prefix: &str) -> Result<Vec<ObjectInfo>, DependencyError> {
        let mut pages = self.client.list_objects_v2().bucket(&self.bucket).prefix(prefix).into_paginator().send();
        let mut objects = Vec::new();
        while let Some(page) = pages.next().await {
            let page = page.map_err(|error| failure("listing objects", error))?;
            objects.extend(page.contents.unwrap_or_default().into_iter().filter_map(|object| {
                Some(ObjectInfo { key: object.key?, size: u64::try_from(object.size.unwrap_or(0)).unwrap_or(0) })
            }));
        }
        Ok(objects)
    }

    async fn get(&self, key: &str) -> Result<Bytes, DependencyError> {
        const DOING: &str = "reading an object";
        let answer = self.client.get_object().bucket(&self.bucket).key(key).send().await;
        let answer = answer.map_err(|error| failure(DOING, error))?;
        // The body breaks off, or its checksum differs from the one that S3 stored.
        let body = answer.body.collect().await.map_err(|error| dependency_error(S3Cause::Interrupted, DOING, error))?;
        Ok(body.into_bytes())
    }
}

/// Why a call failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum S3Cause {
    /// The request could not be created: wrong settings, or no credentials at the moment.
    NotSent,
    Timeout,
    Unreachable,
    /// The connection broke, or the answer could not be understood.
    Interrupted,
    /// S3 asks for fewer requests.
    Throttled,
    /// Another conditional put of the same key is in progress (409).
    Conflict,
    /// An internal error of S3, or expired credentials or a wrong clock, which are corrected in time.
    Unavailable,
    /// No such key or bucket.
    Absent,
    Denied,
    /// Any other 3xx or 4xx: the same request would fail again.
    Refused,
}

impl S3Cause {
    const fn class(self) -> ErrorClass {
        match self {
            S3Cause::NotSent
            | S3Cause::Timeout
            | S3Cause::Unreachable
            | S3Cause::Interrupted
            | S3Cause::Conflict
            | S3Cause::Unavailable => ErrorClass::Transient,
            S3Cause::Throttled => ErrorClass::Overload,
            S3Cause::Absent | S3Cause::Denied | S3Cause::Refused => ErrorClass::Permanent,
        }
    }

    const fn tag(self) -> &'static str {
        match self {
            S3Cause::NotSent => "not-sent",
            S3Cause::Timeout => "timeout",
            S3Cause::Unreachable => "unreachable",
            S3Cause::Interrupted => "interrupted",
            S3Cause::Throttled => "throttled",
            S3Cause::Conflict => "conflict",
            S3Cause::Unavailable => "unavailable",
            S3Cause::Absent => "absent",
            S3Cause::Denied => "denied",
            S3Cause::Refused => "refused",
        }
    }

    /// From the answer's status and S3's error code. The answer to a HEAD request has no error code.
    fn of_answer(status: u16, code: &str) -> Self {
        match (status, code) {
            (_, "SlowDown" | "Throttling" | "TooManyRequests") | (429 | 503, _) => S3Cause::Throttled,
            (_, "RequestTimeout") => S3Cause::Timeout,
            (_, "ExpiredToken" | "RequestTimeTooSkewed") => S3Cause::Unavailable,
            (409, _) => S3Cause::Conflict,
            (404, _) => S3Cause::Absent,
            (401 | 403, _) => S3Cause::Denied,
            (300..=499, _) => S3Cause::Refused,
            (_, _) => S3Cause::Unavailable,
        }
    }

    fn of<E: ProvideErrorMetadata>(error: &SdkError<E, HttpResponse>) -> Self {
        match error {
            SdkError::ConstructionFailure(_) => S3Cause::NotSent,
            SdkError::TimeoutError(_) => S3Cause::Timeout,
            SdkError::DispatchFailure(failure) if failure.is_timeout() => S3Cause::Timeout,
            SdkError::DispatchFailure(_) => S3Cause::Unreachable,
            SdkError::ResponseError(_) => S3Cause::Interrupted,
            SdkError::ServiceError(answer) => {
                S3Cause::of_answer(answer.raw().status().as_u16(), answer.err().code().unwrap_or_default())
            }
            // The SDK may add variants; an unknown error may be temporary.
            _ => S3Cause::Interrupted,
        }
    }
}

fn status<E>(error: &SdkError<E, HttpResponse>) -> Option<u16> {
    error.raw_response().map(|response| response.status().as_u16())
}

fn failure<E>(doing: &'static str, error: SdkError<E, HttpResponse>) -> DependencyError
where
    E: ProvideErrorMetadata + Error + Send + Sync + 'static,
{
    dependency_error(S3Cause::of(&error), doing, error)
}

fn dependency_error(
    cause: S3Cause,
    doing: &'static str,
    source: impl Into<Box<dyn Error + Send + Sync>>,
) -> DependencyError {
    DependencyError { dependency: Dependency::S3, class: cause.class(), tag: cause.tag(), doing, source: source.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_classed_by_what_a_repeat_can_do() {
        for (status, code, cause) in [
            (409, "ConditionalRequestConflict", S3Cause::Conflict),
            (503, "SlowDown", S3Cause::Throttled),
            (429, "", S3Cause::Throttled),
            (500, "InternalError", S3Cause::Unavailable),
            (400, "RequestTimeout", S3Cause::Timeout),
            (400, "ExpiredToken", S3Cause::Unavailable),
            (403, "RequestTimeTooSkewed", S3Cause::Unavailable),
            (403, "AccessDenied", S3Cause::Denied),
            (404, "NoSuchBucket", S3Cause::Absent),
            (404, "", S3Cause::Absent),
            (400, "InvalidArgument", S3Cause::Refused),
            (301, "PermanentRedirect", S3Cause::Refused),
        ] {
            assert_eq!(S3Cause::of_answer(status, code), cause, "{status} {code}");
        }
        assert_eq!(S3Cause::Conflict.class(), ErrorClass::Transient);
        assert_eq!(S3Cause::Throttled.class(), ErrorClass::Overload);
        assert_eq!(S3Cause::Denied.class(), ErrorClass::Permanent);
    }

    #[test]
    fn a_configured_endpoint_is_noticed() {
        assert!(!has_own_endpoint(&SdkConfig::builder().build()));
        assert!(has_own_endpoint(&SdkConfig::builder().endpoint_url("http://localhost:9").build()));
    }
}
