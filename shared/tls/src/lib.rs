//! Why the certificate of a server is not trusted, and files of the authorities that are. Connections, settings and what a person
//! should look at are each adapter's.

mod authorities;

use std::error::Error;
use std::io;
use std::sync::Arc;

use rustls::CertificateError;

pub use authorities::{AuthorityFileError, add_authorities};

/// What is wrong with a server's certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Distrust {
    /// It is for another name than the one that was connected to.
    Name,
    /// It is not valid yet, or not any more.
    Time,
    /// It is from no authority that is trusted, or cannot be verified for another reason.
    Authority,
}

impl Distrust {
    /// `None` if the error is not about the server's certificate.
    pub fn of(error: &rustls::Error) -> Option<Self> {
        match error {
            rustls::Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            ) => Some(Distrust::Name),
            rustls::Error::InvalidCertificate(
                CertificateError::Expired
                | CertificateError::ExpiredContext { .. }
                | CertificateError::NotValidYet
                | CertificateError::NotValidYetContext { .. },
            ) => Some(Distrust::Time),
            rustls::Error::InvalidCertificate(_) => Some(Distrust::Authority),
            _ => None,
        }
    }
}

/// The error of TLS itself, below whatever wraps it.
pub fn below<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a rustls::Error> {
    causes(error).find_map(|cause| cause.downcast_ref())
}

/// The error and everything below it.
pub fn causes<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |error| cause(*error))
}

/// What is below an error. An I/O error does not count the error that it wraps as its source; here it does.
fn cause<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a (dyn Error + 'static)> {
    if let Some(shared) = error.downcast_ref::<Arc<io::Error>>() {
        return Some(shared.as_ref());
    }
    match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
        Some(wrapped) => Some(wrapped),
        None => error.source(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_of_a_certificate_is_found_below_io_errors() {
        let unknown = || rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer);
        let once = io::Error::new(io::ErrorKind::InvalidData, unknown());
        assert_eq!(below(&once), Some(&unknown()));
        let twice = io::Error::other(Arc::new(once));
        assert_eq!(below(&twice).and_then(Distrust::of), Some(Distrust::Authority));
        assert_eq!(below(&io::Error::from(io::ErrorKind::ConnectionReset)), None);
    }
}
