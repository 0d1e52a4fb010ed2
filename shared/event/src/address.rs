//! The part of a client address that limits apply to, and ranges of addresses that blocks apply to.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;

use ipnet::IpNet;

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

impl From<AddressKey> for IpAddr {
    /// The first address of it.
    fn from(AddressKey(first): AddressKey) -> Self {
        first
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

/// A range of addresses in CIDR notation, at least as large as an [`AddressKey`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AddressRange(IpNet);

impl AddressRange {
    /// The range of this size that has the address; `None` if the sizes of its family are not as large.
    pub fn around(address: AddressKey, prefix_bits: u8) -> Option<Self> {
        let range = IpNet::new(address.0, prefix_bits).ok()?;
        (prefix_bits <= smallest(&range)).then_some(AddressRange(range.trunc()))
    }

    /// The bits that all its addresses have in common: fewer in a larger range.
    pub fn prefix_bits(self) -> u8 {
        self.0.prefix_len()
    }

    pub fn contains(self, other: AddressRange) -> bool {
        self.0.contains(&other.0)
    }

    /// If it is no larger than what one client controls.
    pub fn as_key(self) -> Option<AddressKey> {
        (self.prefix_bits() == smallest(&self.0)).then_some(AddressKey(self.0.network()))
    }
}

/// The bits of an [`AddressKey`].
const fn smallest(range: &IpNet) -> u8 {
    match range {
        IpNet::V4(_) => 32,
        IpNet::V6(_) => 64,
    }
}

impl From<AddressKey> for AddressRange {
    fn from(key: AddressKey) -> Self {
        let range = IpNet::from(key.0);
        AddressRange(IpNet::new(key.0, smallest(&range)).map_or(range, |range| range.trunc()))
    }
}

impl fmt::Display for AddressRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.as_key() {
            Some(key) => key.fmt(f),
            None => self.0.fmt(f),
        }
    }
}

/// A text that is not a range of addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddressRangeError {
    #[error("invalid IP address or range: expected 203.0.113.7, 203.0.113.0/24, 2001:db8::1 or 2001:db8::/48")]
    Malformed,
    #[error("a range of IPv6 has at most 64 bits in front, because one client has at least a /64")]
    TooSmall,
    #[error("this would be every address there is")]
    Everything,
}

impl FromStr for AddressRange {
    type Err = AddressRangeError;

    fn from_str(text: &str) -> Result<Self, AddressRangeError> {
        if let Ok(address) = text.parse::<IpAddr>() {
            return Ok(AddressKey::of(address).into());
        }
        let range: IpNet = text.parse().map_err(|_| AddressRangeError::Malformed)?;
        // IPv4 that is written as IPv6.
        let (address, bits) = match (range.addr().to_canonical(), range.addr().is_ipv6()) {
            (address @ IpAddr::V4(_), true) => {
                (address, range.prefix_len().checked_sub(96).ok_or(AddressRangeError::Malformed)?)
            }
            (address, _) => (address, range.prefix_len()),
        };
        let range = IpNet::new(address, bits).map_err(|_| AddressRangeError::Malformed)?;
        if bits == 0 {
            return Err(AddressRangeError::Everything);
        }
        if bits > smallest(&range) {
            return Err(AddressRangeError::TooSmall);
        }
        Ok(AddressRange(range.trunc()))
    }
}

serde_as_text!(AddressRange, str::parse);

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

    #[test]
    fn a_range_has_one_spelling() {
        let range = |text: &str| text.parse::<AddressRange>().map(|range| range.to_string());
        for (text, shown) in [
            ("203.0.113.7", "203.0.113.7"),
            ("203.0.113.7/32", "203.0.113.7"),
            ("203.0.113.7/24", "203.0.113.0/24"),
            ("::ffff:203.0.113.7", "203.0.113.7"),
            ("::ffff:203.0.113.7/120", "203.0.113.0/24"),
            ("2001:db8::1", "2001:db8::/64"),
            ("2001:db8::1/64", "2001:db8::/64"),
            ("2001:db8:ffff::/48", "2001:db8:ffff::/48"),
            ("10.0.0.0/8", "10.0.0.0/8"),
        ] {
            assert_eq!(range(text).as_deref(), Ok(shown), "{text}");
            assert_eq!(range(shown).as_deref(), Ok(shown), "{shown}");
        }
        for text in ["", "host", "203.0.113.7/33", "203.0.113.0/-1", "::ffff:203.0.113.7/64", "203.0.113"] {
            assert_eq!(range(text), Err(AddressRangeError::Malformed), "{text}");
        }
        assert_eq!(range("2001:db8::1/65"), Err(AddressRangeError::TooSmall));
        assert_eq!(range("0.0.0.0/0"), Err(AddressRangeError::Everything));
    }

    #[test]
    fn a_range_has_the_addresses_in_it() {
        let key = |text: &str| AddressKey::of(text.parse().unwrap());
        let around = |text: &str, bits| AddressRange::around(key(text), bits).map(|range| range.to_string());
        assert_eq!(around("203.0.113.7", 24).as_deref(), Some("203.0.113.0/24"));
        assert_eq!(around("203.0.113.7", 32).as_deref(), Some("203.0.113.7"));
        assert_eq!(around("203.0.113.7", 48), None);
        assert_eq!(around("2001:db8:1::1", 48).as_deref(), Some("2001:db8:1::/48"));
        assert_eq!(around("2001:db8:1::1", 96), None);
        let (large, one): (AddressRange, AddressRange) = ("203.0.113.0/24".parse().unwrap(), key("203.0.113.7").into());
        assert!(large.contains(one) && large.contains(large) && !one.contains(large));
        assert_eq!((one.as_key(), large.as_key()), (Some(key("203.0.113.7")), None));
    }
}
