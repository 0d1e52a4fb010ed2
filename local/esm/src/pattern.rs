//! Event patterns: the operators that AWS documents for Lambda ("Filter rule syntax" in the Developer Guide), read with
//! the meaning that AWS's own engine gives them (github.com/aws/event-ruler). Every other operator is refused.

use std::cmp::Ordering;

use serde_json::{Map, Number, Value};

/// AWS compares numbers within these bounds.
const NUMERIC_BOUND: f64 = 5.0e9;
const OR: &str = "$or";

/// Conditions that must all hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fields(Vec<Condition>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Condition {
    Field(String, Rule),
    /// One of these must hold.
    Or(Vec<Fields>),
}

/// What a field must be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Rule {
    /// An object whose fields match.
    Nested(Fields),
    /// A value that one of these matches.
    Leaf(Vec<Matcher>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Matcher {
    Equals(Value),
    /// In lower case.
    EqualsIgnoreCase(String),
    Prefix(String),
    Suffix(String),
    AnythingBut(Vec<Value>),
    AnythingButPrefix(String),
    Numeric(Vec<(Comparison, Number)>),
    Exists(bool),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Comparison {
    Less,
    AtMost,
    Equal,
    AtLeast,
    More,
}

impl Comparison {
    fn parse(text: &str) -> Option<Self> {
        match text {
            "<" => Some(Comparison::Less),
            "<=" => Some(Comparison::AtMost),
            "=" => Some(Comparison::Equal),
            ">=" => Some(Comparison::AtLeast),
            ">" => Some(Comparison::More),
            _ => None,
        }
    }

    fn holds(self, order: Ordering) -> bool {
        match self {
            Comparison::Less => order.is_lt(),
            Comparison::AtMost => order.is_le(),
            Comparison::Equal => order.is_eq(),
            Comparison::AtLeast => order.is_ge(),
            Comparison::More => order.is_gt(),
        }
    }
}

impl Fields {
    /// Reads a pattern. `path` is where it stands, for the error.
    pub(crate) fn parse(pattern: &Value, path: &str) -> Result<Self, String> {
        let Value::Object(fields) = pattern else { return Err(at(path, "it must be an object")) };
        if fields.is_empty() {
            return Err(at(path, "it may not be empty"));
        }
        fields.iter().map(|(name, rule)| Condition::parse(name, rule, path)).collect::<Result<_, _>>().map(Fields)
    }

    /// Whether every condition holds, by the rules of the fields.
    pub(crate) fn all(&self, matches: &dyn Fn(&str, &Rule) -> bool) -> bool {
        self.0.iter().all(|condition| match condition {
            Condition::Field(name, rule) => matches(name, rule),
            Condition::Or(alternatives) => alternatives.iter().any(|fields| fields.all(matches)),
        })
    }

    fn match_object(&self, object: Option<&Map<String, Value>>) -> bool {
        self.all(&|name, rule| rule.matches(object.and_then(|object| object.get(name))))
    }

    /// The fields that are compared, at this level.
    pub(crate) fn names(&self) -> Box<dyn Iterator<Item = &str> + '_> {
        Box::new(self.0.iter().flat_map(|condition| match condition {
            Condition::Field(name, _) => Box::new(std::iter::once(name.as_str())),
            Condition::Or(alternatives) => {
                Box::new(alternatives.iter().flat_map(Fields::names)) as Box<dyn Iterator<Item = &str>>
            }
        }))
    }
}

impl Condition {
    fn parse(name: &str, rule: &Value, path: &str) -> Result<Self, String> {
        let path = if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
        if name == OR {
            return match rule {
                Value::Array(alternatives) if alternatives.len() >= 2 => {
                    alternatives.iter().map(|fields| Fields::parse(fields, &path)).collect::<Result<_, _>>()
                }
                _ => Err(at(&path, "it must be a list of at least two objects")),
            }
            .map(Condition::Or);
        }
        let rule = match rule {
            Value::Object(_) => Rule::Nested(Fields::parse(rule, &path)?),
            Value::Array(matchers) if matchers.is_empty() => return Err(at(&path, "its list may not be empty")),
            Value::Array(matchers) => Rule::Leaf(
                matchers.iter().map(Matcher::parse).collect::<Result<_, _>>().map_err(|reason| at(&path, &reason))?,
            ),
            _ => return Err(at(&path, "it must be an object, or a list of values")),
        };
        Ok(Condition::Field(name.to_owned(), rule))
    }
}

impl Rule {
    /// Whether a field matches; `None` if it is missing. A list matches if one of its elements does.
    pub(crate) fn matches(&self, value: Option<&Value>) -> bool {
        match self {
            Rule::Nested(fields) => match value {
                Some(Value::Object(object)) => fields.match_object(Some(object)),
                Some(Value::Array(elements)) if elements.iter().any(is_nested) => {
                    elements.iter().filter(|element| is_nested(element)).any(|element| self.matches(Some(element)))
                }
                // Its fields are missing, which may be what the pattern asks for.
                _ => fields.match_object(None),
            },
            Rule::Leaf(matchers) => {
                let mut leaves = Vec::new();
                collect_leaves(value, &mut leaves);
                matchers.iter().any(|matcher| match matcher {
                    Matcher::Exists(exists) => leaves.is_empty() != *exists,
                    _ => leaves.iter().any(|leaf| matcher.matches(leaf)),
                })
            }
        }
    }
}

fn is_nested(value: &Value) -> bool {
    value.is_object() || value.is_array()
}

/// The values that operators are applied to: those that are neither object nor list.
fn collect_leaves<'a>(value: Option<&'a Value>, leaves: &mut Vec<&'a Value>) {
    match value {
        None | Some(Value::Object(_)) => {}
        Some(Value::Array(elements)) => elements.iter().for_each(|element| collect_leaves(Some(element), leaves)),
        Some(leaf) => leaves.push(leaf),
    }
}

