//! Requests that `hyper` accepts although two servers could read them differently.
//!
//! A proxy that reads a request differently from the server behind it lets a client hide a second request in the first
//! one's body, or choose another host than the proxy allowed. `hyper` itself refuses lengths that differ or are not
//! numbers, and reads no second request after one with both a length and a transfer coding.

use axum::http::uri::Authority;
use axum::http::{HeaderValue, Request, Version, header};
use strum::VariantArray;

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error, VariantArray)]
pub(crate) enum Misread {
    #[error("the request must have one Host header")]
    HostCount,
    #[error("the Host header is not a host with an optional port")]
    Host,
    #[error("the only transfer coding that is supported is chunked; compress the body with Content-Encoding")]
    TransferCoding,
}

impl Misread {
    /// Short name of the cause, from a fixed list: the end of the problem's type.
    pub(crate) const fn tag(self) -> &'static str {
        match self {
            Misread::HostCount | Misread::Host => "bad_host",
            Misread::TransferCoding => "unsupported_transfer_coding",
        }
    }
}

/// # Errors
/// [`Misread`] if the request has not one readable `Host` (RFC 9112, section 3.2), or another transfer coding than
/// `chunked`, alone and once (section 7).
pub(super) fn check<B>(request: &Request<B>) -> Result<(), Misread> {
    let headers = request.headers();
    let mut hosts = headers.get_all(header::HOST).iter();
    match (hosts.next(), hosts.next()) {
        (Some(host), None) if is_host(host) => {}
        (Some(_), None) => return Err(Misread::Host),
        (None, None) if request.version() < Version::HTTP_11 => {}
        (None, _) | (_, Some(_)) => return Err(Misread::HostCount),
    }
    let mut codings = headers.get_all(header::TRANSFER_ENCODING).iter();
    match (codings.next(), codings.next()) {
        (None, _) => Ok(()),
        (Some(coding), None) if coding.as_bytes().eq_ignore_ascii_case(b"chunked") => Ok(()),
        (Some(_), _) => Err(Misread::TransferCoding),
    }
}

/// A host may be empty, if the client knows none.
fn is_host(value: &HeaderValue) -> bool {
    let is_authority = |host: &str| host.parse::<Authority>().is_ok_and(|authority| !authority.as_str().contains('@'));
    value.to_str().is_ok_and(|host| host.is_empty() || is_authority(host))
}
