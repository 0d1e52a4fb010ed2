//! The time that a question is about.

use event::Timestamp;
use serde::Serialize;
use statistics::Range;
use utoipa::ToSchema;

use crate::error::QueryError;
use crate::parameters::number_within;

const DEFAULT_HOURS: u64 = 24;
/// The most that `hours` may be.
pub const MAX_HOURS: u64 = 31 * 24;

/// From the one instant to before the other, which is later.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct TimeRange {
    #[schema(value_type = String, format = DateTime)]
    pub from: Timestamp,
    #[schema(value_type = String, format = DateTime)]
    pub to: Timestamp,
}

impl From<Range> for TimeRange {
    fn from(Range { from, to }: Range) -> Self {
        TimeRange { from, to }
    }
}

/// The last `hours`, or `from` and `to`.
///
/// # Errors
/// If one of them cannot be read, is out of bounds or does not go with the others.
pub fn read(
    hours: Option<String>,
    from: Option<String>,
    to: Option<String>,
    now: Timestamp,
) -> Result<TimeRange, QueryError> {
    let refused = |name, problem| Err(QueryError::Parameter { name, problem });
    let (from, to) = match (hours, from, to) {
        (None, Some(from), Some(to)) => (instant("from", &from)?, instant("to", &to)?),
        (hours, None, None) => {
            let hours =
                hours.map_or(Ok(DEFAULT_HOURS), |hours| number_within("hours", &hours, 1..=MAX_HOURS, "1 to 744"))?;
            let ms = i64::try_from(hours).unwrap_or(i64::MAX).saturating_mul(3_600_000);
            (Timestamp::from_millis(now.as_millis().saturating_sub(ms)), now)
        }
        (Some(_), _, _) => return refused("hours", "cannot be sent together with from or to"),
        (None, Some(_), None) => return refused("from", "must be sent together with to"),
        (None, None, Some(_)) => return refused("to", "must be sent together with from"),
    };
    if from >= to {
        return Err(QueryError::OutOfBounds { name: "from", bound: "before to" });
    }
    Ok(TimeRange { from, to })
}

/// # Errors
/// If the text is not a date-time.
pub fn instant(name: &'static str, text: &str) -> Result<Timestamp, QueryError> {
    let problem = "is not an RFC 3339 date-time, such as 2026-11-20T18:00:00Z; a + in it is written as %2B";
    Timestamp::parse(text).map_err(|_| QueryError::Parameter { name, problem })
}
