//! `X-Forwarded-For`, which any client may begin.
//!
//! Beyond not panicking: what a client writes in front of a trusted proxy's entry never changes the answer.

#![no_main]

use std::net::IpAddr;

use ingest::address::{TrustedNetwork, client_address};
use lambda::http::Peer;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let trusted: Vec<TrustedNetwork> =
        ["10.0.0.0/8", "::1", "2001:db8::/32"].iter().map(|network| network.parse().unwrap()).collect();
    let peers = [
        Peer::Unknown,
        Peer::LoadBalancer,
        Peer::Socket(IpAddr::from([10, 0, 0, 1])),
        Peer::Gateway(IpAddr::from([192, 0, 2, 9])),
    ];
    for peer in peers {
        let address = |values: &[&[u8]]| client_address(peer, values.iter().copied(), &trusted);
        // Headers may repeat; a line break parts them.
        let values: Vec<&[u8]> = data.split(|byte| *byte == b'\n').collect();
        if let Ok(Some(found)) = address(&values) {
            assert!(!found.is_unspecified() && !found.is_multicast());
        }
        // The proxy appended who called it: the rest is hearsay.
        let vouched = [values.as_slice(), &[b"198.51.100.7"]].concat();
        assert_eq!(address(&vouched), address(&[b"198.51.100.7"]));
        let vouched = [data, b", 198.51.100.7"].concat();
        assert_eq!(address(&[&vouched]), address(&[b"198.51.100.7"]));
    }
});
