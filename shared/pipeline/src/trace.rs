//! The trace that a record belongs to: W3C Trace Context (<https://www.w3.org/TR/trace-context/>), in the header
//! `traceparent` of requests and of Kafka records.

use std::fmt;
use std::future::Future;
use std::num::NonZeroU64;
use std::str::FromStr;

use event::JsonStr;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The id of a trace: 16 bytes, not all of them 0. Written as 32 lowercase hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TraceId([u8; Self::BYTES]);

impl TraceId {
    pub const BYTES: usize = 16;

    pub fn random() -> Self {
        TraceId(fastrand::u128(1..).to_be_bytes())
    }

    /// `None` if all bytes are 0.
    pub fn from_bytes(bytes: [u8; Self::BYTES]) -> Option<Self> {
        (bytes != [0; Self::BYTES]).then_some(TraceId(bytes))
    }

    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    pub fn to_bytes(self) -> [u8; Self::BYTES] {
        self.0
    }

    /// Whether a new trace with this id is among the `share` of traces that are kept, 0 to 1. Every process that is asked
    /// about a trace answers alike.
    ///
    /// Source: `TraceIdRatioBased`, OpenTelemetry SDK specification.
    pub fn is_sampled(self, share: f64) -> bool {
        // The lower 63 bits, as the SDKs of OpenTelemetry compare them.
        let low = (u128::from_be_bytes(self.0) as u64) >> 1;
        // A float is cut off at the ends of the integer's range.
        low < (share * (1_u64 << 63) as f64) as u64
    }
}

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", u128::from_be_bytes(self.0))
    }
}

impl Serialize for TraceId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for TraceId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let JsonStr(text) = JsonStr::deserialize(deserializer)?;
        text.parse().map_err(D::Error::custom)
    }
}

#[derive(Debug, thiserror::Error)]
#[error("a trace id has 32 lowercase hexadecimal digits that are not all 0")]
pub struct TraceIdError;

impl FromStr for TraceId {
    type Err = TraceIdError;

    fn from_str(text: &str) -> Result<Self, TraceIdError> {
        let id = hexadecimal(text, 32).ok_or(TraceIdError)?;
        TraceId::from_bytes(id.to_be_bytes()).ok_or(TraceIdError)
    }
}

/// The id of a span in its trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SpanId(NonZeroU64);

impl SpanId {
    pub fn random() -> Self {
        SpanId(NonZeroU64::MIN | fastrand::u64(..))
    }

    pub fn to_bytes(self) -> [u8; 8] {
        self.0.get().to_be_bytes()
    }
}

/// A span as other services name it: what `traceparent` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceContext {
    pub trace_id: TraceId,
    pub span_id: SpanId,
    /// Whether the spans of this trace are kept. Decided where the trace begins; those after it follow.
    pub is_sampled: bool,
}

impl TraceContext {
    /// The first span of a new trace.
    pub fn root(share: f64) -> Self {
        let trace_id = TraceId::random();
        TraceContext { trace_id, span_id: SpanId::random(), is_sampled: trace_id.is_sampled(share) }
    }

    /// Another span of the same trace.
    #[must_use]
    pub fn child(self) -> Self {
        TraceContext { span_id: SpanId::random(), ..self }
    }

    /// Reads the value of a header: `version-trace-parent-flags`, in lowercase. `None` if it is invalid; it is then ignored,
    /// and nothing is refused because of it (section 2.3). A version later than ours may have more fields.
    pub fn parse(header: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(header).ok()?;
        let mut parts = text.split('-');
        let (version, trace, span, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        let ends_here = parts.next().is_none();
        let version = hexadecimal(version, 2)?;
        if version == 0xff || version == 0 && !ends_here {
            return None;
        }
        let span_id = u64::try_from(hexadecimal(span, 16)?).ok().and_then(NonZeroU64::new).map(SpanId)?;
        let is_sampled = hexadecimal(flags, 2)? & 1 == 1;
        Some(TraceContext { trace_id: trace.parse().ok()?, span_id, is_sampled })
    }
}

/// The value of `traceparent`.
impl fmt::Display for TraceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{}-{:016x}-{:02x}", self.trace_id, self.span_id.0, u8::from(self.is_sampled))
    }
}

