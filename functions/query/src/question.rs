//! What a request for a timeline asks for.

use std::time::Duration;

use axum::extract::Path;
use axum::extract::rejection::PathRejection;
use axum::http::Uri;
use event::EventId;
use pipeline::{Position, topic};
use serde::Deserialize;
use utoipa::IntoParams;

use crate::error::QueryError;
use crate::parameters::{self, number};

/// The query string. Values are texts, so that the error for a value that is not a number can name it.
#[derive(Debug, Default, Deserialize, IntoParams)]
pub(crate) struct Parameters {
    /// The event's id. As a parameter it may have any characters, also those that gateways change in a path.
    #[param(value_type = String, required = false, min_length = 1, max_length = 256, pattern = r"^[^\u0000-\u001F\u007F-\u009F]*$")]
    id: Option<String>,
    /// From the receipt of the event, together with `offset`.
    #[param(value_type = i32, required = false, minimum = 0)]
    partition: Option<String>,
    /// From the receipt of the event, together with `partition`: then a 404 says whether the event is unknown or not yet
    /// processed.
    #[param(value_type = i64, required = false, minimum = 0)]
    offset: Option<String>,
    /// How long to wait, in milliseconds: until the receipt's record is processed, or without a receipt until anything is
    /// known. The service has a longest wait of its own.
    #[param(value_type = i64, required = false, minimum = 0, maximum = 4_294_967_295_i64)]
    wait_ms: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    pub id: EventId,
    /// The position of the client's copy in `raw-events`, from its receipt.
    pub receipt: Option<Position>,
    /// How long the client waits for an answer; zero by default.
    pub wait: Duration,
}

impl Question {
    /// The id is in the path or a parameter.
    ///
    /// # Errors
    /// If the id is not valid, in both places or in none, or a parameter is wrong.
    pub fn read(path: Option<Result<Path<String>, PathRejection>>, uri: &Uri) -> Result<Self, QueryError> {
        let in_path = path.transpose().map_err(|_| QueryError::EventId)?;
        let Parameters { id, partition, offset, wait_ms } = parameters::read(uri)?;
        let id = match (in_path, id) {
            (Some(Path(id)), None) | (None, Some(id)) => id,
            (None, None) => {
                return Err(QueryError::Parameter {
                    name: "id",
                    problem: "is missing: ask for /events?id=ID or /events/ID",
                });
            }
            (Some(_), Some(_)) => return Err(QueryError::Parameter { name: "id", problem: "is also in the path" }),
        };
        let receipt = match (partition, offset) {
            (Some(partition), Some(offset)) => Some(Position::new(
                topic::RAW_EVENTS,
                number::<i32>("partition", &partition)?,
                number::<i64>("offset", &offset)?,
            )),
            (None, None) => None,
            (Some(_), None) => {
                return Err(QueryError::Parameter { name: "partition", problem: "must be sent together with offset" });
            }
            (None, Some(_)) => {
                return Err(QueryError::Parameter { name: "offset", problem: "must be sent together with partition" });
            }
        };
        let wait = wait_ms.map_or(Ok(0), |wait_ms| number::<u32>("wait_ms", &wait_ms))?;
        Ok(Question {
            id: EventId::new(&id).map_err(|_| QueryError::EventId)?,
            receipt,
            wait: Duration::from_millis(wait.into()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(id: &str, query: &str) -> Result<Question, String> {
        let uri = format!("/?{query}").parse().unwrap();
        let path = (!id.is_empty()).then(|| Ok(Path(id.to_owned())));
        Question::read(path, &uri).map_err(|error| error.to_string())
    }

    #[test]
    fn the_id_is_in_the_path_or_a_parameter() {
        assert_eq!(read("a", "").unwrap(), read("", "id=a").unwrap());
        let odd = read("", "partition=2&id=%2Fshop%7Ca%26b%3Dc%2B%20%C3%A9%3F%23..&offset=5").unwrap();
        assert_eq!((odd.id.as_str(), odd.receipt.is_some()), ("/shop|a&b=c+ é?#..", true));
        assert_eq!(read("", "").unwrap_err(), "id is missing: ask for /events?id=ID or /events/ID");
        assert_eq!(read("a", "id=a").unwrap_err(), "id is also in the path");
        assert!(read("", "id=a&id=b").is_err() && read("", "id=").is_err());
        for not_text in ["id=%ff", "id=a&wait_ms=%c3", "other=%ed%a0%80&id=a"] {
            assert_eq!(read("", not_text).unwrap_err(), "a parameter is not UTF-8", "{not_text}");
        }
    }

    #[test]
    fn a_receipt_has_both_parts() {
        let receipt = read("a", "partition=2&offset=5&wait_ms=30").unwrap();
        assert_eq!(receipt.receipt, Some(Position::new("raw-events", 2, 5)));
        assert_eq!(receipt.wait, Duration::from_millis(30));
        let plain = read("a", "other=1").unwrap();
        assert_eq!((plain.receipt, plain.wait), (None, Duration::ZERO));
        assert_eq!(read("a", "partition=2").unwrap_err(), "partition must be sent together with offset");
        assert_eq!(read("a", "offset=2").unwrap_err(), "offset must be sent together with partition");
    }

    #[test]
    fn what_is_no_number_or_no_id_is_refused() {
        for query in ["partition=-1&offset=0", "partition=2147483648&offset=0", "partition=0&offset=", "wait_ms=1s"] {
            assert!(read("a", query).unwrap_err().ends_with("is not a number in range"), "{query}");
        }
        assert!(read("a", "wait_ms=1&wait_ms=2").is_err());
        assert!(read("a\n", "").is_err());
        assert!(read(&"x".repeat(257), "").is_err());
    }
}
