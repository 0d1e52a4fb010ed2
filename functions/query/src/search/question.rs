//! What a search asks for.

use std::time::Duration;

use event::{TenantId, Timestamp, TypeDefinition};
use pipeline::ports::{SearchRequest, StoredStatus};

use super::cursor::Cursor;
use crate::error::{ParametersOf, QueryError};
use crate::parameters::{Given, number_within};
use crate::time_range::{self, TimeRange};

const DEFAULT_LIMIT: usize = 50;
const MAX_LIMIT: usize = 100;
const MAX_DAYS: u64 = 100;

/// Those that are not named after a dimension.
pub const PARAMETERS: &[&str] =
    &["type", "status", "user_id", "dimension", "value", "hours", "from", "to", "limit", "next", "tenant"];

/// The names of all parameters, as a list.
pub fn parameters() -> String {
    let dimensions = TypeDefinition::all_dimensions().filter(|name| !PARAMETERS.contains(name));
    PARAMETERS.iter().copied().chain(dimensions).collect::<Vec<_>>().join(", ")
}

/// # Errors
/// If a parameter is wrong, out of bounds, sent twice, not known, or does not go with the others.
pub fn read(tenant: TenantId, mut given: Given, now: Timestamp) -> Result<SearchRequest, QueryError> {
    let [event_type, status, user_id, dimension, value, hours, from, to, limit, next] = [
        given.take("type")?,
        given.take("status")?,
        given.take("user_id")?,
        given.take("dimension")?,
        given.take("value")?,
        given.take("hours")?,
        given.take("from")?,
        given.take("to")?,
        given.take("limit")?,
        given.take("next")?,
    ];
    // It is read with the key that may ask about it.
    given.take("tenant")?;
    let mut dimensions = Vec::new();
    for name in TypeDefinition::all_dimensions() {
        if let Some(value) = given.take(name)? {
            dimensions.push((name, value));
        }
    }
    match (dimension, value) {
        (Some(dimension), Some(value)) => {
            let known = TypeDefinition::all_dimensions().find(|known| *known == dimension);
            dimensions.push((known.ok_or(QueryError::UnknownDimension)?, value));
        }
        (None, None) => {}
        (Some(_), None) | (None, Some(_)) => {
            return Err(QueryError::Parameter { name: "dimension", problem: "and value must be sent together" });
        }
    }
    given.end(ParametersOf::Search)?;
    let status = status.map(|status| status.parse::<StoredStatus>());
    let not_stored =
        |_| QueryError::OutOfBounds { name: "status", bound: "valid, fraud or unscored: others have no event" };
    let limit = limit.map_or(Ok(DEFAULT_LIMIT), |limit| number_within("limit", &limit, 1..=MAX_LIMIT, "1 to 100"))?;
    let not_a_cursor = QueryError::Parameter { name: "next", problem: "is not the next of an earlier answer" };
    let next = next.map(|next| Cursor::parse(&next).ok_or(not_a_cursor)).transpose()?;
    let TimeRange { from, to } = match &next {
        Some(cursor) => TimeRange { from: cursor.from, to: cursor.to },
        None => time_range::read(hours, from, to, now)?,
    };
    if to.since(from) > Duration::from_secs(MAX_DAYS * 86_400) {
        return Err(QueryError::OutOfBounds { name: "the range", bound: "at most 100 days long" });
    }
    Ok(SearchRequest {
        tenant,
        event_type,
        status: status.transpose().map_err(not_stored)?,
        user_id,
        dimensions,
        from,
        to,
        after: next.map(|cursor| cursor.after()),
        limit,
    })
}

#[cfg(test)]
mod tests {
    use event::EventId;
    use pipeline::ports::SearchPlace;

    use super::*;

    const NOW: &str = "2026-11-20T18:02:00.000Z";

    fn at(text: &str) -> Timestamp {
        Timestamp::parse(text).unwrap()
    }

    fn read(query: &str) -> Result<SearchRequest, QueryError> {
        let given = Given(crate::parameters::read(&format!("/?{query}").parse().unwrap())?);
        super::read(TenantId::new("acme").unwrap(), given, at(NOW))
    }

