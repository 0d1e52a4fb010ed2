//! Which web pages may send events (Cross-Origin Resource Sharing, as the Fetch standard defines it).

use std::str::FromStr;
use std::time::Duration;

use axum::http::{HeaderValue, Method, Uri, header};
use tower_http::cors::{AllowHeaders, AllowOrigin, CorsLayer};

/// How long a browser keeps the answer to a preflight request. Browsers have limits of their own below this.
const MAX_AGE: Duration = Duration::from_secs(2 * 3600);

/// The origin of a page, such as `https://shop.example`, or `*` for every page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PageOrigin {
    Any,
    Of(HeaderValue),
}

#[derive(Debug, thiserror::Error)]
#[error("not \"*\" or an origin such as https://shop.example, without a path")]
pub struct PageOriginError;

impl FromStr for PageOrigin {
    type Err = PageOriginError;

    fn from_str(text: &str) -> Result<Self, PageOriginError> {
        if text == "*" {
            return Ok(PageOrigin::Any);
        }
        let uri: Uri = text.parse().map_err(|_| PageOriginError)?;
        let parts = uri.scheme_str().zip(uri.authority());
        let (scheme, authority) = parts.ok_or(PageOriginError)?;
        // As browsers write it: compared byte by byte.
        let is_origin = text == format!("{scheme}://{authority}").to_ascii_lowercase() && !text.contains('@');
        if is_origin { text.parse().map(PageOrigin::Of).map_err(|_| PageOriginError) } else { Err(PageOriginError) }
    }
}

/// The origins that may send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origins {
    Any,
    These(Vec<HeaderValue>),
}

impl Origins {
    pub fn new(origins: &[PageOrigin]) -> Self {
        let these = origins.iter().map(|origin| match origin {
            PageOrigin::Any => None,
            PageOrigin::Of(origin) => Some(origin.clone()),
        });
        these.collect::<Option<Vec<_>>>().map_or(Origins::Any, Origins::These)
    }

    /// Answers preflight requests, and marks the answers that a page may read; `None` if no page may send. Cookies are
    /// never asked for.
    pub fn layer(&self) -> Option<CorsLayer> {
        let origins = match self {
            Origins::Any => AllowOrigin::any(),
            Origins::These(these) if these.is_empty() => return None,
            Origins::These(these) => AllowOrigin::list(these.iter().cloned()),
        };
        let layer = CorsLayer::new()
            .allow_origin(origins)
            .allow_methods([Method::POST])
            // Whatever is asked for: the attributes of CloudEvents have any names.
            .allow_headers(AllowHeaders::mirror_request())
            .expose_headers([header::RETRY_AFTER])
            .max_age(MAX_AGE);
        Some(layer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_is_scheme_host_and_port() {
        for good in ["*", "https://shop.example", "http://localhost:3000", "https://[::1]:8443"] {
            assert!(good.parse::<PageOrigin>().is_ok(), "{good}");
        }
        for bad in
            ["", "shop.example", "https://shop.example/", "https://Shop.example", "https://a@b", "null", "https://"]
        {
            assert!(bad.parse::<PageOrigin>().is_err(), "{bad}");
        }
        let origin = |text: &str| text.parse::<PageOrigin>().unwrap();
        assert_eq!(Origins::new(&[origin("https://a"), origin("*")]), Origins::Any);
        assert!(Origins::new(&[]).layer().is_none());
    }
}
