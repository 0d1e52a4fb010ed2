//! Which records a mapping sends to its function (`FilterCriteria`; Lambda Developer Guide, "Filtering events from Amazon
//! MSK and self-managed Apache Kafka event sources"). A record is sent if one of the filters takes it.

use serde_json::Value;

use crate::error::EsmError;
use crate::pattern::{Fields, Rule};

/// AWS's limit of one mapping after a request for more; without one it is [`USUAL_FILTERS`].
const MAX_FILTERS: usize = 10;
/// AWS's limit of a new account.
pub(crate) const USUAL_FILTERS: usize = 5;
/// AWS's maximum length of a pattern, in characters.
const MAX_PATTERN: usize = 4096;
/// The only part of a Kafka record that AWS filters by.
const VALUE: &str = "value";

/// The filters of a mapping. Without any, every record is sent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RecordFilters(Vec<Fields>);

/// The value of a record, as AWS tells its format.
enum Content<'a> {
    /// An object or an array.
    Json(Value),
    Text(&'a str),
    /// Not UTF-8, or no value at all.
    Other,
}

impl RecordFilters {
    /// Reads patterns, each a JSON object as text.
    ///
    /// # Errors
    /// [`EsmError::Config`] names the filter, and the part of it that cannot be read or that Kafka cannot filter by.
    pub fn parse<'a>(patterns: impl IntoIterator<Item = &'a str>) -> Result<Self, EsmError> {
        let filters = patterns
            .into_iter()
            .enumerate()
            .map(|(index, pattern)| {
                parse(pattern).map_err(|reason| EsmError::Config { reason: format!("filter {}: {reason}", index + 1) })
            })
            .collect::<Result<Vec<_>, _>>()?;
        if filters.len() > MAX_FILTERS {
            return Err(EsmError::Config { reason: format!("a mapping may have at most {MAX_FILTERS} filters") });
        }
        Ok(RecordFilters(filters))
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether the record is sent. Its value is parsed once, whatever the filters are.
    pub(crate) fn take(&self, value: Option<&[u8]>) -> bool {
        if self.0.is_empty() {
            return true;
        }
        let content = Content::of(value);
        // Where a pattern and a value have different formats, AWS looks at the metadata only, and Kafka's cannot be
        // filtered by: the record is sent.
        let matches = |_: &str, rule: &Rule| match (&content, rule) {
            (Content::Json(value), Rule::Nested(_)) => rule.matches(Some(value)),
            (Content::Text(text), Rule::Leaf(matchers)) => matchers.iter().any(|matcher| matcher.matches_text(text)),
            (Content::Json(_), Rule::Leaf(_)) | (Content::Text(_), Rule::Nested(_)) | (Content::Other, _) => true,
        };
        self.0.iter().any(|filter| filter.all(&matches))
    }
}

impl<'a> Content<'a> {
    fn of(value: Option<&'a [u8]>) -> Self {
        let Some(text) = value.and_then(|value| std::str::from_utf8(value).ok()) else { return Content::Other };
        // A number, a literal or a quoted string is plain text: the patterns for such a value are those for text.
        if !text.trim_start().starts_with(['{', '[']) {
            return Content::Text(text);
        }
        serde_json::from_str(text).map_or(Content::Text(text), Content::Json)
    }
}

