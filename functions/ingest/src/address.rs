//! The address of the client that sent a request, as far as a trusted machine confirms it.
//!
//! Each proxy appends to `X-Forwarded-For` the address from which it was called, so only the right end comes from
//! machines we trust. The header is read from there to the left while the addresses are trusted proxies. The first
//! address that is not is the client; the client itself may have written what is left of it.

use std::net::IpAddr;
use std::str::FromStr;

use ipnet::IpNet;
use lambda::http::Peer;

/// A network of proxies whose `X-Forwarded-For` is trusted: an address, or CIDR notation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TrustedNetwork(IpNet);

#[derive(Debug, thiserror::Error)]
#[error("not an IP address or a network in CIDR notation")]
pub struct TrustedNetworkError;

impl FromStr for TrustedNetwork {
    type Err = TrustedNetworkError;

    fn from_str(text: &str) -> Result<Self, TrustedNetworkError> {
        let network = text.parse::<IpNet>().or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
        network.map(TrustedNetwork).map_err(|_| TrustedNetworkError)
    }
}

/// The header is needed to find the client, but its decisive entry is not an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("X-Forwarded-For has an entry that is not an IP address where the client's address should be")]
pub struct UnverifiedAddress;

/// The client's address; `None` if the platform does not name it.
///
/// `forwarded` are the values of `X-Forwarded-For` in their order. The header is ignored if the peer is not a trusted
/// proxy.
///
/// # Errors
/// [`UnverifiedAddress`] if a trusted proxy passed on an entry that is not an address. The request must be
/// refused: with a guess, a client could escape its limits or get another one blocked.
pub fn client_address<'h>(
    peer: Peer,
    forwarded: impl DoubleEndedIterator<Item = &'h [u8]>,
    trusted: &[TrustedNetwork],
) -> Result<Option<IpAddr>, UnverifiedAddress> {
    let is_trusted = |address: IpAddr| trusted.iter().any(|network| network.0.contains(&address));
    // The nearest machine known so far. A load balancer is trusted, but its own address is not known.
    let mut nearest = match peer {
        Peer::Unknown => return Ok(None),
        Peer::Gateway(address) | Peer::Socket(address) => {
            let address = address.to_canonical();
            if !is_trusted(address) {
                return Ok(Some(address));
            }
            Some(address)
        }
        Peer::LoadBalancer => None,
    };
    for hop in forwarded.rev().flat_map(|value| value.rsplit(|byte| *byte == b',')) {
        let address = hop_address(hop.trim_ascii()).ok_or(UnverifiedAddress)?;
        if !is_trusted(address) {
            return Ok(Some(address));
        }
        nearest = Some(address);
    }
    // Every machine on the way is trusted, so the outermost made the request itself.
    nearest.map(Some).ok_or(UnverifiedAddress)
}

/// An address as proxies write it: bare, with a port, or IPv6 in brackets. `None` for addresses from which no request
/// can come.
fn hop_address(hop: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(hop).ok()?;
    let bare = match text.strip_prefix('[') {
        Some(rest) => {
            let (address, port) = rest.split_once(']')?;
            let has_no_port = port.is_empty() || port.strip_prefix(':').is_some_and(is_port);
            // Brackets are only allowed around IPv6.
            has_no_port.then_some(address).filter(|address| address.contains(':'))?
        }
        None => match text.split_once(':') {
            Some((address, port)) if !port.contains(':') => is_port(port).then_some(address)?,
            Some(_) | None => text,
        },
    };
    let address = bare.parse::<IpAddr>().ok()?.to_canonical();
    (!address.is_unspecified() && !address.is_multicast()).then_some(address)
}

