//! The URL that is called.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use serde::Deserialize;
use url::{Host, Url};

/// Longest URL, in bytes.
const MAX_BYTES: usize = 2_048;

/// A URL that may be an endpoint's: https, with a host, without a login or a fragment.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct WebhookTarget(Url);

/// Why a URL cannot be an endpoint's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WebhookTargetError {
    #[error("not a URL: {0}")]
    Malformed(#[from] url::ParseError),
    #[error("not an https URL: outcomes hold what customers sent, so they are only sent encrypted")]
    NotHttps,
    #[error("the URL has a login: requests are known by their signature, and a login would be shown in lists")]
    Login,
    #[error("the URL has a fragment (#…), which is never sent")]
    Fragment,
    #[error("the URL has more than {MAX_BYTES} bytes")]
    TooLong,
}

impl WebhookTarget {
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }

    /// The address, if the URL has one in place of a name.
    pub fn address(&self) -> Option<IpAddr> {
        match self.0.host()? {
            Host::Ipv4(address) => Some(address.into()),
            Host::Ipv6(address) => Some(address.into()),
            Host::Domain(_) => None,
        }
    }

    /// For lists and logs: tokens are often in the path or the query string.
    pub fn shown(&self) -> String {
        let port = self.0.port().map(|port| format!(":{port}")).unwrap_or_default();
        format!("https://{}{port}/…", self.0.host_str().unwrap_or_default())
    }
}

impl fmt::Display for WebhookTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.as_str())
    }
}

impl FromStr for WebhookTarget {
    type Err = WebhookTargetError;

    fn from_str(text: &str) -> Result<Self, WebhookTargetError> {
        if text.len() > MAX_BYTES {
            return Err(WebhookTargetError::TooLong);
        }
        let url = Url::parse(text)?;
        if url.scheme() != "https" {
            return Err(WebhookTargetError::NotHttps);
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(WebhookTargetError::Login);
        }
        if url.fragment().is_some() {
            return Err(WebhookTargetError::Fragment);
        }
        Ok(WebhookTarget(url))
    }
}

impl TryFrom<String> for WebhookTarget {
    type Error = WebhookTargetError;

    fn try_from(text: String) -> Result<Self, WebhookTargetError> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_https_urls_without_a_login_are_taken() {
        let good: WebhookTarget = "https://hooks.example.com:8443/in?token=s3cret".parse().unwrap();
        assert_eq!(good.shown(), "https://hooks.example.com:8443/…");
        assert_eq!(good.address(), None);
        for (text, expected) in [
            ("http://hooks.example.com/", "not an https URL"),
            ("ftp://hooks.example.com/", "not an https URL"),
            ("hooks.example.com", "not a URL"),
            ("https://", "not a URL"),
            ("https://me:pw@hooks.example.com/", "has a login"),
            ("https://me@hooks.example.com/", "has a login"),
            ("https://hooks.example.com/#x", "has a fragment"),
        ] {
            let error = text.parse::<WebhookTarget>().unwrap_err().to_string();
            assert!(error.contains(expected), "{text}: {error}");
        }
        let long = format!("https://hooks.example.com/{}", "x".repeat(MAX_BYTES));
        assert_eq!(long.parse::<WebhookTarget>(), Err(WebhookTargetError::TooLong));
    }

    #[test]
    fn every_spelling_of_an_address_is_seen_as_one() {
        for text in
            ["https://127.0.0.1/", "https://2130706433/", "https://0x7f.1/", "https://0177.0.0.1/", "https://127.1/"]
        {
            let target: WebhookTarget = text.parse().unwrap();
            assert_eq!(target.address(), Some(IpAddr::from([127, 0, 0, 1])), "{text}");
        }
        let target: WebhookTarget = "https://[::1]/".parse().unwrap();
        assert_eq!(target.address(), Some("::1".parse().unwrap()));
    }
}
