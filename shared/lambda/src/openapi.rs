//! What the descriptions of HTTP functions (OpenAPI 3.1) have in common: which problem documents an operation may answer.
//!
//! Descriptions are made by `local/contract`, from the functions' `openapi.rs`. No function makes one while it runs.

use std::collections::BTreeMap;

use axum::http::StatusCode;
use event::TimeDoubt;
use strum::VariantArray as _;
use utoipa::openapi::path::{HttpMethod, OperationBuilder, PathItem, PathsBuilder};
use utoipa::openapi::schema::{AllOfBuilder, ObjectBuilder, Ref, Type};
use utoipa::openapi::{Content, HeaderBuilder, Response, ResponseBuilder, Schema};

use crate::http_trigger::Refusal;
use crate::plain::busy;
use crate::plain::strict::Misread;
use crate::problem::urn;

/// A problem that an operation may answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProblemKind {
    pub status: StatusCode,
    /// The end of the problem's type.
    pub tag: &'static str,
    /// When it is answered, in the words of an error message.
    pub meaning: String,
    /// Whether the answer says when to come back.
    pub has_retry_after: bool,
}

/// What is answered in front of every function, by the server or the reader of triggers.
pub fn edge_problems() -> Vec<ProblemKind> {
    let misread = Misread::VARIANTS.iter().map(|misread| ProblemKind {
        status: StatusCode::BAD_REQUEST,
        tag: misread.tag(),
        meaning: misread.to_string(),
        has_retry_after: false,
    });
    let refused = Refusal::VARIANTS.iter().map(|refusal| {
        let (status, tag) = refusal.status_and_tag();
        ProblemKind { status, tag, meaning: refusal.to_string(), has_retry_after: false }
    });
    let busy = ProblemKind {
        status: StatusCode::SERVICE_UNAVAILABLE,
        tag: "busy",
        meaning: busy().detail,
        has_retry_after: true,
    };
    misread.chain(refused).chain([busy]).collect()
}

/// A response for each status of `kinds`, whose body is the component `schema` with one of the types that the status has.
pub fn problem_responses(schema: &str, kinds: &[ProblemKind]) -> BTreeMap<String, Response> {
    let mut by_status: BTreeMap<StatusCode, Vec<&ProblemKind>> = BTreeMap::new();
    for kind in kinds {
        by_status.entry(kind.status).or_default().push(kind);
    }
    by_status
        .into_iter()
        .map(|(status, kinds)| (status.as_str().to_owned(), response(schema, status, &kinds)))
        .collect()
}

fn response(schema: &str, status: StatusCode, kinds: &[&ProblemKind]) -> Response {
    let mut meanings: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for kind in kinds {
        meanings.entry(kind.tag).or_default().push(&kind.meaning);
    }
    let mut description = status.canonical_reason().unwrap_or("Error").to_owned();
    for (tag, meanings) in &meanings {
        description.push_str(&format!("\n- `{tag}`: {}", meanings.join("; or ")));
    }
    let types = ObjectBuilder::new().schema_type(Type::String).enum_values(Some(meanings.keys().map(|tag| urn(tag))));
    let statuses = ObjectBuilder::new().schema_type(Type::Integer).enum_values(Some([status.as_u16()]));
    let narrowed = ObjectBuilder::new().property("type", types).property("status", statuses);
    let body = AllOfBuilder::new().item(Ref::from_schema_name(schema)).item(narrowed);
    let header = |description, kind| {
        let schema = ObjectBuilder::new().schema_type(kind);
        HeaderBuilder::new().schema(Some(schema)).description(Some(description)).build()
    };
    let mut response =
        ResponseBuilder::new().description(description).content("application/problem+json", Content::new(Some(body)));
    if kinds.iter().any(|kind| kind.has_retry_after) {
        response = response.header("Retry-After", header("When to come back, in seconds.", Type::Integer));
    }
    if status == StatusCode::UNAUTHORIZED {
        response = response.header("WWW-Authenticate", header("The scheme of API keys.", Type::String));
    }
    if status == StatusCode::METHOD_NOT_ALLOWED {
        response = response.header("Allow", header("The methods that the function takes at this path.", Type::String));
    }
    response.build()
}

/// Adds the operation at a path, with its problems.
pub fn add_operation(
    paths: PathsBuilder,
    path: &str,
    method: HttpMethod,
    operation: OperationBuilder,
    problems: BTreeMap<String, Response>,
) -> PathsBuilder {
    let operation =
        problems.into_iter().fold(operation, |operation, (status, response)| operation.response(status, response));
    paths.path(path, PathItem::new(method, operation))
}

/// A text that is one of `values`.
pub fn one_of<'a>(values: impl IntoIterator<Item = &'a str>) -> ObjectBuilder {
    ObjectBuilder::new().schema_type(Type::String).enum_values(Some(values))
}

/// Of events, and so the same in both functions.
pub fn time_doubt() -> Schema {
    one_of(TimeDoubt::ALL.map(TimeDoubt::as_str)).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_response_lists_the_problems_of_its_status() {
        let kind = |tag, meaning: &str| ProblemKind {
            status: StatusCode::NOT_FOUND,
            tag,
            meaning: meaning.to_owned(),
            has_retry_after: tag == "not_yet",
        };
        let kinds = [kind("unknown", "no such thing"), kind("not_yet", "it waits"), kind("unknown", "it is gone")];
        let responses = problem_responses("Problem", &kinds);
        let response = serde_json::to_value(&responses["404"]).unwrap();
        assert_eq!(
            response["description"],
            "Not Found\n- `not_yet`: it waits\n- `unknown`: no such thing; or it is gone"
        );
        assert!(response["headers"]["Retry-After"].is_object());
        let narrowed = &response["content"]["application/problem+json"]["schema"]["allOf"][1]["properties"];
        assert_eq!(
            narrowed["type"]["enum"],
            serde_json::json!(["urn:forebay:problem:not_yet", "urn:forebay:problem:unknown"])
        );
        assert_eq!(narrowed["status"]["enum"], serde_json::json!([404]));
    }
}