impl Matcher {
    fn parse(matcher: &Value) -> Result<Self, String> {
        let Value::Object(operator) = matcher else {
            return if matcher.is_array() {
                Err("a list may not contain a list".to_owned())
            } else {
                Ok(Matcher::Equals(matcher.clone()))
            };
        };
        let mut operators = operator.iter();
        let (Some((name, operand)), None) = (operators.next(), operators.next()) else {
            return Err("an operator must be an object with one field".to_owned());
        };
        match name.as_str() {
            "prefix" => text(name, operand).map(Matcher::Prefix),
            "suffix" => text(name, operand).map(Matcher::Suffix),
            "equals-ignore-case" => text(name, operand).map(|text| Matcher::EqualsIgnoreCase(text.to_lowercase())),
            "exists" => operand.as_bool().map(Matcher::Exists).ok_or_else(|| "exists must be true or false".to_owned()),
            "anything-but" => anything_but(operand),
            "numeric" => numeric(operand).map(Matcher::Numeric),
            _ => Err(format!("{name:?} is no operator that AWS documents for Lambda")),
        }
    }

    /// Whether one value, neither an object nor a list, matches.
    fn matches(&self, leaf: &Value) -> bool {
        match self {
            Matcher::Equals(value) => equal(value, leaf),
            Matcher::AnythingBut(values) => !values.iter().any(|value| equal(value, leaf)),
            Matcher::AnythingButPrefix(prefix) => !leaf.as_str().is_some_and(|text| text.starts_with(&**prefix)),
            Matcher::Numeric(comparisons) => match leaf {
                Value::Number(number) => {
                    comparisons.iter().all(|(comparison, bound)| comparison.holds(compare(number, bound)))
                }
                _ => false,
            },
            Matcher::Exists(exists) => *exists,
            Matcher::EqualsIgnoreCase(_) | Matcher::Prefix(_) | Matcher::Suffix(_) => {
                leaf.as_str().is_some_and(|text| self.matches_text(text))
            }
        }
    }

    /// Whether a string matches.
    pub(crate) fn matches_text(&self, text: &str) -> bool {
        match self {
            Matcher::Equals(value) => value.as_str() == Some(text),
            Matcher::EqualsIgnoreCase(expected) => text.to_lowercase() == *expected,
            Matcher::Prefix(prefix) => text.starts_with(&**prefix),
            Matcher::Suffix(suffix) => text.ends_with(&**suffix),
            Matcher::AnythingBut(values) => !values.iter().any(|value| value.as_str() == Some(text)),
            Matcher::AnythingButPrefix(prefix) => !text.starts_with(&**prefix),
            Matcher::Numeric(_) => false,
            Matcher::Exists(exists) => *exists,
        }
    }
}

