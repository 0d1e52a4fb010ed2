//! This function's part of the description of the HTTP interfaces of ingest and query (ADR 40).

use api_keys::{KeyError, RateError};
use lambda::openapi::{ProblemKind, add_operation, edge_problems, problem_responses};
use lambda::problem::Problem;
use utoipa::IntoParams;
use utoipa::openapi::path::{HttpMethod, OperationBuilder, Parameter, ParameterBuilder, ParameterIn, PathsBuilder};
use utoipa::openapi::schema::{AllOfBuilder, AnyOfBuilder, ComponentsBuilder, ObjectBuilder, Type};
use utoipa::openapi::{
    Content, InfoBuilder, OpenApi, OpenApiBuilder, Ref, RefOr, Required, ResponseBuilder, Schema, SecurityRequirement,
};

use crate::error::{ParametersOf, QueryError};
use crate::search::answer::{Hit, SearchAnswer};
use crate::stats::addresses::{AddressShares, TopAddressesAnswer};
use crate::stats::answer::{
    CampaignFigures, DistinctUsers, Entry, Measured, RangeOfSeries, Shown, StatsAnswer, TopValue, TopValuesAnswer,
    Value,
};
use crate::stream::answer::StreamedOutcome;
use crate::time_range::TimeRange;
use crate::timeline::{Missing, Receipt, RedriveState, Risk, Timeline, TimelineStep};
use crate::{question, schemas, search, stats, stream};

/// The operations that read.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Asked {
    Event,
    /// One event, or a search.
    Events,
    Statistics,
    Stream,
    Document,
}

