//! One contract suite per port. An adapter's test calls it with a fresh adapter; a broken promise panics with a message
//! that names it.

pub mod address_counters;
pub mod api_keys;
pub mod audit;
pub mod block_list;
pub mod claims;
pub mod history;
pub mod objects;
pub mod publisher;
pub mod rate_leases;
pub mod redrive;
pub mod replay;
pub mod scorer;
pub mod search;
pub mod statistics;
pub mod store;
pub mod unscored;

use std::hash::{BuildHasher, RandomState};
use std::net::{IpAddr, Ipv6Addr};

use event::AddressKey;
use pipeline::DependencyError;

#[expect(clippy::panic, reason = "a contract suite fails by panicking")]
fn answer<T>(result: Result<T, DependencyError>) -> T {
    match result {
        Ok(value) => value,
        Err(error) => panic!("the store failed: {error}: {}", error.source),
    }
}

fn random() -> u64 {
    RandomState::new().hash_one(0)
}

/// An address in a /64 that no other test uses.
fn random_address() -> AddressKey {
    AddressKey::of(IpAddr::V6(Ipv6Addr::from(u128::from(random()) << 64)))
}