/// One value, several of one kind, or a prefix.
fn anything_but(operand: &Value) -> Result<Matcher, String> {
    let refuse = || Err("anything-but must have a string, a number, a list of one of them, or a prefix".to_owned());
    match operand {
        Value::String(_) | Value::Number(_) => Ok(Matcher::AnythingBut(vec![operand.clone()])),
        Value::Array(values) if !values.is_empty() => {
            if values.iter().all(Value::is_string) || values.iter().all(Value::is_number) {
                Ok(Matcher::AnythingBut(values.clone()))
            } else {
                refuse()
            }
        }
        Value::Object(operator) => match operator.iter().next() {
            Some((name, prefix)) if name == "prefix" && operator.len() == 1 => {
                text("prefix", prefix).map(Matcher::AnythingButPrefix)
            }
            _ => refuse(),
        },
        _ => refuse(),
    }
}

/// `["=", 1]`, `["<", 1]`, or a range from below: `[">", 1, "<=", 2]`.
fn numeric(operand: &Value) -> Result<Vec<(Comparison, Number)>, String> {
    let refuse = || "numeric must be a list such as [\"=\", 1], [\"<\", 1] or [\">=\", 1, \"<\", 2]".to_owned();
    let Value::Array(terms) = operand else { return Err(refuse()) };
    let (pairs, []) = terms.as_chunks::<2>() else { return Err(refuse()) };
    let comparisons = pairs
        .iter()
        .map(|[comparison, bound]| {
            let comparison = comparison.as_str().and_then(Comparison::parse).ok_or_else(refuse)?;
            let Value::Number(bound) = bound else { return Err(refuse()) };
            if bound.as_f64().is_none_or(|bound| bound.abs() > NUMERIC_BOUND) {
                return Err("numeric compares numbers from -5.0e9 to 5.0e9 only".to_owned());
            }
            Ok((comparison, bound.clone()))
        })
        .collect::<Result<Vec<_>, _>>()?;
    match &*comparisons {
        [_] => Ok(comparisons),
        [(Comparison::More | Comparison::AtLeast, low), (Comparison::Less | Comparison::AtMost, high)] => {
            if compare(low, high).is_lt() {
                Ok(comparisons)
            } else {
                Err("numeric has a range in which no number is".to_owned())
            }
        }
        _ => Err(refuse()),
    }
}

fn text(operator: &str, operand: &Value) -> Result<String, String> {
    match operand {
        Value::String(text) if !text.is_empty() => Ok(text.clone()),
        _ => Err(format!("{operator} must have a string that is not empty")),
    }
}

fn equal(one: &Value, other: &Value) -> bool {
    match (one, other) {
        (Value::Number(one), Value::Number(other)) => compare(one, other).is_eq(),
        _ => one == other,
    }
}

/// Compares by value: 300, 300.0 and 3e2 are equal. Integers are compared exactly.
fn compare(one: &Number, other: &Number) -> Ordering {
    if let (Some(one), Some(other)) = (one.as_i128(), other.as_i128()) {
        return one.cmp(&other);
    }
    // Every number of JSON that is parsed here has a value, and none is NaN.
    let value = |number: &Number| number.as_f64().unwrap_or_default();
    value(one).partial_cmp(&value(other)).unwrap_or(Ordering::Equal)
}

