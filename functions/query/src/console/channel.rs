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

    /// The name of the cookie with the session. Browsers take the one of `__Secure-` over TLS only.
    pub fn cookie_name(self) -> &'static str {
        match self {
            Channel::Https | Channel::Open => "__Secure-forebay-console",
            Channel::Loopback => "forebay-console",
        }
    }

    /// The value of `Set-Cookie` with the text of a session, which lasts so long; none ends it.
    pub fn set_cookie(self, session: &str, max_age_sec: u64) -> Option<HeaderValue> {
        let secure = if self == Channel::Loopback { "" } else { "; Secure" };
        let name = self.cookie_name();
        let text = format!("{name}={session}; Path=/console; Max-Age={max_age_sec}; HttpOnly; SameSite=Strict{secure}");
        HeaderValue::try_from(text).ok()
    }

    /// The text of the session that a request has.
    pub fn session_text(self, headers: &HeaderMap) -> Option<&str> {
        let cookies = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
        let mut pairs = cookies.flat_map(|value| value.split(';')).filter_map(|pair| pair.trim().split_once('='));
        pairs.find(|(name, _)| *name == self.cookie_name()).map(|(_, value)| value)
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
            "__Secure-forebay-console=abc; Path=/console; Max-Age=60; HttpOnly; SameSite=Strict; Secure"
        );
        assert_eq!(set(Channel::Loopback), "forebay-console=abc; Path=/console; Max-Age=60; HttpOnly; SameSite=Strict");
        let sent = headers(&[("cookie", "a=b; forebay-console=one;__Secure-forebay-console=two")]);
        assert_eq!(Channel::Loopback.session_text(&sent), Some("one"));
        assert_eq!(Channel::Https.session_text(&sent), Some("two"));
        assert_eq!(Channel::Https.session_text(&headers(&[("cookie", "forebay-console=one")])), None);
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
