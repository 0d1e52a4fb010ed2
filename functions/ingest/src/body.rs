//! Reading a request's body within limits.
//!
//! A body is refused as soon as it is known to be too large: by its `Content-Length`, while it arrives, or while it
//! is decompressed. The size that a client announces is never used to allocate memory.

use std::io::{self, Read};
use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderMap, HeaderValue, header};
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt as _;
use strum::EnumCount;

use crate::headers::trimmed;

/// Limits of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BodyLimits {
    /// Size as sent, in bytes.
    pub received: usize,
    /// Size after decompression, in bytes.
    pub decoded: usize,
    /// Decoded bytes per byte received.
    pub ratio: usize,
    /// Longest time until the last byte has arrived.
    pub timeout: Duration,
}

/// The ratio is not checked below this many decoded bytes: a small batch of equal events compresses to almost nothing
/// and is harmless.
const RATIO_FLOOR: usize = 1024 * 1024;
/// Number of bytes decoded per step; a limit is exceeded by at most one step.
const STEP: usize = 64 * 1024;
/// Largest zstd window, as a power of two. 8 MiB is what RFC 8878 (section 3.1.1.1.2) asks decoders to support.
const ZSTD_WINDOW_LOG: u32 = 23;

#[derive(Debug, thiserror::Error, EnumCount)]
pub enum BodyError {
    #[error("the body has more than {limit} bytes")]
    TooLarge { limit: usize },
    #[error("the body has more than {limit} bytes when decompressed")]
    DecodedTooLarge { limit: usize },
    #[error("the body decompresses to more than {limit} times its size")]
    Ratio { limit: usize },
    #[error("content encoding {0:?} is not supported; send gzip, zstd or none")]
    Encoding(String),
    #[error("cannot decompress the body")]
    Decode(#[source] io::Error),
    #[error("the body did not arrive within {} s", .0.as_secs_f32())]
    Slow(Duration),
    #[error("the connection ended before the whole body had arrived")]
    BrokeOff(#[source] axum::Error),
}

impl BodyError {
    /// One of each kind, for `openapi.rs`. The length of the array is checked by the compiler.
    pub fn of_each_kind(limits: &BodyLimits) -> [Self; Self::COUNT] {
        [
            BodyError::TooLarge { limit: limits.received },
            BodyError::DecodedTooLarge { limit: limits.decoded },
            BodyError::Ratio { limit: limits.ratio },
            BodyError::Encoding("br".to_owned()),
            BodyError::Decode(io::Error::other("invalid gzip header")),
            BodyError::Slow(limits.timeout),
            BodyError::BrokeOff(axum::Error::new("the connection was closed")),
        ]
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Encoding {
    Identity,
    Gzip,
    Zstd,
}

fn encoding(headers: &HeaderMap) -> Result<Encoding, BodyError> {
    let mut values = headers.get_all(header::CONTENT_ENCODING).iter();
    let (first, second) = (values.next(), values.next());
    let Some(value) = first else { return Ok(Encoding::Identity) };
    let name = trimmed(value);
    let supported = [
        ("gzip", Encoding::Gzip),
        ("x-gzip", Encoding::Gzip),
        ("zstd", Encoding::Zstd),
        ("identity", Encoding::Identity),
    ];
    supported
        .into_iter()
        // Several encodings of one body are refused: they would only help to hide a decompression bomb.
        .find(|(supported, _)| second.is_none() && name.eq_ignore_ascii_case(supported.as_bytes()))
        .map(|(_, encoding)| encoding)
        .ok_or_else(|| BodyError::Encoding(String::from_utf8_lossy(name).chars().take(64).collect()))
}

/// Reads and decompresses a body.
///
/// # Errors
/// [`BodyError`], as soon as a limit is exceeded.
pub async fn read(headers: &HeaderMap, body: Body, limits: &BodyLimits) -> Result<Bytes, BodyError> {
    let encoding = encoding(headers)?;
    let announced = headers.get(header::CONTENT_LENGTH).map(HeaderValue::to_str).and_then(Result::ok);
    if announced.and_then(|text| text.parse::<u64>().ok()).is_some_and(|length| length > limits.received as u64) {
        return Err(BodyError::TooLarge { limit: limits.received });
    }
    let received = tokio::time::timeout(limits.timeout, receive(body, limits.received))
        .await
        .map_err(|_| BodyError::Slow(limits.timeout))??;
    match encoding {
        Encoding::Identity => Ok(received),
        Encoding::Gzip => decode(flate2::read::MultiGzDecoder::new(&*received), received.len(), limits),
        Encoding::Zstd => {
            let mut decoder = zstd::stream::read::Decoder::with_buffer(&*received).map_err(BodyError::Decode)?;
            decoder.window_log_max(ZSTD_WINDOW_LOG).map_err(BodyError::Decode)?;
            decode(decoder, received.len(), limits)
        }
    }
}

async fn receive(mut body: Body, limit: usize) -> Result<Bytes, BodyError> {
    let mut first = Bytes::new();
    let mut joined = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(BodyError::BrokeOff)?.into_data() else { continue };
        if first.len() + joined.len() + data.len() > limit {
            return Err(BodyError::TooLarge { limit });
        }
        // A body in one piece, as Lambda passes it, is not copied.
        if first.is_empty() && joined.is_empty() {
            first = data;
        } else {
            joined.extend_from_slice(&std::mem::take(&mut first));
            joined.extend_from_slice(&data);
        }
    }
    Ok(if joined.is_empty() { first } else { joined.freeze() })
}

fn decode(mut decoder: impl Read, received: usize, limits: &BodyLimits) -> Result<Bytes, BodyError> {
    let by_ratio = received.saturating_mul(limits.ratio).max(RATIO_FLOOR);
    let mut decoded = Vec::new();
    loop {
        let before = decoded.len();
        // One byte more than the limit distinguishes "just fits" from "too large".
        let room = limits.decoded.min(by_ratio).saturating_sub(before).saturating_add(1).min(STEP);
        let step = u64::try_from(room).unwrap_or(u64::MAX);
        let read = decoder.by_ref().take(step).read_to_end(&mut decoded).map_err(BodyError::Decode)?;
        if read == 0 {
            return Ok(decoded.into());
        }
        if decoded.len() > limits.decoded {
            return Err(BodyError::DecodedTooLarge { limit: limits.decoded });
        }
        if decoded.len() > by_ratio {
            return Err(BodyError::Ratio { limit: limits.ratio });
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    const LIMITS: BodyLimits =
        BodyLimits { received: 100_000, decoded: 3_000_000, ratio: 100, timeout: Duration::from_secs(5) };

    fn gzip(data: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        encoder.write_all(data).unwrap();
        encoder.finish().unwrap()
    }

    async fn read_as(encoding: Option<&'static str>, body: impl Into<Body>) -> Result<Bytes, BodyError> {
        let mut headers = HeaderMap::new();
        if let Some(encoding) = encoding {
            headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static(encoding));
        }
        read(&headers, body.into(), &LIMITS).await
    }

    #[tokio::test]
    async fn reads_plain_gzip_and_zstd() {
        let data = br#"{"type":"click"}"#;
        assert_eq!(read_as(None, &data[..]).await.unwrap(), &data[..]);
        assert_eq!(read_as(Some("identity"), &data[..]).await.unwrap(), &data[..]);
        assert_eq!(read_as(Some("GZip"), gzip(data)).await.unwrap(), &data[..]);
        let parts = [gzip(&data[..5]), gzip(&data[5..])].concat();
        assert_eq!(read_as(Some("gzip"), parts).await.unwrap(), &data[..], "members after each other (RFC 1952)");
        assert_eq!(read_as(Some("zstd"), zstd::encode_all(&data[..], 3).unwrap()).await.unwrap(), &data[..]);
    }

    #[tokio::test]
    async fn refuses_other_and_stacked_encodings_and_broken_data() {
        for encoding in ["br", "deflate", "gzip, gzip", ""] {
            assert!(matches!(read_as(Some(encoding), "x").await, Err(BodyError::Encoding(_))), "{encoding}");
        }
        for encoding in ["gzip", "zstd"] {
            assert!(matches!(read_as(Some(encoding), "plain").await, Err(BodyError::Decode(_))), "{encoding}");
        }
        let mut cut = gzip(&[b'x'; 1000]);
        cut.truncate(cut.len() - 6);
        assert!(matches!(read_as(Some("gzip"), cut).await, Err(BodyError::Decode(_))));
    }

    /// A body that never sends and never ends.
    fn pending() -> Body {
        Body::from_stream(futures::stream::pending::<io::Result<Bytes>>())
    }

    #[tokio::test]
    async fn refuses_an_announced_length_without_reading() {
        let headers = HeaderMap::from_iter([(header::CONTENT_LENGTH, HeaderValue::from_static("100001"))]);
        assert!(matches!(read(&headers, pending(), &LIMITS).await, Err(BodyError::TooLarge { limit: 100_000 })));
    }

    #[tokio::test]
    async fn refuses_a_streamed_body_once_it_is_too_large() {
        let chunks =
            |count| Body::from_stream(futures::stream::iter((0..count).map(|_| io::Result::Ok(vec![b' '; 1000]))));
        assert_eq!(read_as(None, chunks(100)).await.unwrap().len(), 100_000);
        assert!(matches!(read_as(None, chunks(101)).await, Err(BodyError::TooLarge { .. })));
        assert!(matches!(read_as(None, chunks(usize::MAX)).await, Err(BodyError::TooLarge { .. })), "endless");
    }

    #[tokio::test(start_paused = true)]
    async fn gives_up_on_a_slow_body() {
        assert!(matches!(read_as(None, pending()).await, Err(BodyError::Slow(_))));
    }

    #[tokio::test]
    async fn refuses_bombs() {
        let zeros = vec![0; 2_900_000];
        for (encoding, bomb) in [("gzip", gzip(&zeros)), ("zstd", zstd::encode_all(&*zeros, 3).unwrap())] {
            assert!(matches!(read_as(Some(encoding), bomb).await, Err(BodyError::Ratio { limit: 100 })), "{encoding}");
        }
        let small = vec![0; RATIO_FLOOR];
        assert_eq!(read_as(Some("gzip"), gzip(&small)).await.unwrap().len(), RATIO_FLOOR, "below the floor");

        // The ratio is within the limit, but the body is too large.
        let mut state = 1_u32;
        let noise: Vec<u8> = (0..60_000)
            .map(|_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (state >> 24) as u8
            })
            .collect();
        let large: Vec<u8> = noise.iter().copied().chain(vec![0; 3_000_000 - noise.len()]).collect();
        assert_eq!(read_as(Some("zstd"), zstd::encode_all(&*large, 3).unwrap()).await.unwrap().len(), 3_000_000);
        let larger = [large, vec![0]].concat();
        let encoded = zstd::encode_all(&*larger, 3).unwrap();
        assert!(matches!(read_as(Some("zstd"), encoded).await, Err(BodyError::DecodedTooLarge { limit: 3_000_000 })));
    }
}