    fn refused(query: &str) -> (u16, String) {
        let error = read(query).unwrap_err();
        (error.status().as_u16(), error.to_string())
    }

    #[test]
    fn without_parameters_it_is_the_last_day() {
        let request = read("").unwrap();
        assert_eq!((request.from, request.to), (at("2026-11-19T18:02:00Z"), at(NOW)));
        assert_eq!((request.limit, request.after, request.status), (50, None, None));
        assert!(request.dimensions.is_empty() && request.event_type.is_none() && request.user_id.is_none());
    }

    #[test]
    fn each_condition_is_a_parameter() {
        let request =
            read("type=click&user_id=u%201&status=unscored&campaign_id=c%2F1&geo_country=&limit=100").unwrap();
        assert_eq!((request.event_type.as_deref(), request.user_id.as_deref()), (Some("click"), Some("u 1")));
        assert_eq!((request.status, request.limit), (Some(StoredStatus::Unscored), 100));
        assert_eq!(request.dimensions, [("campaign_id", "c/1".to_owned()), ("geo_country", String::new())]);
        // The name of this dimension is that of another parameter.
        let request = read("status=valid&dimension=status&value=404").unwrap();
        assert_eq!(
            (request.status, request.dimensions),
            (Some(StoredStatus::Valid), vec![("status", "404".to_owned())])
        );
    }

    #[test]
    fn a_dimension_with_the_name_of_a_parameter_is_asked_for_by_name_and_value() {
        let both: Vec<_> = TypeDefinition::all_dimensions().filter(|name| PARAMETERS.contains(name)).collect();
        assert_eq!(both, ["status"]);
    }

    #[test]
    fn the_next_page_has_the_range_of_the_first() {
        let last = SearchPlace { received_at: at("2026-11-20T10:00:00Z"), id: EventId::new("a").unwrap() };
        let next = Cursor::new(at("2026-11-20T09:00:00Z"), at("2026-11-20T11:00:00Z"), &last).to_text();
        for same in ["", "&hours=1", "&from=2026-11-20T09:00:00Z&to=2026-11-20T11:00:00Z"] {
            let request = read(&format!("next={next}{same}")).unwrap();
            assert_eq!((request.from, request.to), (at("2026-11-20T09:00:00Z"), at("2026-11-20T11:00:00Z")), "{same}");
            assert_eq!(request.after.as_ref(), Some(&last), "{same}");
        }
    }

    #[test]
    fn what_is_wrong_is_told() {
        for (query, status, detail) in [
            ("limit=0", 422, "limit must be 1 to 100"),
            ("limit=101", 422, "limit must be 1 to 100"),
            ("limit=many", 400, "limit is not a number in range"),
            ("status=duplicate", 422, "status must be valid, fraud or unscored: others have no event"),
            ("hours=745", 422, "hours must be 1 to 744"),
            ("from=2026-01-01T00:00:00Z&to=2026-04-11T00:00:00.001Z", 422, "the range must be at most 100 days long"),
            ("from=2026-01-01T00:00:00Z&to=2026-01-01T00:00:00Z", 422, "from must be before to"),
            ("campaign_id=a&campaign_id=a", 400, "campaign_id is sent twice"),
            ("next=a", 400, "next is not the next of an earlier answer"),
            ("value=1", 400, "dimension and value must be sent together"),
            ("dimension=unit", 400, "dimension and value must be sent together"),
            ("user_id=%ff", 400, "a parameter is not UTF-8"),
        ] {
            assert_eq!(refused(query), (status, detail.to_owned()), "{query}");
        }
        assert!(read("from=2026-01-01T00:00:00Z&to=2026-04-11T00:00:00Z").is_ok());
        assert_eq!(refused("dimension=none&value=1").0, 422);
        let (status, detail) = refused("campaign=c1");
        assert_eq!(status, 400);
        assert!(detail.starts_with("there is no parameter campaign;") && detail.contains("campaign_id"), "{detail}");
    }
}
