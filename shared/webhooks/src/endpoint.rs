//! Who is told about outcomes.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use event::{TenantId, Timestamp};
use pipeline::Outcome;
use serde::{Deserialize, Serialize};

use crate::WebhookTarget;

/// The most endpoints of a tenant: every outcome is sent to each that asks for it.
pub const MAX_ENDPOINTS: u32 = 20;

/// Identifies an endpoint: `wh_` and 20 hexadecimal digits.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct EndpointId(Arc<str>);

/// A text that is no id of an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not the id of a webhook: expected wh_ and 20 hexadecimal digits in lower case")]
pub struct EndpointIdError;

impl EndpointId {
    const PREFIX: &str = "wh_";
    /// How many random bytes an id is made of.
    pub const BYTES: usize = 10;

    pub fn of(random: [u8; Self::BYTES]) -> Self {
        let digits: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
        EndpointId(format!("{}{digits}", Self::PREFIX).into())
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for EndpointId {
    type Err = EndpointIdError;

    fn from_str(text: &str) -> Result<Self, EndpointIdError> {
        let digits = text.strip_prefix(Self::PREFIX).ok_or(EndpointIdError)?;
        let is_digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        if digits.len() != 2 * Self::BYTES || !digits.bytes().all(is_digit) {
            return Err(EndpointIdError);
        }
        Ok(EndpointId(text.into()))
    }
}

impl TryFrom<String> for EndpointId {
    type Error = EndpointIdError;

    fn try_from(text: String) -> Result<Self, EndpointIdError> {
        text.parse()
    }
}

impl From<EndpointId> for String {
    fn from(id: EndpointId) -> String {
        id.0.as_ref().to_owned()
    }
}

impl fmt::Display for EndpointId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A server of a tenant that is told about outcomes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WebhookEndpoint {
    pub id: EndpointId,
    pub tenant: TenantId,
    pub target: WebhookTarget,
    /// The outcomes that it asks for.
    pub outcomes: BTreeSet<Outcome>,
    /// The types of events that it asks for; all if empty.
    pub event_types: BTreeSet<String>,
    /// Counts the secrets that it has had, from 1.
    pub secret_version: u32,
    /// Until when the secret before this one signs too.
    pub previous_until: Option<Timestamp>,
    /// Why it is told nothing, if so.
    pub paused: Option<String>,
    pub created_at: Timestamp,
}

impl WebhookEndpoint {
    /// Whether it asks for such outcomes. A record without a type is of none that could be left out.
    pub fn wants(&self, outcome: Outcome, event_type: Option<&str>) -> bool {
        let has_type = || match event_type {
            Some(event_type) => self.event_types.is_empty() || self.event_types.contains(event_type),
            None => self.event_types.is_empty(),
        };
        self.outcomes.contains(&outcome) && has_type()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_known_by_their_form() {
        let id = EndpointId::of([0xab; EndpointId::BYTES]);
        assert_eq!(id.as_str(), "wh_abababababababababab");
        assert_eq!(id.as_str().parse(), Ok(id));
        for text in ["", "wh_", "wh_ABABABABABABABABABAB", "xx_abababababababababab", "wh_ababababababababababa"] {
            assert_eq!(text.parse::<EndpointId>(), Err(EndpointIdError), "{text}");
        }
    }
}