fn is_port(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit()) && text.parse::<u16>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLIENT: &str = "203.0.113.7";
    const CLIENT_6: &str = "2001:db8:1::7";

    /// Trusted: 10.0.0.0/8, 192.0.2.1, fd00::/8.
    fn walk(peer: &str, headers: &[&str]) -> String {
        let trusted: Vec<TrustedNetwork> =
            ["10.0.0.0/8", "192.0.2.1", "fd00::/8"].map(|text| text.parse().unwrap()).into();
        let peer = match peer.split_once(' ') {
            Some(("gateway", address)) => Peer::Gateway(address.parse().unwrap()),
            Some(("socket", address)) => Peer::Socket(address.parse().unwrap()),
            _ if peer == "alb" => Peer::LoadBalancer,
            _ => Peer::Unknown,
        };
        match client_address(peer, headers.iter().map(|value| value.as_bytes()), &trusted) {
            Ok(Some(address)) => address.to_string(),
            Ok(None) => "nobody".to_owned(),
            Err(UnverifiedAddress) => "refused".to_owned(),
        }
    }

    #[test]
    fn the_table_of_peers_and_headers() {
        let table: &[(&str, &[&str], &str)] = &[
            // Without a trusted proxy the header is never read.
            ("socket 203.0.113.7", &[], CLIENT),
            ("socket 203.0.113.7", &["198.51.100.9"], CLIENT),
            ("socket 203.0.113.7", &["10.0.0.1"], CLIENT),
            ("socket 203.0.113.7", &["garbage"], CLIENT),
            ("socket ::ffff:203.0.113.7", &["198.51.100.9"], CLIENT),
            ("socket 2001:db8:1::7", &["198.51.100.9"], CLIENT_6),
            ("gateway 203.0.113.7", &["198.51.100.9, 203.0.113.7"], CLIENT),
            ("gateway 203.0.113.7", &["garbage"], CLIENT),
            ("gateway 2001:db8:1::7", &[], CLIENT_6),
            ("unknown", &[], "nobody"),
            ("unknown", &["203.0.113.7"], "nobody"),
            ("socket 192.0.2.2", &["198.51.100.9"], "192.0.2.2"),
            ("socket 11.0.0.1", &["198.51.100.9"], "11.0.0.1"),
            // One trusted proxy in front.
            ("socket 10.0.0.1", &["203.0.113.7"], CLIENT),
            ("socket ::ffff:10.0.0.1", &["203.0.113.7"], CLIENT),
            ("socket 192.0.2.1", &["203.0.113.7"], CLIENT),
            ("socket fd00::1", &["2001:db8:1::7"], CLIENT_6),
            ("gateway 10.0.0.1", &["203.0.113.7"], CLIENT),
            ("socket 10.0.0.1", &["  203.0.113.7\t"], CLIENT),
            ("socket 10.0.0.1", &["::ffff:203.0.113.7"], CLIENT),
            ("socket 10.0.0.1", &["::ffff:cb00:7107"], CLIENT),
            // The client's own entries are further left and are not read.
            ("socket 10.0.0.1", &["198.51.100.9, 203.0.113.7"], CLIENT),
            ("socket 10.0.0.1", &["10.0.0.9, 203.0.113.7"], CLIENT),
            ("socket 10.0.0.1", &["garbage, 203.0.113.7"], CLIENT),
            ("socket 10.0.0.1", &[",,,,203.0.113.7"], CLIENT),
            ("socket 10.0.0.1", &["127.0.0.1, 203.0.113.7"], CLIENT),
            ("socket 10.0.0.1", &["198.51.100.9", "203.0.113.7"], CLIENT),
            ("socket 10.0.0.1", &["203.0.113.7", "10.0.0.2"], CLIENT),
            // Several trusted proxies.
            ("socket 10.0.0.1", &["203.0.113.7, 10.0.0.2, 10.0.0.3"], CLIENT),
            ("socket 10.0.0.1", &["198.51.100.9, 203.0.113.7, 192.0.2.1, fd00::2"], CLIENT),
            ("socket 10.0.0.1", &["203.0.113.7, 192.0.2.2, 10.0.0.3"], "192.0.2.2"),
            // Only our own machines: the outermost made the request.
            ("socket 10.0.0.1", &[], "10.0.0.1"),
            ("socket 10.0.0.1", &["10.0.0.2"], "10.0.0.2"),
            ("socket 10.0.0.1", &["10.0.0.3, 10.0.0.2"], "10.0.0.3"),
            // Ports and brackets, as load balancers write them.
            ("socket 10.0.0.1", &["203.0.113.7:4711"], CLIENT),
            ("socket 10.0.0.1", &["[2001:db8:1::7]"], CLIENT_6),
            ("socket 10.0.0.1", &["[2001:db8:1::7]:4711"], CLIENT_6),
            ("socket 10.0.0.1", &["203.0.113.7:1, 10.0.0.2:2"], CLIENT),
            ("alb", &["203.0.113.7"], CLIENT),
            ("alb", &["198.51.100.9, 203.0.113.7"], CLIENT),
            ("alb", &["203.0.113.7:4711"], CLIENT),
            ("alb", &["203.0.113.7, 10.0.0.2"], CLIENT),
            ("alb", &["10.0.0.2"], "10.0.0.2"),
            // An invalid entry where a trusted machine should have written an address: the request is refused.
            ("alb", &[], "refused"),
            ("alb", &[""], "refused"),
            ("alb", &["unknown"], "refused"),
            ("socket 10.0.0.1", &[""], "refused"),
            ("socket 10.0.0.1", &["unknown"], "refused"),
            ("socket 10.0.0.1", &["_hidden"], "refused"),
            ("socket 10.0.0.1", &["203.0.113.7,"], "refused"),
            ("socket 10.0.0.1", &["203.0.113.7, garbage, 10.0.0.2"], "refused"),
            ("socket 10.0.0.1", &["203.0.113.7", ""], "refused"),
            ("socket 10.0.0.1", &["203.0.113"], "refused"),
            ("socket 10.0.0.1", &["203.0.113.07"], "refused"),
            ("socket 10.0.0.1", &["0xcb.0.113.7"], "refused"),
            ("socket 10.0.0.1", &["3405803783"], "refused"),
            ("socket 10.0.0.1", &["203.0.113.7:"], "refused"),
            ("socket 10.0.0.1", &["203.0.113.7:99999"], "refused"),
            ("socket 10.0.0.1", &["203.0.113.7:+80"], "refused"),
            ("socket 10.0.0.1", &["203.0.113.7/32"], "refused"),
            ("socket 10.0.0.1", &["[203.0.113.7]"], "refused"),
            ("socket 10.0.0.1", &["[2001:db8:1::7"], "refused"),
            ("socket 10.0.0.1", &["[2001:db8:1::7]x"], "refused"),
            ("socket 10.0.0.1", &["2001:db8:1::7]:80"], "refused"),
            ("socket 10.0.0.1", &["fe80::1%eth0"], "refused"),
            ("socket 10.0.0.1", &["\"203.0.113.7\""], "refused"),
            ("socket 10.0.0.1", &["for=203.0.113.7"], "refused"),
            ("socket 10.0.0.1", &["203.0.113.7 198.51.100.9"], "refused"),
            ("socket 10.0.0.1", &["0.0.0.0"], "refused"),
            ("socket 10.0.0.1", &["::"], "refused"),
            ("socket 10.0.0.1", &["224.0.0.1"], "refused"),
            ("socket 10.0.0.1", &["２０３.0.113.7"], "refused"),
            ("socket 10.0.0.1", &["localhost"], "refused"),
        ];
        for (peer, headers, expected) in table {
            assert_eq!(walk(peer, headers), *expected, "{peer} with {headers:?}");
        }
    }

    #[test]
    fn rotating_a_forged_header_does_not_change_the_address() {
        for n in 0..=255 {
            assert_eq!(walk("socket 10.0.0.1", &[&format!("198.51.100.{n}, {CLIENT}")]), CLIENT);
        }
    }

    #[test]
    fn bytes_that_are_no_text_are_no_address() {
        let trusted = ["10.0.0.0/8".parse().unwrap()];
        let peer = Peer::Socket("10.0.0.1".parse().unwrap());
        assert_eq!(client_address(peer, [&b"\xff"[..]].into_iter(), &trusted), Err(UnverifiedAddress));
    }
}
