//! Functions that have a URL of their own, such as a container under the Runtime Interface Emulator: it serves one function,
//! and always under the same path, so the function's name cannot be part of it.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, Request, Uri};
use http_body_util::{BodyExt as _, Full};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;

use crate::error::EsmError;
use crate::invoker::{ANSWER_TIMEOUT, CONNECT_TIMEOUT, Invoker, InvokerError, Reply};

/// `name=http://host:port/path`: calls to this function are posted there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FunctionUrl {
    /// As the mapping names it.
    pub function: String,
    pub url: Uri,
}

impl FromStr for FunctionUrl {
    type Err = EsmError;

    fn from_str(text: &str) -> Result<Self, EsmError> {
        let refuse = |reason: &str| EsmError::Config { reason: format!("{text:?} is not a function's URL: {reason}") };
        let (function, url) = text.split_once('=').ok_or_else(|| refuse("it must be name=http://host:port/path"))?;
        if function.is_empty() {
            return Err(refuse("it has no name"));
        }
        let url: Uri = url.parse().map_err(|error| refuse(&format!("{error}")))?;
        if url.scheme_str() != Some("http") || url.host().is_none() {
            return Err(refuse("only http:// is supported"));
        }
        Ok(FunctionUrl { function: function.to_owned(), url })
    }
}

/// Posts events to the URLs of functions. What has none is called elsewhere.
#[derive(Clone)]
pub struct UrlInvoker {
    urls: BTreeMap<String, Uri>,
    client: Client<HttpConnector, Full<Bytes>>,
    others: Arc<dyn Invoker>,
    patience: Duration,
}

impl UrlInvoker {
    /// `others` calls the functions without a URL.
    ///
    /// # Errors
    /// [`EsmError::Config`] if a function has two URLs.
    pub fn new(urls: impl IntoIterator<Item = FunctionUrl>, others: Arc<dyn Invoker>) -> Result<Self, EsmError> {
        let mut by_name = BTreeMap::new();
        for FunctionUrl { function, url } in urls {
            if by_name.insert(function.clone(), url).is_some() {
                return Err(EsmError::Config { reason: format!("the function {function} has two URLs") });
            }
        }
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        connector.set_connect_timeout(Some(CONNECT_TIMEOUT));
        let client = Client::builder(TokioExecutor::new()).build(connector);
        Ok(UrlInvoker { urls: by_name, client, others, patience: ANSWER_TIMEOUT })
    }

    async fn post(&self, url: &Uri, event: Bytes) -> Result<Reply, Box<dyn std::error::Error + Send + Sync>> {
        let request = Request::post(url.clone()).header(CONTENT_TYPE, "application/json").body(Full::new(event))?;
        let answer = async {
            let (parts, body) = self.client.request(request).await?.into_parts();
            let body = body.collect().await?.to_bytes();
            Ok(Reply { status: parts.status.as_u16(), marked_failed: is_marked_failed(&parts.headers), body })
        };
        tokio::time::timeout(self.patience, answer).await?
    }
}

fn is_marked_failed(headers: &HeaderMap) -> bool {
    headers.contains_key("x-amz-function-error") || headers.contains_key("error-type")
}

impl fmt::Debug for UrlInvoker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UrlInvoker").field("urls", &self.urls).finish_non_exhaustive()
    }
}

#[async_trait]
impl Invoker for UrlInvoker {
    async fn invoke(&self, function: &str, event: Bytes) -> Result<Reply, InvokerError> {
        match self.urls.get(function) {
            Some(url) => self
                .post(url, event)
                .await
                .map_err(|source| InvokerError { function: format!("{function} at {url}"), source }),
            None => self.others.invoke(function, event).await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_has_the_name_of_its_function() {
        let url: FunctionUrl =
            "processor=http://processor:8080/2015-03-31/functions/function/invocations".parse().unwrap();
        assert_eq!(url.function, "processor");
        assert_eq!(url.url, "http://processor:8080/2015-03-31/functions/function/invocations");
        let with_query: FunctionUrl = "f=http://h/p?a=b".parse().unwrap();
        assert_eq!(with_query.url.query(), Some("a=b"));
    }

    #[test]
    fn what_cannot_be_called_is_refused() {
        for text in ["http://h:1/", "=http://h:1/", "f=", "f=/path", "f=https://h/", "f=h:1", "f=http://a b/"] {
            let error = text.parse::<FunctionUrl>().unwrap_err().to_string();
            assert!(error.contains("is not a function's URL"), "{error}");
        }
    }
}