/// The operations of this function, with the types of their answers.
pub fn operations() -> OpenApi {
    let components = ComponentsBuilder::new()
        .schema_from::<Problem>()
        .schema_from::<Timeline>()
        .schema_from::<Receipt>()
        .schema_from::<TimelineStep>()
        .schema_from::<Missing>()
        .schema_from::<RedriveState>()
        .schema_from::<Risk>()
        .schema_from::<StatsAnswer<'_>>()
        .schema_from::<RangeOfSeries<'_>>()
        .schema_from::<CampaignFigures<'_>>()
        .schema_from::<Value<'_>>()
        .schema_from::<DistinctUsers>()
        .schema_from::<Measured<'_>>()
        .schema_from::<Entry<'_>>()
        .schema_from::<Shown>()
        .schema_from::<TopValuesAnswer<'_>>()
        .schema_from::<TimeRange>()
        .schema_from::<SearchAnswer>()
        .schema_from::<Hit>()
        .schema_from::<TopAddressesAnswer>()
        .schema_from::<AddressShares>()
        .schema_from::<TopValue<'_>>()
        .schema_from::<StreamedOutcome<'_>>()
        .schema("CampaignStats", campaign_stats())
        .schema("PartStats", stats_of_part())
        .build();
    let (timelines, figures) = (question::Parameters::into_params, stats::question::Parameters::into_params);
    let (timelines, figures) = (timelines(|| Some(ParameterIn::Query)), figures(|| Some(ParameterIn::Query)));
    let id = timelines.iter().find(|parameter| parameter.name == "id").cloned();
    let beside_id = without(&timelines, &["id"]);
    let tenant = schemas::tenant_parameter;
    let in_path = id.clone().map(|mut id| {
        id.parameter_in = ParameterIn::Path;
        id.required = Required::True;
        id.description = Some("The event's id, percent-encoded.".to_owned());
        id
    });
    let of_campaign = without(&figures, &["dimension", "value", "limit"]);
    let campaign = ParameterBuilder::new()
        .name("id")
        .parameter_in(ParameterIn::Path)
        .required(Required::True)
        .description(Some(
            "The campaign's id, percent-encoded. One that a gateway would change in a path goes to `/stats`.",
        ))
        .schema(Some(ObjectBuilder::new().schema_type(Type::String).min_length(Some(1))))
        .build();
    let timeline = |id, summary, description| {
        operation(id, summary, description).response("200", ok("The timeline.", Ref::from_schema_name("EventTimeline")))
    };
    let mut paths = PathsBuilder::new();
    let one = timeline(
        "getEvent",
        "What happened to an event",
        "Every step of the event that is known, in the order in which they happened. Gateways change some paths; ask \
         `/events?id=` for an id with `//`, `..` or an encoded slash.",
    );
    let one = one.parameters(Some(in_path.into_iter().chain(beside_id.clone()).chain([tenant()])));
    paths = add_operation(paths, "/events/{id}", HttpMethod::Get, one, problems(Asked::Event));
    let one_or_many = ["EventTimeline", "SearchAnswer"].map(Ref::from_schema_name);
    let one_or_many = Schema::from(one_or_many.into_iter().fold(AnyOfBuilder::new(), AnyOfBuilder::item));
    let found = operation(
        "findEvents",
        "The events that meet conditions, or one event with its id as a parameter",
        "Without an `id`: a page of the stored events that meet every condition, those received last first. With an `id`: the \
         same as `/events/{id}`; `partition`, `offset` and `wait_ms` go with an `id` alone, and the conditions are not looked \
         at.",
    )
    .response("200", ok("The page of events, or the event's timeline.", one_or_many))
    .parameters(Some(search::documented().into_iter().chain(id).chain(beside_id)));
    paths = add_operation(paths, "/events", HttpMethod::Get, found, problems(Asked::Events));
    let campaign_stats = operation(
        "getCampaignStats",
        "Statistics of a campaign",
        "A campaign that nobody has heard of has zeros. `from` and `to` go together, and not with `hours`.",
    )
    .response("200", ok("The campaign's statistics.", Ref::from_schema_name("CampaignStats")))
    .parameters(Some([campaign].into_iter().chain(of_campaign).chain([tenant()])));
    let path = "/campaigns/{id}/stats";
    paths = add_operation(paths, path, HttpMethod::Get, campaign_stats, problems(Asked::Statistics));
    let either = ["PartStats", "TopValuesAnswer"].map(Ref::from_schema_name);
    let either = Schema::from(either.into_iter().fold(AnyOfBuilder::new(), AnyOfBuilder::item));
    let part = operation(
        "getStats",
        "Statistics of a value of a dimension, of its values, or of everything",
        "`value` needs `dimension`. A dimension without a value lists its values, which have no series: then there is no \
         `interval` and no `timezone`, and only then a `limit`.",
    )
    .response("200", ok("The statistics, or the values with the most records.", either))
    .parameters(Some(figures.into_iter().chain([tenant()])));
    paths = add_operation(paths, "/stats", HttpMethod::Get, part, problems(Asked::Statistics));
    let addresses = stats::addresses::Parameters::into_params(|| Some(ParameterIn::Query));
    let addresses = operation(
        "getTopAddresses",
        "The client addresses with the most records",
        "The key needs the scope `operate`, and not `read`.",
    )
    .response("200", ok("The addresses with the most records first.", Ref::from_schema_name("TopAddressesAnswer")))
    .parameters(Some(addresses.into_iter().chain([tenant()])));
    paths = add_operation(paths, "/addresses/top", HttpMethod::Get, addresses, problems(Asked::Statistics));
    let events = Content::new(Some(text()));
    let streamed = operation(
        "streamOutcomes",
        "The outcomes of events, as they happen",
        "Server-sent events without an end: `event` is the outcome, `data` a `StreamedOutcome` on one line, and `id` where the \
         stream is. A client that connects again with the id of the last event gets what it has missed: every event, in the order \
         of each partition, and seldom one twice. An event `gap` says what cannot be read any more. Behind API Gateway or a load \
         balancer the answer ends with the first events, and the client asks again.",
    )
    .response("200", ResponseBuilder::new().description("The outcomes.").content("text/event-stream", events))
    .parameters(Some(stream::documented()));
    paths = add_operation(paths, "/stream", HttpMethod::Get, streamed, problems(Asked::Stream));
    let document = operation("getOpenApi", "This document", "Needs no API key.")
        .securities(Some([SecurityRequirement::default()]))
        .response("200", ok("An OpenAPI document.", ObjectBuilder::new().schema_type(Type::Object).build()));
    paths = add_operation(paths, "/openapi.json", HttpMethod::Get, document, problems(Asked::Document));
    let info = InfoBuilder::new().title("query").version(env!("CARGO_PKG_VERSION")).build();
    OpenApiBuilder::new().info(info).paths(paths).components(Some(components)).build()
}

