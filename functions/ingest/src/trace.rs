//! The trace of a request: W3C Trace Context, passed to Kafka in the header `traceparent`.

/// The client's `traceparent` if it is valid, else the start of a new trace.
///
/// An invalid value is replaced and not refused (Trace Context, section 2.3): no event is lost because of tracing.
pub fn traceparent(header: Option<&[u8]>) -> String {
    match header.and_then(|value| std::str::from_utf8(value).ok()).filter(|value| is_valid(value)) {
        Some(value) => value.to_owned(),
        None => {
            // All zeros means "invalid", so at least one bit is set.
            let trace = fastrand::u128(1..);
            let span = fastrand::u64(1..);
            format!("00-{trace:032x}-{span:016x}-01")
        }
    }
}

/// `version-trace-parent-flags` in lowercase hex; ids are not all zeros, and version `ff` is forbidden. A version
/// later than ours may add fields after a dash.
fn is_valid(value: &str) -> bool {
    let hex = |text: &str, length: usize| {
        text.len() == length && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
    };
    let id = |text: &str, length: usize| hex(text, length) && text.bytes().any(|byte| byte != b'0');
    let mut parts = value.split('-');
    let (Some(version), Some(trace), Some(parent), Some(flags)) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return false;
    };
    let ends_here = parts.next().is_none();
    hex(version, 2)
        && version != "ff"
        && id(trace, 32)
        && id(parent, 16)
        && hex(flags, 2)
        && (ends_here || version != "00")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_a_valid_header_and_replaces_any_other() {
        const VALID: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        assert_eq!(traceparent(Some(VALID.as_bytes())), VALID);
        let later = format!("01{}-extra", &VALID[2..]);
        assert_eq!(traceparent(Some(later.as_bytes())), later);
        for invalid in [
            "",
            "00",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-extra",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
        ] {
            let made = traceparent(Some(invalid.as_bytes()));
            assert_ne!(made, invalid);
            assert!(is_valid(&made), "{made}");
        }
        assert!(is_valid(&traceparent(Some(b"\xff"))));
        assert_ne!(traceparent(None), traceparent(None));
    }
}
