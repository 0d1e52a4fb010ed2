//! JSON as a tree that borrows from the text it was read from.
//!
//! `serde_json::Value` copies every string into a map, and silently keeps the last of two equal keys. This tree copies
//! only strings with escapes, and refuses equal keys: RFC 8785 requires I-JSON (RFC 7493), which does not allow them,
//! and two readers that choose different ones would see two different events.

use std::borrow::Cow;
use std::collections::HashSet;
use std::fmt;

use jsonschema::JsonType;
use jsonschema::json::{Array, Json, Node, NodeIdentity, Object};
use serde::de::{self, Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::Number;

use crate::text::JsonStr;

/// Up to this many members, a new key is compared with each earlier key. With more members, a set is used.
const LINEAR_KEYS: usize = 16;

/// Room for the members of an object, so that those of most events are allocated once.
const USUAL_MEMBERS: usize = 12;

/// A JSON value. Members keep the order of the text.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Value<'a> {
    #[default]
    Null,
    Bool(bool),
    Number(Number),
    String(Cow<'a, str>),
    Array(Vec<Value<'a>>),
    Object(Vec<(Cow<'a, str>, Value<'a>)>),
}

impl<'a> Value<'a> {
    /// Reads one JSON text.
    ///
    /// # Errors
    /// If the bytes are not a JSON text in UTF-8. Equal keys in one object, a number beyond the range of a double
    /// (`1e400`), a lone surrogate (`"\ud800"`) and more than 128 levels are errors too.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(bytes)
    }

    /// The member of an object; `None` if there is none or this is not an object.
    pub fn get(&self, name: &str) -> Option<&Value<'a>> {
        match self {
            Value::Object(members) => members.iter().find(|(key, _)| key == name).map(|(_, value)| value),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => None,
        }
    }

    pub fn as_str(&self) -> Option<&str> {
        match self {
            Value::String(text) => Some(text),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => None,
        }
    }

    pub const fn is_object(&self) -> bool {
        matches!(self, Value::Object(_))
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Value<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ValueVisitor)
    }
}

struct ValueVisitor;

impl<'de> Visitor<'de> for ValueVisitor {
    type Value = Value<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value<'de>, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value<'de>, E> {
        Ok(Value::Bool(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value<'de>, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value<'de>, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Value<'de>, E> {
        Number::from_f64(value).map(Value::Number).ok_or_else(|| E::custom("number out of range"))
    }

    fn visit_borrowed_str<E>(self, value: &'de str) -> Result<Value<'de>, E> {
        Ok(Value::String(Cow::Borrowed(value)))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value<'de>, E> {
        Ok(Value::String(Cow::Owned(value.to_owned())))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value<'de>, A::Error> {
        let mut array = Vec::new();
        while let Some(item) = items.next_element()? {
            array.push(item);
        }
        Ok(Value::Array(array))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value<'de>, A::Error> {
        let mut members: Vec<(Cow<'de, str>, Value<'de>)> = Vec::new();
        let mut seen: HashSet<Cow<'de, str>> = HashSet::new();
        while let Some(JsonStr(key)) = entries.next_key()? {
            let repeated = if members.len() < LINEAR_KEYS {
                members.iter().any(|(earlier, _)| *earlier == key)
            } else {
                if seen.is_empty() {
                    seen.extend(members.iter().map(|(earlier, _)| earlier.clone()));
                }
                !seen.insert(key.clone())
            };
            if repeated {
                return Err(de::Error::custom("an object has the same member twice"));
            }
            if members.is_empty() {
                members.reserve_exact(USUAL_MEMBERS);
            }
            members.push((key, entries.next_value()?));
        }
        Ok(Value::Object(members))
    }
}

/// Tells `jsonschema` how to read [`Value`], so that validation needs no second tree.
pub(crate) struct Borrowed;

impl Json for Borrowed {
    type Node<'a> = &'a Value<'a>;
    type PreparedKey = String;
    type StringBuffer = Value<'static>;

    // A lookup compares with every earlier member, so one pass over the members is nearly always cheaper.
    const KEYS_PER_LOOKUP: usize = 4;

    fn prepare_key(key: &str) -> String {
        key.to_owned()
    }

    fn with_string_node<T>(buffer: &mut Value<'static>, string: &str, f: impl for<'n> FnOnce(&'n Value<'n>) -> T) -> T {
        *buffer = Value::String(Cow::Owned(string.to_owned()));
        f(buffer)
    }
}

impl<'a> Node<'a, Borrowed> for &'a Value<'a> {
    type Object = &'a [(Cow<'a, str>, Value<'a>)];
    type Array = &'a [Value<'a>];
    type Number = &'a Number;

    fn as_object(&self) -> Option<Self::Object> {
        if let Value::Object(members) = self { Some(members) } else { None }
    }

    fn as_array(&self) -> Option<Self::Array> {
        if let Value::Array(items) = self { Some(items) } else { None }
    }

    fn as_string(&self) -> Option<Cow<'a, str>> {
        if let Value::String(text) = self { Some(Cow::Borrowed(text)) } else { None }
    }

    fn as_number(&self) -> Option<&'a Number> {
        if let Value::Number(number) = self { Some(number) } else { None }
    }

