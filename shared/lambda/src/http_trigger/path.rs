//! The path and the query string of a request, as a URI may have them.
//!
//! Some gateways decode a part of the path before they pass it on, so it may have characters that a URI must not have.

use std::borrow::Cow;
use std::fmt::Write as _;

use percent_encoding::percent_decode_str;

/// Characters of a path besides letters and digits (RFC 3986, section 3.3).
const IN_PATH: &[u8] = b"-._~!$&'()*+,;=:@/";
/// The same for a query string (section 3.4).
const IN_QUERY: &[u8] = b"-._~!$&'()*+,;=:@/?";
/// Characters that mean nothing in a query string (section 2.3).
const UNRESERVED: &[u8] = b"-._~";

/// What the trigger says about the part of a path in front of the function's own.
#[derive(Clone, Copy, Debug)]
pub(super) struct Route<'r> {
    /// The template of the API's route, such as `/events/{id}` or `/{proxy+}`, if a route with a path matched.
    pub template: Option<&'r str>,
    /// The stage, if this kind of trigger puts it into the path.
    pub stage: Option<&'r str>,
}

/// The part of `path` that the function knows: without the stage and without the base path of a custom domain.
///
/// The route's template, filled in with its `parameters`, is the end of the path; what is in front of it is stage or
/// base path. Without a template, a first segment that is the stage is taken away.
pub(super) fn own<'p>(path: &'p str, route: Route<'_>, parameters: impl Fn(&str) -> Option<String>) -> &'p str {
    let filled = route.template.and_then(|template| filled(template, parameters));
    if let Some(own) = filled.and_then(|filled| ending(path, &filled)) {
        return own;
    }
    let after_stage = route.stage.and_then(|stage| path.strip_prefix('/')?.strip_prefix(stage));
    after_stage.filter(|rest| rest.is_empty() || rest.starts_with('/')).unwrap_or(path)
}

/// `template` with the values of its parameters; `None` if one is missing.
fn filled(template: &str, parameters: impl Fn(&str) -> Option<String>) -> Option<String> {
    let segments =
        template.split('/').map(|segment| match segment.strip_prefix('{').and_then(|name| name.strip_suffix('}')) {
            Some(name) => parameters(name.strip_suffix('+').unwrap_or(name)).map(Cow::Owned),
            None => Some(Cow::Borrowed(segment)),
        });
    Some(segments.collect::<Option<Vec<_>>>()?.join("/"))
}

/// The end of `path` that is `filled`. A gateway may have decoded either of them, and drops a slash at the end of the
/// template.
fn ending<'p>(path: &'p str, filled: &str) -> Option<&'p str> {
    let filled = filled.trim_end_matches('/');
    let decoded = percent_decode_str(path).decode_utf8_lossy();
    let front = [path, &decoded].into_iter().find_map(|path| path.trim_end_matches('/').strip_suffix(filled))?;
    // Only whole segments; neither stage nor base path is encoded, so they have as many slashes in `path`.
    let segments = front.matches('/').count();
    let own = path.match_indices('/').nth(segments).map_or("", |(at, _)| &path[at..]);
    (filled.is_empty() || filled.starts_with('/')).then_some(own)
}

/// `path` with everything encoded that no path has; what is already encoded stays. It begins with a slash.
pub(super) fn encoded(path: &str) -> String {
    let mut encoded = String::with_capacity(path.len() + 1);
    if !path.starts_with('/') {
        encoded.push('/');
    }
    append_encoded(&mut encoded, path, IN_PATH);
    encoded
}

/// Appends a query string as the client sent it.
pub(super) fn append_raw_query(uri: &mut String, query: &str) {
    if !query.is_empty() {
        uri.push('?');
        append_encoded(uri, query, IN_QUERY);
    }
}

/// Appends one parameter of the query string. `is_encoded` says that name and value are as the client sent them.
pub(super) fn append_parameter(uri: &mut String, name: &str, value: &str, is_encoded: bool) {
    uri.push(if uri.contains('?') { '&' } else { '?' });
    for (index, text) in [name, value].into_iter().enumerate() {
        if index == 1 {
            uri.push('=');
        }
        if is_encoded {
            append_encoded(uri, text, IN_QUERY);
        } else {
            text.bytes().for_each(|byte| append(uri, byte, UNRESERVED));
        }
    }
}