fn parse(pattern: &str) -> Result<Fields, String> {
    if pattern.chars().count() > MAX_PATTERN {
        return Err(format!("a pattern may have at most {MAX_PATTERN} characters"));
    }
    let json: Value = serde_json::from_str(pattern).map_err(|error| format!("the pattern is not JSON: {error}"))?;
    let fields = Fields::parse(&json, "")?;
    if let Some(name) = fields.names().find(|name| *name != VALUE) {
        return Err(format!("{name}: Kafka records can be filtered by {VALUE:?} only"));
    }
    Ok(fields)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn takes(patterns: &[&str], value: &str) -> bool {
        RecordFilters::parse(patterns.iter().copied()).unwrap().take(Some(value.as_bytes()))
    }

    fn refused(pattern: &str) -> String {
        RecordFilters::parse([pattern]).unwrap_err().to_string()
    }

    #[test]
    fn without_a_filter_every_record_is_sent() {
        assert!(RecordFilters::default().take(None));
        assert!(takes(&[], "x"));
    }

    #[test]
    fn one_filter_that_takes_a_record_is_enough() {
        let patterns = [r#"{"value":{"a":[1]}}"#, r#"{"value":{"b":[2],"c":[3]}}"#];
        assert!(takes(&patterns, r#"{"a":1}"#));
        assert!(takes(&patterns, r#"{"b":2,"c":3}"#));
        assert!(!takes(&patterns, r#"{"b":2}"#), "all fields of a filter must match");
    }

    #[test]
    fn an_or_may_stand_above_the_value() {
        let either = r#"{"$or":[{"value":{"a":[1]}},{"value":["x"]}]}"#;
        assert!(takes(&[either], r#"{"a":1}"#));
        assert!(takes(&[either], "x"));
    }

    #[test]
    fn a_record_whose_format_is_not_that_of_the_pattern_is_sent() {
        let (json, text) = (r#"{"value":{"a":[1]}}"#, r#"{"value":["x"]}"#);
        assert!(takes(&[json], "no json"));
        assert!(takes(&[json], "17"), "a number is plain text");
        assert!(takes(&[json], r#"{"a":2"#), "neither is what cannot be parsed");
        assert!(takes(&[text], r#"{"a":1}"#));
        for pattern in [json, text] {
            let filters = RecordFilters::parse([pattern]).unwrap();
            assert!(filters.take(None), "a tombstone");
            assert!(filters.take(Some(b"\xff")), "not UTF-8");
        }
    }

    #[test]
    fn plain_text_is_compared_as_it_is() {
        assert!(takes(&[r#"{"value":["x","y"]}"#], "y"));
        assert!(!takes(&[r#"{"value":["x"]}"#], "x "));
        assert!(takes(&[r#"{"value":["17"]}"#], "17"));
        assert!(!takes(&[r#"{"value":[17]}"#], "17"), "text is no number");
        assert!(takes(&[r#"{"value":[{"anything-but":["error"]}]}"#], "fine"));
        assert!(!takes(&[r#"{"value":[{"anything-but":["error"]}]}"#], "error"));
        assert!(takes(&[r#"{"value":[""]}"#], ""));
        assert!(takes(&[r#"{"value":[{"prefix":"WARN "}]}"#], "WARN disk"));
    }

    #[test]
    fn what_is_no_pattern_of_kafka_is_refused_and_named() {
        for (pattern, expected) in [
            ("{", "filter 1: the pattern is not JSON"),
            ("[]", "must be an object"),
            ("{}", "may not be empty"),
            (r#"{"key":["a"]}"#, "key: Kafka records can be filtered by \"value\" only"),
            (r#"{"headers":{"a":["b"]},"value":["x"]}"#, "headers: Kafka"),
            (r#"{"$or":[{"value":["x"]},{"topic":["t"]}]}"#, "topic: Kafka"),
        ] {
            let error = refused(pattern);
            assert!(error.contains(expected), "{pattern}: {error}");
        }
    }

    #[test]
    fn more_than_ten_filters_or_4096_characters_are_refused() {
        let pattern = r#"{"value":["x"]}"#;
        assert_eq!(RecordFilters::parse([pattern; 10]).unwrap().len(), 10);
        let error = RecordFilters::parse([pattern; 11]).unwrap_err().to_string();
        assert!(error.contains("at most 10"), "{error}");
        let long = |characters: usize| format!(r#"{{"value":["{}"]}}"#, "ä".repeat(characters - 14));
        assert_eq!(long(4096).chars().count(), 4096);
        RecordFilters::parse([&*long(4096)]).unwrap();
        assert!(refused(&long(4097)).contains("at most 4096 characters"));
    }
}
