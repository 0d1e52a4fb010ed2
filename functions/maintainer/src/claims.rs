//! What the processor remembers of an event id, as operators see it.

use event::{EventId, EventKey, Origin, TenantId, Timestamp};
use pipeline::ports::{HeldClaim, HeldClaims};
use serde::Serialize;

use crate::error::MaintainerError;

/// The answer to `show-dedup`.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(crate) struct ShownClaim {
    tenant: TenantId,
    event_id: EventId,
    /// `None` if nothing is remembered: the next record with this id is no duplicate.
    claim: Option<Remembered>,
}

#[derive(Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Remembered {
    /// The first copy of the record that owns the id. Records of other origins are its duplicates.
    owner: Origin,
    /// SHA-256 of its content, in hexadecimal digits.
    payload_hash: String,
    expires_at: Timestamp,
    /// Whether the next record with this id may take it over.
    expired: bool,
}

pub(crate) async fn show(
    claims: &dyn HeldClaims,
    tenant: TenantId,
    event_id: EventId,
    now: Timestamp,
) -> Result<ShownClaim, MaintainerError> {
    let key = EventKey { tenant, id: event_id };
    let held = claims.find(&key).await.map_err(MaintainerError::Claims)?;
    let claim = held.map(|HeldClaim { owner, payload_hash, expires_at }| Remembered {
        owner,
        payload_hash: payload_hash.to_string(),
        expires_at,
        expired: expires_at <= now,
    });
    Ok(ShownClaim { tenant: key.tenant, event_id: key.id, claim })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use event::PayloadHash;
    use pipeline::ports::{Claim, ClaimStore as _};
    use testkit::fakes::claims::FakeClaims;

    use super::*;

    #[tokio::test]
    async fn a_claim_is_shown_with_its_owner_and_its_end() {
        let (claims, now) = (FakeClaims::new(Duration::from_secs(60)), Timestamp::from_millis(1_000_000));
        let (tenant, id) = (TenantId::new("acme").unwrap(), EventId::new("order-1").unwrap());
        let shown = async |now| show(&claims, tenant.clone(), id.clone(), now).await.unwrap().claim;
        assert_eq!(shown(now).await, None);
        let key = EventKey { tenant: tenant.clone(), id: id.clone() };
        let origin = Origin::new("raw-events", 2, 5);
        let claim = Claim { key, origin: origin.clone(), payload_hash: PayloadHash([0xab; 32]) };
        claims.claim(&[claim], now).await.unwrap();
        let held = shown(now).await.unwrap();
        assert_eq!((&held.owner, held.payload_hash.as_str(), held.expired), (&origin, "ab".repeat(32).as_str(), false));
        assert_eq!(held.expires_at, now.plus(Duration::from_secs(60)));
        assert!(shown(held.expires_at).await.unwrap().expired);
    }
}
