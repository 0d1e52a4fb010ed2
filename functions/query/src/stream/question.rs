//! What a stream is asked for.

use std::str::FromStr as _;

use axum::http::HeaderMap;
use event::TenantId;
use pipeline::Outcome;
use pipeline::ports::{TailPlace, TailStart};

use super::place_text;
use crate::error::{ParametersOf, QueryError};
use crate::parameters::Given;
use crate::time_range::instant;

pub const PARAMETERS: &[&str] = &["outcome", "type", "user_id", "from", "last_event_id", "tenant"];

/// What a browser sends when it connects again.
const LAST_EVENT_ID: &str = "last-event-id";

/// The outcomes that are wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    pub tenant: TenantId,
    /// None means all of them.
    pub outcomes: Vec<Outcome>,
    pub event_type: Option<String>,
    pub user_id: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamRequest {
    pub wanted: Wanted,
    pub start: TailStart,
}

/// # Errors
/// If a parameter is wrong, sent twice or not known, or the last id was not written by a stream.
pub fn read(tenant: TenantId, mut given: Given, headers: &HeaderMap) -> Result<StreamRequest, QueryError> {
    let [outcome, event_type, user_id, from, last_event_id] = [
        given.take("outcome")?,
        given.take("type")?,
        given.take("user_id")?,
        given.take("from")?,
        given.take("last_event_id")?,
    ];
    // It is read with the key that may ask about it.
    given.take("tenant")?;
    given.end(ParametersOf::Stream)?;
    let unknown = |_| QueryError::OutOfBounds {
        name: "outcome",
        bound: "one or more of valid, fraud, duplicate, blocked and dead_lettered",
    };
    let outcomes = outcome.iter().flat_map(|outcomes| outcomes.split(','));
    let outcomes = outcomes.map(|outcome| Outcome::from_str(outcome.trim()).map_err(unknown));
    let outcomes = outcomes.collect::<Result<Vec<Outcome>, QueryError>>()?;
    let start = match from.as_deref() {
        None | Some("latest") => TailStart::Latest,
        Some("earliest") => TailStart::Earliest,
        Some(from) => TailStart::Since(instant("from", from)?),
    };
    let in_header = headers.get(LAST_EVENT_ID).map(|header| header.to_str().unwrap_or("-"));
    let in_query = place("last_event_id", last_event_id.as_deref())?;
    let start = place("Last-Event-ID", in_header)?.or(in_query).map_or(start, TailStart::At);
    Ok(StreamRequest { wanted: Wanted { tenant, outcomes, event_type, user_id }, start })
}

/// The place of an id. A client that has seen no event may say so with an empty one.
fn place(name: &'static str, id: Option<&str>) -> Result<Option<TailPlace>, QueryError> {
    let not_an_id = QueryError::Parameter { name, problem: "is not the id of an event of a stream" };
    id.filter(|id| !id.is_empty()).map(|id| place_text::parse(id).ok_or(not_an_id)).transpose()
}

#[cfg(test)]
mod tests {
    use event::Timestamp;

    use super::*;

    const ID: &str = "AQEBAQEBAQEBAQEBAQEBAQ.120.98";

    fn read_with(query: &str, last_event_id: Option<&'static str>) -> Result<StreamRequest, (u16, String)> {
        let mut headers = HeaderMap::new();
        if let Some(id) = last_event_id {
            headers.insert(LAST_EVENT_ID, id.parse().unwrap());
        }
        let given = Given(crate::parameters::read(&format!("/?{query}").parse().unwrap()).unwrap());
        let request = read(TenantId::new("acme").unwrap(), given, &headers);
        request.map_err(|error| (error.status().as_u16(), error.to_string()))
    }

    fn start(query: &str, last_event_id: Option<&'static str>) -> TailStart {
        read_with(query, last_event_id).unwrap().start
    }

    #[test]
    fn without_parameters_everything_from_now_on_is_wanted() {
        let request = read_with("tenant=acme", None).unwrap();
        assert_eq!(request.start, TailStart::Latest);
        assert_eq!((request.wanted.outcomes, request.wanted.event_type, request.wanted.user_id), (vec![], None, None));
    }

    #[test]
    fn each_condition_is_a_parameter() {
        let Wanted { outcomes, event_type, user_id, .. } =
            read_with("outcome=fraud,dead_lettered&type=click&user_id=u%201", None).unwrap().wanted;
        assert_eq!(outcomes, [Outcome::Fraud, Outcome::DeadLettered]);
        assert_eq!((event_type.as_deref(), user_id.as_deref()), (Some("click"), Some("u 1")));
    }

    #[test]
    fn the_header_wins_over_the_parameter_and_both_over_from() {
        let place = |next: &[i64]| {
            TailStart::At(TailPlace { topic_id: [1; 16], next: (0..).zip(next.iter().copied()).collect() })
        };
        assert_eq!(start("from=earliest", None), TailStart::Earliest);
        assert_eq!(start("from=latest&last_event_id=", None), TailStart::Latest);
        let since = TailStart::Since(Timestamp::parse("2026-11-20T18:00:00Z").unwrap());
        assert_eq!(start("from=2026-11-20T18:00:00Z", Some("")), since);
        assert_eq!(start(&format!("from=earliest&last_event_id={ID}"), None), place(&[120, 98]));
        let header = "AQEBAQEBAQEBAQEBAQEBAQ.7";
        assert_eq!(start(&format!("from=earliest&last_event_id={ID}"), Some(header)), place(&[7]));
        assert!(read_with("last_event_id=5", Some(header)).is_err(), "what does not count is not left unread");
    }

    #[test]
    fn what_is_wrong_is_told() {
        let not_an_id = "last_event_id is not the id of an event of a stream";
        for (query, status, detail) in [
            ("outcome=good", 422, "outcome must be one or more of valid, fraud, duplicate, blocked and dead_lettered"),
            ("outcome=", 422, "outcome must be one or more of valid, fraud, duplicate, blocked and dead_lettered"),
            ("last_event_id=5", 400, not_an_id),
            ("type=a&type=b", 400, "type is sent twice"),
            (
                "limit=5",
                400,
                "there is no parameter limit; those there are: outcome, type, user_id, from, last_event_id, tenant",
            ),
        ] {
            assert_eq!(read_with(query, None).unwrap_err(), (status, detail.to_owned()), "{query}");
        }
        let from = read_with("from=yesterday", None).unwrap_err();
        assert!(from.0 == 400 && from.1.starts_with("from is not"), "{from:?}");
        let header = read_with("", Some("5")).unwrap_err();
        assert_eq!(header, (400, "Last-Event-ID is not the id of an event of a stream".to_owned()));
    }
}
