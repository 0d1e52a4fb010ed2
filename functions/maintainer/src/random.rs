//! Random bytes of the operating system, for keys and ids that nobody may guess.

use crate::error::MaintainerError;

pub(crate) fn bytes<const N: usize>() -> Result<[u8; N], MaintainerError> {
    let mut bytes = [0; N];
    // The generator that TLS uses: it is already linked, unlike a crate of random numbers.
    rustls::crypto::ring::default_provider().secure_random.fill(&mut bytes).map_err(|_| MaintainerError::Random)?;
    Ok(bytes)
}
