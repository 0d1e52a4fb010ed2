//! A place in the topic as the id of an event: `<identity of the topic>.<next offset of partition 0>.<of 1>…`.
//!
//! It holds all that is needed to go on, so an instance keeps nothing about its clients, and any instance can resume any
//! stream.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use base64_simd::URL_SAFE_NO_PAD;
use pipeline::ports::TailPlace;

/// Longest id that is read, in bytes: 1,600 partitions with offsets of any size. A server takes 64 KiB for all headers.
const MAX_BYTES: usize = 32 * 1024;

/// Appends the text of a place. Partitions that it does not know are empty.
pub fn write(to: &mut String, place: &TailPlace) {
    URL_SAFE_NO_PAD.encode_append(place.topic_id, to);
    let end = place.next.keys().next_back().map_or(0, |last| last + 1);
    for partition in 0..end {
        to.push('.');
        if let Some(next) = place.next.get(&partition) {
            // Writing to a text cannot fail.
            let _ = write!(to, "{next}");
        }
    }
}

/// `None` if [`write()`] did not write it.
pub fn parse(text: &str) -> Option<TailPlace> {
    if text.len() > MAX_BYTES {
        return None;
    }
    let mut parts = text.split('.');
    let topic_id = URL_SAFE_NO_PAD.decode_to_vec(parts.next()?).ok()?.try_into().ok()?;
    let mut next = BTreeMap::new();
    for (partition, offset) in (0..).zip(parts) {
        if !offset.is_empty() {
            next.insert(partition, offset.parse::<i64>().ok().filter(|offset| *offset >= 0)?);
        }
    }
    let place = TailPlace { topic_id, next };
    let mut written = String::with_capacity(text.len());
    write(&mut written, &place);
    // One spelling for each place: what another writes was not written here.
    (written == text).then_some(place)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(place: &TailPlace) -> String {
        let mut text = String::new();
        write(&mut text, place);
        text
    }

    #[test]
    fn a_place_is_read_as_it_was_written() {
        for next in [&[][..], &[(0, 0)], &[(0, 7), (1, i64::MAX), (2, 0)], &[(1, 3)], &[(0, 1), (3, 2)]] {
            let place = TailPlace { topic_id: [0xfb; 16], next: next.iter().copied().collect() };
            let written = text(&place);
            assert_eq!(parse(&written), Some(place), "{written}");
        }
        let place = TailPlace { topic_id: [1; 16], next: [(0, 120), (1, 98)].into() };
        assert_eq!(text(&place), "AQEBAQEBAQEBAQEBAQEBAQ.120.98");
    }

    #[test]
    fn what_was_not_written_here_is_refused() {
        const ID: &str = "AQEBAQEBAQEBAQEBAQEBAQ";
        assert!(parse(ID).is_some());
        for wrong in [
            "",
            ".",
            ".1",
            "1",
            "AQ.1",
            &format!("{ID}."),
            &format!("{ID}.-1"),
            &format!("{ID}.+1"),
            &format!("{ID}.01"),
            &format!("{ID}.1 "),
            &format!("{ID}.1."),
            &format!("{ID}.9223372036854775808"),
            &format!("{ID}.a"),
            &format!("{ID}=.1"),
            &format!("{ID}{}", ".1".repeat(17_000)),
        ] {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
    }
}