/// Exactly `digits` of them; `from_str_radix` alone takes signs and capitals, too.
fn hexadecimal(text: &str, digits: usize) -> Option<u128> {
    let is_hexadecimal = text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    if text.len() != digits || !is_hexadecimal {
        return None;
    }
    u128::from_str_radix(text, 16).ok()
}

tokio::task_local! {
    static CURRENT: TraceContext;
}

/// Runs `work` as a part of the span `context`: what it calls can say so to the service called, by [`current`].
pub async fn within<F: Future>(context: Option<TraceContext>, work: F) -> F::Output {
    match context {
        Some(context) => CURRENT.scope(context, work).await,
        None => work.await,
    }
}

/// The span that this is a part of; `None` outside of [`within`].
pub fn current() -> Option<TraceContext> {
    CURRENT.try_with(|context| *context).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const VALID: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn a_header_is_read_and_written_alike() {
        let context = TraceContext::parse(VALID.as_bytes()).unwrap();
        assert!(context.is_sampled);
        assert_eq!((context.to_string().as_str(), VALID.len()), (VALID, 55));
        assert_eq!(context.trace_id.to_string(), "4bf92f3577b34da6a3ce929d0e0e4736");
        let later = format!("01{}-extra", &VALID[2..]);
        assert_eq!(TraceContext::parse(later.as_bytes()), Some(context), "what a later version adds is left away");
        let other_flags = VALID.replace("-01", "-02");
        assert!(!TraceContext::parse(other_flags.as_bytes()).unwrap().is_sampled);
    }

    #[test]
    fn what_is_invalid_is_ignored() {
        for invalid in [
            "",
            "00",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-+0f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-extra",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
        ] {
            assert_eq!(TraceContext::parse(invalid.as_bytes()), None, "{invalid}");
        }
        assert_eq!(TraceContext::parse(b"\xff"), None);
    }

    #[test]
    fn a_child_is_another_span_of_the_same_trace() {
        let root = TraceContext::root(1.0);
        let child = root.child();
        assert_eq!((root.trace_id, root.is_sampled), (child.trace_id, child.is_sampled));
        assert_ne!(root.span_id, child.span_id);
        assert_eq!(TraceContext::parse(child.to_string().as_bytes()), Some(child));
        assert_ne!(TraceContext::root(1.0).trace_id, root.trace_id);
    }

    #[test]
    fn a_share_of_the_traces_is_kept() {
        let kept = |share: f64| (0..10_000).filter(|_| TraceContext::root(share).is_sampled).count();
        assert_eq!((kept(0.0), kept(1.0)), (0, 10_000));
        // More than six standard deviations of 43.
        assert!((2_200..2_800).contains(&kept(0.25)));
        let id = TraceId::random();
        assert_eq!(id.is_sampled(0.5), id.is_sampled(0.5));
    }

    #[test]
    fn ids_are_kept_as_bytes_and_as_text() {
        let id = TraceId::random();
        assert_eq!(TraceId::from_bytes(id.to_bytes()), Some(id));
        assert_eq!(TraceId::from_bytes([0; TraceId::BYTES]), None);
        let json = serde_json::to_string(&id).unwrap();
        assert_eq!(serde_json::from_str::<TraceId>(&json).unwrap(), id);
        assert!(serde_json::from_str::<TraceId>(r#""4bf9""#).is_err());
    }

    #[tokio::test]
    async fn what_is_done_within_a_span_knows_it() {
        let context = TraceContext::root(1.0);
        assert_eq!(within(Some(context), async { current() }).await, Some(context));
        assert_eq!(within(None, async { current() }).await, None);
        assert_eq!(current(), None);
    }
}
