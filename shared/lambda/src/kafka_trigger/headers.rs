//! The headers of a record, `[{"name": [bytes]}, …]`: signed bytes as in Java; null is a header without a value.

use std::fmt;

use bytes::{BufMut as _, Bytes, BytesMut};
use event::JsonStr;
use pipeline::{Header, RecordHeaders};
use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};

/// Reads headers; their values become pieces of `buffer`. After an error it holds a part of a value.
pub(super) fn decode(json: &str, buffer: &mut BytesMut) -> Result<RecordHeaders, serde_json::Error> {
    serde_json::Deserializer::from_str(json).deserialize_any(List(buffer))
}

struct List<'b>(&'b mut BytesMut);

impl<'de> Visitor<'de> for List<'_> {
    type Value = RecordHeaders;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of headers")
    }

    fn visit_unit<E>(self) -> Result<RecordHeaders, E> {
        Ok(RecordHeaders::default())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<RecordHeaders, A::Error> {
        let mut headers = Vec::new();
        while items.next_element_seed(Object { buffer: self.0, headers: &mut headers })?.is_some() {}
        Ok(RecordHeaders(headers))
    }
}

/// One object of the list, normally with one header.
struct Object<'b> {
    buffer: &'b mut BytesMut,
    headers: &'b mut Vec<Header>,
}

impl<'de> DeserializeSeed<'de> for Object<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Object<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object from a header's name to its bytes")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<(), A::Error> {
        while let Some(JsonStr(name)) = entries.next_key()? {
            let value = entries.next_value_seed(Value(self.buffer))?;
            self.headers.push(Header::read(&name, value));
        }
        Ok(())
    }
}

struct Value<'b>(&'b mut BytesMut);

impl<'de> DeserializeSeed<'de> for Value<'_> {
    type Value = Option<Bytes>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Option<Bytes>, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Value<'_> {
    type Value = Option<Bytes>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of bytes, or null")
    }

    fn visit_unit<E>(self) -> Result<Option<Bytes>, E> {
        Ok(None)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut numbers: A) -> Result<Option<Bytes>, A::Error> {
        while let Some(number) = numbers.next_element::<i16>()? {
            self.0.put_u8(byte_of(number).ok_or_else(|| A::Error::custom("a number that is no byte"))?);
        }
        Ok(Some(self.0.split().freeze()))
    }
}

/// Java writes bytes as -128 to 127; other emulators write 0 to 255.
fn byte_of(number: i16) -> Option<u8> {
    u8::try_from(number).ok().or_else(|| i8::try_from(number).ok().map(i8::cast_unsigned))
}

#[cfg(test)]
mod tests {
    use event::RecordDigest;

    use super::*;

    #[test]
    fn a_header_without_a_value_is_one_record_in_any_form() {
        let read = |json| decode(json, &mut BytesMut::new()).unwrap();
        let digest = |json| {
            let headers = read(json);
            let pairs = headers.0.iter().map(|header| (&*header.name, header.value.as_deref()));
            RecordDigest::of(1, None, Some(b"{}"), pairs)
        };
        assert_eq!(digest(r#"[{"h":null}]"#), digest(r#"[{"h":[]}]"#));
        assert_eq!(digest("[]"), digest("[{}]"));
        assert_eq!((read("[{}]"), read("null")), (RecordHeaders::default(), RecordHeaders::default()));
        assert_ne!(digest(r#"[{"h":null}]"#), digest("[]"), "it has a name all the same");
    }
}
