//! The addresses that send the most.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::{HeaderMap, Uri};
use axum::response::Response;
use event::Timestamp;
use serde::{Deserialize, Serialize};
use statistics::{AddressTotals, Range, TopAddresses, hour_of};
use tokio::time::Instant;
use utoipa::{IntoParams, ToSchema};

use super::answer::share;
use crate::app::App;
use crate::error::QueryError;
use crate::handler::{answered, refuse};
use crate::parameters::{self, number_within};
use crate::time_range::TimeRange;

const DEFAULT_HOURS: u64 = 24;
/// Every hour is up to 200 kB to read.
const MAX_HOURS: u64 = 7 * 24;
const DEFAULT_LIMIT: u16 = 20;
const MAX_LIMIT: u16 = 100;

pub(crate) async fn of_addresses(State(app): State<Arc<App>>, headers: HeaderMap, uri: Uri) -> Response {
    app.addresses(&headers, &uri).await.unwrap_or_else(|error| refuse(&error))
}

impl App {
    async fn addresses(&self, headers: &HeaderMap, uri: &Uri) -> Result<Response, QueryError> {
        let (started, now) = (Instant::now(), self.clock.now());
        let tenant = self.admit_operator(headers, uri, now).await?;
        let AddressesQuestion { range, limit } = AddressesQuestion::read(uri, now)?;
        let top = self.ports.statistics.top_addresses(&tenant, range, limit);
        let top = self.postgres.call_once("reading the busiest addresses", top).await;
        let top = top.map_err(QueryError::Statistics)?;
        tracing::info!(duration_ms = pipeline::millis(started.elapsed()), "addresses read");
        Ok(answered(&TopAddressesAnswer::new(range, top)))
    }
}

#[derive(Debug, Deserialize, IntoParams)]
pub(crate) struct Parameters {
    /// The last so many hours; 24. The first is counted whole.
    #[param(value_type = u32, required = false, minimum = 1, maximum = 168)]
    hours: Option<String>,
    /// How many addresses; 20.
    #[param(value_type = u16, required = false, minimum = 1, maximum = 100)]
    limit: Option<String>,
}

#[derive(Debug, PartialEq, Eq)]
struct AddressesQuestion {
    /// Whole hours in UTC.
    range: Range,
    limit: u16,
}

impl AddressesQuestion {
    fn read(uri: &Uri, now: Timestamp) -> Result<Self, QueryError> {
        let Parameters { hours, limit } = parameters::read(uri)?;
        let hours =
            hours.map_or(Ok(DEFAULT_HOURS), |hours| number_within("hours", &hours, 1..=MAX_HOURS, "1 to 168"))?;
        let limit =
            limit.map_or(Ok(DEFAULT_LIMIT), |limit| number_within("limit", &limit, 1..=MAX_LIMIT, "1 to 100"))?;
        let ms = i64::try_from(hours * 3_600_000).unwrap_or(i64::MAX);
        let from = hour_of(Timestamp::from_millis(now.as_millis().saturating_sub(ms)));
        let to = hour_of(now).plus(Duration::from_secs(3600));
        Ok(AddressesQuestion { range: Range { from, to }, limit })
    }
}

#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct TopAddressesAnswer {
    range: TimeRange,
    /// Everything received before it is counted.
    #[schema(value_type = Option<String>, format = DateTime, required)]
    complete_until: Option<Timestamp>,
    addresses: Vec<AddressShares>,
    /// By how much the counts may be too high.
    error: u64,
}

#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct AddressShares {
    /// As limits and the block list have it.
    address: String,
    records: u64,
    /// Stored events.
    events: u64,
    fraud: u64,
    blocked: u64,
    /// Of the stored events.
    #[schema(required)]
    fraud_share: Option<f64>,
    /// Of all records.
    #[schema(required)]
    blocked_share: Option<f64>,
}

impl TopAddressesAnswer {
    fn new(range: Range, TopAddresses { complete_until, addresses, error }: TopAddresses) -> Self {
        let signed = |count| i64::try_from(count).unwrap_or(i64::MAX);
        let figures = |AddressTotals { address, records, events, fraud, blocked }| AddressShares {
            fraud_share: share(signed(fraud), signed(events)),
            blocked_share: share(signed(blocked), signed(records)),
            address,
            records,
            events,
            fraud,
            blocked,
        };
        let addresses = addresses.into_iter().map(figures).collect();
        TopAddressesAnswer { range: range.into(), complete_until, addresses, error }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(query: &str) -> Result<AddressesQuestion, (u16, String)> {
        let now = Timestamp::parse("2026-11-20T18:02:00.000Z").unwrap();
        let question = AddressesQuestion::read(&format!("/?{query}").parse().unwrap(), now);
        question.map_err(|error| (error.status().as_u16(), error.to_string()))
    }

    #[test]
    fn the_range_is_of_whole_hours() {
        let at = |text| Timestamp::parse(text).unwrap();
        let question = read("").unwrap();
        assert_eq!((question.range.from, question.limit), (at("2026-11-19T18:00:00Z"), 20));
        assert_eq!(question.range.to, at("2026-11-20T19:00:00Z"));
        assert_eq!(read("hours=1&limit=100").unwrap().range.from, at("2026-11-20T17:00:00Z"));
        assert!(read("hours=168").is_ok());
    }

    #[test]
    fn what_is_out_of_bounds_is_told_with_the_bound() {
        for (query, status, detail) in [
            ("hours=0", 422, "hours must be 1 to 168"),
            ("hours=169", 422, "hours must be 1 to 168"),
            ("limit=0", 422, "limit must be 1 to 100"),
            ("limit=101", 422, "limit must be 1 to 100"),
            ("hours=many", 400, "hours is not a number in range"),
        ] {
            assert_eq!(read(query).unwrap_err(), (status, detail.to_owned()), "{query}");
        }
    }
}
