//! Free ports for servers whose user does not choose one.

use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::ops::Range;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU16, Ordering};

/// Below the range that kernels use for outgoing connections (Linux from 32768, others from 49152): a port in that
/// range could be taken before its server listens, or while the server is restarted.
const RANGE: Range<u16> = 10_000..32_000;

/// A loopback port that nobody listens on. A process gets no port twice until it has used all of them; other processes
/// start at another port.
///
/// # Errors
/// If all are taken.
pub fn free_port() -> io::Result<u16> {
    static NEXT: LazyLock<AtomicU16> = LazyLock::new(|| AtomicU16::new(fastrand::u16(RANGE)));
    let mut error = None;
    for _ in RANGE {
        let after = |port: u16| Some(if RANGE.contains(&(port + 1)) { port + 1 } else { RANGE.start });
        let (Ok(port) | Err(port)) = NEXT.fetch_update(Ordering::Relaxed, Ordering::Relaxed, after);
        match TcpListener::bind((Ipv4Addr::LOCALHOST, port)) {
            Ok(_) => return Ok(port),
            Err(taken) => error = Some(taken),
        }
    }
    Err(error.unwrap_or_else(|| io::ErrorKind::AddrInUse.into()))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn a_port_is_given_once_and_never_one_in_use() {
        let held = TcpListener::bind((Ipv4Addr::LOCALHOST, free_port().unwrap())).unwrap();
        let given: BTreeSet<u16> = (0..100).map(|_| free_port().unwrap()).collect();
        assert_eq!(given.len(), 100);
        assert!(!given.contains(&held.local_addr().unwrap().port()));
        assert!(given.iter().all(|port| RANGE.contains(port)));
    }
}
