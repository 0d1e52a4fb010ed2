//! How a request came: over TLS or not, and from one of our own pages or not. Pure.

use std::net::IpAddr;

use axum::http::{HeaderMap, HeaderName, HeaderValue, header};

const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
/// Source: <https://www.w3.org/TR/fetch-metadata/>
const FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// What is between the browser and us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Channel {
    /// TLS, as the gateway, load balancer or ingress says that ended it. A client that lies about it harms only itself.
    Https,
    /// This machine: `make run`, `kubectl port-forward`.
    Loopback,
    /// Others can read a key and a session on the way.
    Open,
}

impl Channel {
    pub fn of(headers: &HeaderMap) -> Self {
        let forwarded = headers.get(FORWARDED_PROTO).and_then(|value| value.to_str().ok());
        let is_https = |value: &str| value.split(',').next().is_some_and(|first| first.trim() == "https");
        if forwarded.is_some_and(is_https) {
            Channel::Https
        } else if host(headers).is_some_and(is_loopback) {
            Channel::Loopback
        } else {
            Channel::Open
        }
    }

    /// The name of the cookie with the session. Browsers take one of `__Host-` over TLS only, and from this host alone.
    pub fn cookie_name(self) -> &'static str {
        match self {
            Channel::Https | Channel::Open => "__Host-forebay-console",
            Channel::Loopback => "forebay-console",
        }
    }

    /// The value of `Set-Cookie` with the text of a session, which lasts so long; none ends it.
    pub fn set_cookie(self, session: &str, max_age_sec: u64) -> Option<HeaderValue> {
        let secure = if self == Channel::Loopback { "" } else { "; Secure" };
        let name = self.cookie_name();
        let text = format!("{name}={session}; Path=/; Max-Age={max_age_sec}; HttpOnly; SameSite=Strict{secure}");
        HeaderValue::try_from(text).ok()
    }

    /// The texts that may be the session of a request. There may be others of this name, and any bytes in other cookies.
    pub fn session_texts(self, headers: &HeaderMap) -> impl Iterator<Item = &str> {
        let cookies =
            headers.get_all(header::COOKIE).iter().flat_map(|value| value.as_bytes().split(|byte| *byte == b';'));
        let pairs = cookies.filter_map(|pair| std::str::from_utf8(pair).ok()?.trim().split_once('='));
        pairs.filter(move |(name, _)| *name == self.cookie_name()).map(|(_, value)| value)
    }
}

fn host(headers: &HeaderMap) -> Option<&str> {
    headers.get(header::HOST)?.to_str().ok()
}

fn is_loopback(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(address) => address.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    };
    name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// Whether one of our own pages sent the form. Browsers say so themselves, and a page of another site cannot change it.
pub(super) fn is_from_our_pages(headers: &HeaderMap) -> bool {
    match headers.get(FETCH_SITE) {
        Some(site) => site == "same-origin",
        // Browsers from before 2023.
        None => {
            let origin = headers.get(header::ORIGIN).and_then(|value| value.to_str().ok());
            let of_origin = origin.and_then(|origin| origin.split_once("://")).map(|(_, host)| host);
            of_origin.is_some() && of_origin == host(headers)
        }
    }
}

/// Whether a link or a form of another site led here.
pub(super) fn is_from_another_site(headers: &HeaderMap) -> bool {
    headers.get(FETCH_SITE).is_some_and(|site| site == "cross-site" || site == "same-site")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let pair = |&(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value));
        pairs.iter().map(pair).collect()
    }

    #[test]
    fn a_session_begins_over_tls_or_on_this_machine_only() {
        for (pairs, channel) in [
            (&[("host", "api.example.com"), ("x-forwarded-proto", "https")][..], Channel::Https),
            (&[("host", "api.example.com"), ("x-forwarded-proto", "https, http")], Channel::Https),
            (&[("host", "api.example.com"), ("x-forwarded-proto", "http, https")], Channel::Open),
            (&[("host", "api.example.com")], Channel::Open),
            (&[("host", "localhost.example.com")], Channel::Open),
            (&[("host", "127.example.com")], Channel::Open),
            (&[], Channel::Open),
            (&[("host", "localhost:8081")], Channel::Loopback),
            (&[("host", "127.0.0.1")], Channel::Loopback),
            (&[("host", "[::1]:8081")], Channel::Loopback),
            (&[("host", "[::2]:8081")], Channel::Open),
        ] {
            assert_eq!(Channel::of(&headers(pairs)), channel, "{pairs:?}");
        }
    }

    #[test]
    fn the_cookie_is_out_of_reach_of_scripts_and_other_sites() {
        let set = |channel: Channel| channel.set_cookie("abc", 60).unwrap();
        assert_eq!(
            set(Channel::Https),
            "__Host-forebay-console=abc; Path=/; Max-Age=60; HttpOnly; SameSite=Strict; Secure"
        );
        assert_eq!(set(Channel::Loopback), "forebay-console=abc; Path=/; Max-Age=60; HttpOnly; SameSite=Strict");
        let texts = |channel: Channel, cookie: &'static str| {
            let headers = headers(&[("cookie", cookie)]);
            channel.session_texts(&headers).map(str::to_owned).collect::<Vec<_>>()
        };
        let sent = "a=b; forebay-console=one;__Host-forebay-console=two; forebay-console=three";
        assert_eq!(texts(Channel::Loopback, sent), ["one", "three"]);
        assert_eq!(texts(Channel::Https, sent), ["two"]);
        assert_eq!(texts(Channel::Https, "forebay-console=one"), [""; 0]);
        let mut odd = HeaderMap::new();
        odd.insert("cookie", HeaderValue::from_bytes(b"a=\xe9; forebay-console=one").unwrap());
        assert_eq!(Channel::Loopback.session_texts(&odd).collect::<Vec<_>>(), ["one"]);
    }

    #[test]
    fn a_form_of_another_site_is_told_from_ours() {
        for (pairs, ours) in [
            (&[("sec-fetch-site", "same-origin"), ("host", "a.example")][..], true),
            (&[("sec-fetch-site", "same-site"), ("host", "a.example"), ("origin", "https://a.example")], false),
            (&[("sec-fetch-site", "cross-site")], false),
            (&[("sec-fetch-site", "none")], false),
            (&[("host", "a.example:8081"), ("origin", "http://a.example:8081")], true),
            (&[("host", "a.example"), ("origin", "https://b.example")], false),
            (&[("host", "a.example"), ("origin", "null")], false),
            (&[("origin", "https://a.example")], false),
            (&[("host", "a.example")], false),
            (&[], false),
        ] {
            assert_eq!(is_from_our_pages(&headers(pairs)), ours, "{pairs:?}");
        }
    }
}