fn at(path: &str, reason: &str) -> String {
    if path.is_empty() { format!("the pattern: {reason}") } else { format!("{path}: {reason}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(pattern: &str) -> Result<Fields, String> {
        Fields::parse(&serde_json::from_str(pattern).unwrap(), "value")
    }

    fn matches(pattern: &str, value: &str) -> bool {
        Rule::Nested(parse(pattern).unwrap()).matches(Some(&serde_json::from_str(value).unwrap()))
    }

    /// Pattern, values that match, values that do not.
    type Row = (&'static str, &'static [&'static str], &'static [&'static str]);

    fn check(table: &[Row]) {
        for (pattern, matching, others) in table {
            for (values, expected) in [(matching, true), (others, false)] {
                for value in *values {
                    assert_eq!(matches(pattern, value), expected, "{pattern} and {value}");
                }
            }
        }
    }

    #[test]
    fn operators() {
        check(&[
            (r#"{"a":[null]}"#, &[r#"{"a":null}"#], &[r#"{"a":""}"#, r#"{"a":"null"}"#, "{}"]),
            (r#"{"a":[""]}"#, &[r#"{"a":""}"#], &[r#"{"a":null}"#, r#"{"a":" "}"#, "{}"]),
            (
                r#"{"a":["x","y"]}"#,
                &[r#"{"a":"x"}"#, r#"{"a":"y","b":1}"#],
                &[r#"{"a":"X"}"#, r#"{"a":"xy"}"#, r#"{"b":"x"}"#, "{}"],
            ),
            (r#"{"a":[true]}"#, &[r#"{"a":true}"#], &[r#"{"a":"true"}"#, r#"{"a":false}"#, r#"{"a":1}"#]),
            (r#"{"a":["x"],"b":[1]}"#, &[r#"{"b":1,"a":"x"}"#], &[r#"{"a":"x"}"#, r#"{"a":"x","b":2}"#]),
            (
                r#"{"a":[{"prefix":"us-"}]}"#,
                &[r#"{"a":"us-east-1"}"#, r#"{"a":"us-"}"#],
                &[r#"{"a":"eu-us-"}"#, r#"{"a":"us"}"#, r#"{"a":["eu-"]}"#, r#"{"a":1}"#],
            ),
            (r#"{"a":[{"suffix":".png"}]}"#, &[r#"{"a":"b.png"}"#], &[r#"{"a":".png "}"#, r#"{"a":null}"#]),
            (
                r#"{"a":[{"equals-ignore-case":"Straße"}]}"#,
                &[r#"{"a":"STRAßE"}"#, r#"{"a":"straße"}"#],
                &[r#"{"a":"strasse"}"#, r#"{"a":"straße "}"#],
            ),
            (
                r#"{"a":[{"anything-but":["x","y"]}]}"#,
                &[r#"{"a":"z"}"#, r#"{"a":1}"#, r#"{"a":null}"#, r#"{"a":["x","z"]}"#],
                &[r#"{"a":"x"}"#, r#"{"a":["x","y"]}"#, "{}", r#"{"a":{}}"#],
            ),
            (r#"{"a":[{"anything-but":"x"}]}"#, &[r#"{"a":"y"}"#], &[r#"{"a":"x"}"#]),
            (r#"{"a":[{"anything-but":[1,2]}]}"#, &[r#"{"a":3}"#, r#"{"a":"1"}"#], &[r#"{"a":1}"#, r#"{"a":2.0}"#]),
            (
                r#"{"a":[{"anything-but":{"prefix":"us-"}}]}"#,
                &[r#"{"a":"eu-1"}"#, r#"{"a":5}"#],
                &[r#"{"a":"us-1"}"#, "{}"],
            ),
            (
                r#"{"a":[{"exists":true}]}"#,
                &[r#"{"a":null}"#, r#"{"a":""}"#, r#"{"a":[1]}"#],
                // It asks for a leaf.
                &["{}", r#"{"a":{"b":1}}"#, r#"{"a":[]}"#],
            ),
            (r#"{"a":[{"exists":false}]}"#, &["{}", r#"{"a":{"b":1}}"#, r#"{"a":[]}"#], &[r#"{"a":null}"#]),
            (r#"{"a":[{"exists":false},"x"]}"#, &["{}", r#"{"a":"x"}"#], &[r#"{"a":"y"}"#]),
        ]);
    }

    #[test]
    fn numbers_compare_by_value() {
        check(&[
            (
                r#"{"a":[300]}"#,
                &[r#"{"a":300}"#, r#"{"a":300.0}"#, r#"{"a":3.0e2}"#],
                &[r#"{"a":"300"}"#, r#"{"a":300.5}"#, r#"{"a":-300}"#],
            ),
            (r#"{"a":[{"numeric":["=",3.018e2]}]}"#, &[r#"{"a":301.8}"#], &[r#"{"a":301}"#, r#"{"a":"301.8"}"#]),
            (
                r#"{"a":[{"numeric":[">",10,"<=",20]}]}"#,
                &[r#"{"a":10.5}"#, r#"{"a":20}"#, r#"{"a":20.0}"#],
                &[r#"{"a":10}"#, r#"{"a":20.5}"#, r#"{"a":"15"}"#, r#"{"a":null}"#],
            ),
            (r#"{"a":[{"numeric":["<",-1.5]}]}"#, &[r#"{"a":-2}"#], &[r#"{"a":-1.5}"#, r#"{"a":0}"#]),
            (r#"{"a":[{"numeric":[">=",0,"<",1]}]}"#, &[r#"{"a":0}"#, r#"{"a":-0.0}"#], &[r#"{"a":1}"#]),
            // Neighbours that have the same nearest double.
            (r#"{"a":[9007199254740993]}"#, &[r#"{"a":9007199254740993}"#], &[r#"{"a":9007199254740992}"#]),
            (r#"{"a":[18446744073709551615]}"#, &[r#"{"a":18446744073709551615}"#], &[r#"{"a":-1}"#]),
        ]);
    }

    #[test]
    fn objects_lists_and_or() {
        check(&[
            (
                r#"{"a":{"b":["x"]}}"#,
                &[r#"{"a":{"b":"x","c":1}}"#, r#"{"a":[{"b":"y"},{"b":"x"}]}"#, r#"{"a":[[{"b":"x"}]]}"#],
                &[r#"{"a":"x"}"#, r#"{"b":"x"}"#, r#"{"a":{"c":"x"}}"#],
            ),
            // The fields must match in one element.
            (r#"{"a":{"b":[1],"c":[2]}}"#, &[r#"{"a":[{"b":1,"c":2}]}"#], &[r#"{"a":[{"b":1,"c":3},{"b":4,"c":2}]}"#]),
            (r#"{"a":{"b":[{"exists":false}]}}"#, &["{}", r#"{"a":1}"#, r#"{"a":{}}"#], &[r#"{"a":{"b":1}}"#]),
            (r#"{"a":["x"]}"#, &[r#"{"a":["y","x"]}"#, r#"{"a":[["x"]]}"#], &[r#"{"a":[]}"#, r#"{"a":[{"x":"x"}]}"#]),
            (
                r#"{"s":["x"],"$or":[{"a":[1]},{"b":[2],"c":[3]}]}"#,
                &[r#"{"s":"x","a":1}"#, r#"{"s":"x","b":2,"c":3}"#],
                &[r#"{"s":"x","b":2}"#, r#"{"a":1}"#, r#"{"s":"x"}"#],
            ),
            (
                r#"{"a":{"$or":[{"b":[1]},{"$or":[{"c":[1]},{"d":[1]}]}]}}"#,
                &[r#"{"a":{"d":1}}"#, r#"{"a":{"b":1}}"#],
                &[r#"{"a":{"e":1}}"#, r#"{"d":1}"#],
            ),
        ]);
    }

    #[test]
    fn what_is_no_pattern_is_refused_with_its_place() {
        for (pattern, expected) in [
            (r#"{"a":{}}"#, "value.a: it may not be empty"),
            (r#"{"a":[]}"#, "value.a: its list may not be empty"),
            (r#"{"a":"x"}"#, "value.a: it must be an object, or a list"),
            (r#"{"a":[["x"]]}"#, "a list may not contain a list"),
            (r#"{"a":{"b":[{"wildcard":"*"}]}}"#, "value.a.b: \"wildcard\" is no operator"),
            (r#"{"a":[{"cidr":"10.0.0.0/8"}]}"#, "\"cidr\" is no operator"),
            (r#"{"a":[{"prefix":"x","suffix":"y"}]}"#, "an object with one field"),
            (r#"{"a":[{"prefix":1}]}"#, "prefix must have a string"),
            (r#"{"a":[{"prefix":""}]}"#, "prefix must have a string"),
            (r#"{"a":[{"suffix":{"equals-ignore-case":"x"}}]}"#, "suffix must have a string"),
            (r#"{"a":[{"exists":"true"}]}"#, "exists must be true or false"),
            (r#"{"a":[{"anything-but":[]}]}"#, "anything-but must have"),
            (r#"{"a":[{"anything-but":["x",1]}]}"#, "anything-but must have"),
            (r#"{"a":[{"anything-but":{"suffix":"x"}}]}"#, "anything-but must have"),
            (r#"{"a":[{"anything-but":null}]}"#, "anything-but must have"),
            (r#"{"a":[{"numeric":5}]}"#, "numeric must be a list"),
            (r#"{"a":[{"numeric":[]}]}"#, "numeric must be a list"),
            (r#"{"a":[{"numeric":["<"]}]}"#, "numeric must be a list"),
            (r#"{"a":[{"numeric":["!=",1]}]}"#, "numeric must be a list"),
            (r#"{"a":[{"numeric":["<","1"]}]}"#, "numeric must be a list"),
            (r#"{"a":[{"numeric":["<",1,">",0]}]}"#, "numeric must be a list"),
            (r#"{"a":[{"numeric":["=",1,"<",2]}]}"#, "numeric must be a list"),
            (r#"{"a":[{"numeric":[">",2,"<",2]}]}"#, "no number"),
            (r#"{"a":[{"numeric":["<",5000000001]}]}"#, "-5.0e9 to 5.0e9"),
            (r#"{"$or":[{"a":[1]}]}"#, "value.$or: it must be a list of at least two"),
            (r#"{"$or":{"a":[1]}}"#, "value.$or: it must be a list of at least two"),
            (r#"{"$or":[{"a":[1]},{}]}"#, "value.$or: it may not be empty"),
        ] {
            let error = parse(pattern).unwrap_err();
            assert!(error.contains(expected), "{pattern}: {error}");
        }
    }
}