    fn as_boolean(&self) -> Option<bool> {
        if let Value::Bool(value) = self { Some(*value) } else { None }
    }

    fn is_null(&self) -> bool {
        matches!(self, Value::Null)
    }

    fn json_type(&self) -> JsonType {
        match self {
            Value::Null => JsonType::Null,
            Value::Bool(_) => JsonType::Boolean,
            Value::Number(_) => JsonType::Number,
            Value::String(_) => JsonType::String,
            Value::Array(_) => JsonType::Array,
            Value::Object(_) => JsonType::Object,
        }
    }

    fn equals_value(&self, expected: &serde_json::Value) -> bool {
        // Handles `enum` and `const` of strings, the common case, without building the value.
        match (self, expected) {
            (Value::String(text), serde_json::Value::String(expected)) => text == expected,
            (Value::String(_), _) | (_, serde_json::Value::String(_)) => false,
            (other, expected) => jsonschema::json::cmp::equal(&other.to_value(), expected),
        }
    }

    fn to_value(&self) -> Cow<'a, serde_json::Value> {
        Cow::Owned(owned(self))
    }

    fn identity(&self) -> Option<NodeIdentity> {
        Some(NodeIdentity::new(std::ptr::from_ref::<Value<'a>>(self) as usize))
    }
}

fn owned(value: &Value<'_>) -> serde_json::Value {
    match value {
        Value::Null => serde_json::Value::Null,
        Value::Bool(value) => serde_json::Value::Bool(*value),
        Value::Number(number) => serde_json::Value::Number(number.clone()),
        Value::String(text) => serde_json::Value::String(text.clone().into_owned()),
        Value::Array(items) => serde_json::Value::Array(items.iter().map(owned).collect()),
        Value::Object(members) => serde_json::Value::Object(
            members.iter().map(|(name, value)| (name.clone().into_owned(), owned(value))).collect(),
        ),
    }
}

/// Iterates over an object's members.
pub(crate) struct Members<'a>(std::slice::Iter<'a, (Cow<'a, str>, Value<'a>)>);

impl<'a> Iterator for Members<'a> {
    type Item = (&'a str, &'a Value<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        self.0.next().map(|(name, value)| (&**name, value))
    }
}

impl<'a> Object<'a, Borrowed> for &'a [(Cow<'a, str>, Value<'a>)] {
    type Node = &'a Value<'a>;
    type MemberName = &'a str;
    type MembersIter = Members<'a>;

    fn len(&self) -> usize {
        <[_]>::len(self)
    }

    fn get(&self, key: &String) -> Option<&'a Value<'a>> {
        self.iter().find(|(name, _)| name == key).map(|(_, value)| value)
    }

    fn members(&self) -> Members<'a> {
        Members(self.iter())
    }
}

impl<'a> Array<'a, Borrowed> for &'a [Value<'a>] {
    type Node = &'a Value<'a>;
    type ElementsIter = std::slice::Iter<'a, Value<'a>>;

    fn len(&self) -> usize {
        <[_]>::len(self)
    }

    fn elements(&self) -> std::slice::Iter<'a, Value<'a>> {
        self.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn borrows_what_has_no_escapes() {
        let value = Value::parse(br#"{"plain":"text","esc\u0061ped":"a\nb"}"#).unwrap();
        let Value::Object(members) = &value else { panic!("an object") };
        assert!(matches!(&members[0], (Cow::Borrowed("plain"), Value::String(Cow::Borrowed("text")))));
        assert!(matches!(&members[1].0, Cow::Owned(name) if name == "escaped"));
        assert_eq!(value.get("escaped").and_then(Value::as_str), Some("a\nb"));
    }

    #[test]
    fn refuses_what_two_readers_would_read_differently() {
        for text in [
            r#"{"a":1,"a":2}"#,
            r#"{"a":1,"\u0061":2}"#,
            r#"{"x":[{"b":1,"b":1}]}"#,
            r#"{"n":1e400}"#,
            r#"{"s":"\ud800"}"#,
            r#"{"s":"\udc00\ud800"}"#,
            "{\"s\":\"a\nb\"}",
            r#"{"a":1} {"b":2}"#,
            r#"{"a":NaN}"#,
            "",
        ] {
            assert!(Value::parse(text.as_bytes()).is_err(), "{text}");
        }
        assert!(Value::parse(b"{\"s\":\"\xff\"}").is_err(), "not UTF-8");
    }

    #[test]
    fn finds_a_repeated_key_among_many() {
        let mut text: String = (0..100).map(|n| format!("\"k{n}\":{n},")).collect();
        text.push_str("\"last\":0}");
        text.insert(0, '{');
        assert!(Value::parse(text.as_bytes()).is_ok());
        for key in ["k3", "k40", "last"] {
            let repeated = text.replace("\"last\":0}", &format!("\"last\":0,\"{key}\":1}}"));
            assert!(Value::parse(repeated.as_bytes()).is_err(), "{key}");
        }
    }
}
