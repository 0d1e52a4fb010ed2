//! The part of a client address that limits and blocks apply to.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;

use crate::text::serde_as_text;

/// The addresses that one client controls: a single IPv4 address, or a /64 of IPv6.
///
/// A household or server gets a whole /64 (RFC 6177), so a limit on single IPv6 addresses would be easy to avoid.
/// IPv4 written as IPv6 (`::ffff:1.2.3.4`) is the IPv4 address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AddressKey(IpAddr);

impl AddressKey {
    pub fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(v4) => AddressKey(IpAddr::V4(v4)),
            IpAddr::V6(v6) => {
                let prefix = u128::from(v6) & !u128::from(u64::MAX);
                AddressKey(IpAddr::V6(Ipv6Addr::from(prefix)))
            }
        }
    }
}

impl fmt::Display for AddressKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            IpAddr::V4(v4) => write!(f, "{v4}"),
            IpAddr::V6(v6) => write!(f, "{v6}/64"),
        }
    }
}

impl FromStr for AddressKey {
    type Err = std::net::AddrParseError;

    /// Accepts an address, or an IPv6 /64 as `Display` writes it.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.strip_suffix("/64").unwrap_or(text).parse().map(AddressKey::of)
    }
}

serde_as_text!(AddressKey, str::parse);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_ipv6_by_64_and_keeps_ipv4_whole() {
        let key = |text: &str| AddressKey::of(text.parse().unwrap()).to_string();
        assert_eq!(key("203.0.113.7"), "203.0.113.7");
        assert_eq!(key("::ffff:203.0.113.7"), "203.0.113.7");
        assert_eq!(key("2001:db8:1:2:3:4:5:6"), "2001:db8:1:2::/64");
        assert_eq!("2001:db8:1:2::/64".parse::<AddressKey>().unwrap().to_string(), "2001:db8:1:2::/64");
    }
}
