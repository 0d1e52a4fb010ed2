//! Files with certificate authorities.

use std::path::Path;

use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, pem};

/// Why a file of certificate authorities cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityFileError {
    #[error("it is no PEM file that can be read")]
    Unreadable(#[from] pem::Error),
    #[error("a certificate in it cannot be an authority's")]
    Unusable(#[from] rustls::Error),
    #[error("it contains no certificate")]
    Empty,
}

/// Adds the authorities of a PEM file to those that are trusted.
///
/// # Errors
/// If the file cannot be read, or has no certificate, or one that cannot be used.
pub fn add_authorities(roots: &mut RootCertStore, path: &Path) -> Result<(), AuthorityFileError> {
    let before = roots.len();
    for certificate in CertificateDer::pem_file_iter(path)? {
        roots.add(certificate?)?;
    }
    if roots.len() == before { Err(AuthorityFileError::Empty) } else { Ok(()) }
}
