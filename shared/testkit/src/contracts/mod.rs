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
pub mod tail;
pub mod unscored;
pub mod webhooks;

use std::hash::{BuildHasher, RandomState};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicU64, Ordering};

use event::AddressKey;
use pipeline::DependencyError;
use pipeline::clock::{Clock as _, SystemClock};

#[expect(clippy::panic, reason = "a contract suite fails by panicking")]
fn answer<T>(result: Result<T, DependencyError>) -> T {
    match result {
        Ok(value) => value,
        Err(error) => panic!("the store failed: {error}: {}", error.source),
    }
}

/// A name that no other case has, in this run or another one.
fn unique(name: &str) -> String {
    static RUNS: AtomicU64 = AtomicU64::new(0);
    let run = RUNS.fetch_add(1, Ordering::Relaxed);
    format!("{name}-{}-{}-{run}", SystemClock.now().as_millis(), std::process::id())
}

fn random() -> u64 {
    RandomState::new().hash_one(0)
}

/// An address in a /64 that no other test uses.
fn random_address() -> AddressKey {
    AddressKey::of(IpAddr::V6(Ipv6Addr::from(u128::from(random()) << 64)))
}