fn operation(id: &str, summary: &str, description: &str) -> OperationBuilder {
    let required = ["bearer", "apiKey"].map(|scheme| SecurityRequirement::new(scheme, [""; 0]));
    let operation = OperationBuilder::new().operation_id(Some(id)).tag("query").securities(Some(required));
    operation.summary(Some(summary)).description(Some(description))
}

fn ok(description: &str, schema: impl Into<RefOr<Schema>>) -> ResponseBuilder {
    ResponseBuilder::new().description(description).content("application/json", Content::new(Some(schema)))
}

fn without(parameters: &[Parameter], names: &[&str]) -> Vec<Parameter> {
    parameters.iter().filter(|parameter| !names.contains(&parameter.name.as_str())).cloned().collect()
}

fn problems(asked: Asked) -> std::collections::BTreeMap<String, utoipa::openapi::Response> {
    let errors = QueryError::of_each_kind().into_iter().filter(|error| is_answered(error, asked));
    let kinds = errors.map(|error| ProblemKind {
        status: error.status(),
        tag: error.tag(),
        meaning: error.to_string(),
        has_retry_after: error.retry_after().is_some(),
    });
    problem_responses("Problem", &kinds.chain(edge_problems()).collect::<Vec<_>>())
}

/// Whether an operation can fail so.
fn is_answered(error: &QueryError, asked: Asked) -> bool {
    match error {
        // A key is not looked for in the URL, and one request always fits into a limit.
        QueryError::Key(KeyError::InUrl) | QueryError::Rate(RateError::NeverFits { .. }) | QueryError::NoSuchPath => {
            false
        }
        QueryError::Key(_) | QueryError::Rate(_) | QueryError::Parameter { .. } => asked != Asked::Document,
        QueryError::EventId
        | QueryError::Unknown { .. }
        | QueryError::NotYetProcessed { .. }
        | QueryError::History(_) => matches!(asked, Asked::Event | Asked::Events),
        QueryError::NoSuchParameter { of: ParametersOf::Stream, .. }
        | QueryError::StreamsOff
        | QueryError::TooManyStreams
        | QueryError::Stream(_) => asked == Asked::Stream,
        QueryError::NoSuchParameter { of: ParametersOf::Search, .. } | QueryError::SearchTooWide => {
            asked == Asked::Events
        }
        QueryError::OutOfBounds { .. } => matches!(asked, Asked::Events | Asked::Statistics | Asked::Stream),
        QueryError::UnknownDimension => matches!(asked, Asked::Events | Asked::Statistics),
        QueryError::UnknownTimezone | QueryError::Statistics(_) => asked == Asked::Statistics,
        QueryError::Method => true,
    }
}

fn text() -> ObjectBuilder {
    ObjectBuilder::new().schema_type(Type::String)
}

fn campaign_stats() -> Schema {
    let id = ObjectBuilder::new().property("campaign_id", text()).required("campaign_id");
    let figures = [Ref::from_schema_name("StatsAnswer"), Ref::from_schema_name("CampaignFigures")];
    figures.into_iter().fold(AllOfBuilder::new().item(id), AllOfBuilder::item).into()
}

fn stats_of_part() -> Schema {
    let part = ObjectBuilder::new().property("dimension", text()).property("value", text());
    AllOfBuilder::new().item(part).item(Ref::from_schema_name("StatsAnswer")).into()
}