/// Appends `text`; what is already encoded stays.
fn append_encoded(out: &mut String, text: &str, allowed: &[u8]) {
    let bytes = text.as_bytes();
    for (index, byte) in bytes.iter().enumerate() {
        let is_escape = *byte == b'%'
            && bytes.get(index + 1..index + 3).is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit));
        if is_escape { out.push('%') } else { append(out, *byte, allowed) }
    }
}

fn append(out: &mut String, byte: u8, allowed: &[u8]) {
    if byte.is_ascii_alphanumeric() || allowed.contains(&byte) {
        out.push(char::from(byte));
    } else {
        // Writing into a string cannot fail.
        let _ = write!(out, "%{byte:02X}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_functions_own_path_is_behind_stage_and_base_path() {
        let own = |path, template, stage| {
            let parameters = |name: &str| match name {
                "proxy" => Some("events/batch".to_owned()),
                "id" => Some("order/1 é".to_owned()),
                "raw" => Some("order%2F1".to_owned()),
                _ => None,
            };
            own(path, Route { template, stage }, parameters)
        };
        for (path, template, stage, expected) in [
            // Nothing is in front of it.
            ("/events", None, None, "/events"),
            ("/events", Some("/events"), None, "/events"),
            ("/events/batch", Some("/{proxy+}"), Some("prod"), "/events/batch"),
            ("/", Some("/"), None, "/"),
            // The stage, with a route that has a path or with `$default`.
            ("/prod/events/batch", Some("/{proxy+}"), Some("prod"), "/events/batch"),
            ("/prod/events", None, Some("prod"), "/events"),
            ("/prod", None, Some("prod"), ""),
            ("/production/events", None, Some("prod"), "/production/events"),
            // A stage with the name of a path: the route tells them apart.
            ("/events/batch", Some("/{proxy+}"), Some("events"), "/events/batch"),
            ("/events/events/batch", Some("/{proxy+}"), Some("events"), "/events/batch"),
            // Base paths, also of several segments.
            ("/v1/events", Some("/events"), None, "/events"),
            ("/v1/eu/events/batch", Some("/{proxy+}"), None, "/events/batch"),
            ("/v1/events/", Some("/events"), None, "/events/"),
            ("/v1/", Some("/"), None, "/"),
            // Encoded in the path, decoded in the parameter, and the other way round.
            ("/v1/events/order%2F1%20%C3%A9", Some("/events/{id}"), None, "/events/order%2F1%20%C3%A9"),
            ("/v1/events/order/1 é", Some("/events/{id}"), None, "/events/order/1 é"),
            ("/v1/events/order%2F1", Some("/events/{raw}"), None, "/events/order%2F1"),
            // A template that does not fit says nothing.
            ("/other", Some("/events"), None, "/other"),
            ("/v1-events", Some("events"), None, "/v1-events"),
            ("/prod/events/x", Some("/events/{missing}"), Some("prod"), "/events/x"),
        ] {
            assert_eq!(own(path, template, stage), expected, "{path} {template:?} {stage:?}");
        }
    }

    #[test]
    fn a_path_has_only_what_a_uri_may_have() {
        for (path, expected) in [
            ("/events", "/events"),
            ("", "/"),
            ("events", "/events"),
            ("/events/order%2F1%20%C3%A9", "/events/order%2F1%20%C3%A9"),
            ("/events/order/1 é", "/events/order/1%20%C3%A9"),
            ("/events/100%", "/events/100%25"),
            ("/events/a?b#c", "/events/a%3Fb%23c"),
            ("/events/%zz%4", "/events/%25zz%254"),
            ("/events/\0\u{7f}\"<>", "/events/%00%7F%22%3C%3E"),
        ] {
            assert_eq!(encoded(path), expected);
        }
    }

    #[test]
    fn a_query_string_is_kept_or_encoded() {
        let mut raw = "/".to_owned();
        append_raw_query(&mut raw, "a=1%202&b=ä#?");
        assert_eq!(raw, "/?a=1%202&b=%C3%A4%23?");
        let mut decoded = "/".to_owned();
        append_parameter(&mut decoded, "a b", "1&2=3+%20", false);
        append_parameter(&mut decoded, "c", "", false);
        assert_eq!(decoded, "/?a%20b=1%262%3D3%2B%2520&c=");
        let mut encoded = "/".to_owned();
        append_parameter(&mut encoded, "a", "1%202+3", true);
        assert_eq!(encoded, "/?a=1%202+3");
        let mut none = "/".to_owned();
        append_raw_query(&mut none, "");
        assert_eq!(none, "/");
    }
}
