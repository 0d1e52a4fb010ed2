//! The description of this function's interface, as a part of `docs/openapi.json` (ADR 40).
//!
//! What is answered comes from the types of the answers and of the errors. What may be sent is told here, in the words of
//! JSON Schema, because events are checked member by member and not read into a type; `make contract-test` holds both
//! against the running function.

use std::collections::{BTreeMap, BTreeSet};

use event::schema::schemas;
use lambda::openapi::{ProblemKind, add_operation, edge_problems, problem_responses};
use lambda::problem::Problem;
use serde_json::{Map, Value, json};
use settings::SettingsError;
use utoipa::PartialSchema as _;
use utoipa::openapi::link::{Link, LinkBuilder};
use utoipa::openapi::path::{HttpMethod, OperationBuilder, ParameterBuilder, ParameterIn, PathsBuilder};
use utoipa::openapi::request_body::{RequestBody, RequestBodyBuilder};
use utoipa::openapi::schema::{ComponentsBuilder, ObjectBuilder, Type};
use utoipa::openapi::{
    Content, InfoBuilder, OpenApi, OpenApiBuilder, Ref, RefOr, Required, ResponseBuilder, Schema, SecurityRequirement,
};

use crate::IngestError;
use crate::answer::{ALL_REJECTED, BatchReceipt, FieldError, IdFrom, ItemAnswer, ItemStatus, Refusal, Sums};
use crate::config::Config;

/// No control characters: those of C0 and C1, and DEL.
const TEXT: &str = r"^[^\u0000-\u001F\u007F-\u009F]*$";
/// A URI reference has no `|`.
const SOURCE: &str = r"^[^|\u0000-\u001F\u007F-\u009F]+$";
/// `application/json`, `…/json` or `…+json`, with any parameters.
const JSON_TYPE: &str = r"^[^;]*[/+][jJ][sS][oO][nN][ \t]*(;.*)?$";
/// An `Idempotency-Key`, bare or as a quoted string.
const KEY: &str = r#"^([!#-~]([ -~]{0,254}[!-~])?|"([ !#-\[\]-~]|\\[ -~]){1,256}")$"#;

/// The operations of this function, with the types of their answers.
///
/// # Errors
/// If the defaults of the settings, which it names, cannot be read.
pub fn operations() -> Result<OpenApi, SettingsError> {
    let config = Config::from_variables(&BTreeMap::from([("KAFKA_BROKERS", "localhost:9092")]))?;
    let kinds = problems(&config);
    let components = ComponentsBuilder::new()
        .schema_from::<Problem>()
        .schema_from::<Refusal<'_>>()
        .schema_from::<FieldError<'_>>()
        .schema_from::<IdFrom>()
        .schema_from::<ItemStatus>()
        .schema_from::<ItemAnswer<'_>>()
        .schema_from::<Sums>()
        .schema_from::<BatchReceipt<'_>>()
        .schema("Receipt", receipt())
        .build();
    let mut paths = PathsBuilder::new();
    for (path, id) in [("/events", "sendEvent"), ("/event", "sendEventAlias")] {
        let also = if path == "/event" { " The same as `/events`." } else { "" };
        let operation = operation(id)
            .summary(Some("Send one event"))
            .description(Some(format!(
                "Answered with 202 when every in-sync replica of Kafka has the event.{also} With headers that begin with \
                 `ce-`, `application/json` is the data of a CloudEvent in binary mode. A JSON array, or the media type of \
                 a batch, is read and answered as at `/events/batch`. The body may be compressed (`Content-Encoding: \
                 gzip` or `zstd`)."
            )))
            .parameter(idempotency_key())
            .request_body(Some(body(&[
                ("application/json", "Event"),
                ("application/cloudevents+json", "CloudEvent"),
            ])))
            .response("202", ok("Every in-sync replica has the event.", "Receipt").link("timeline", timeline_link()));
        let single: Vec<_> = kinds.iter().filter(|kind| kind.tag != ALL_REJECTED.0).cloned().collect();
        paths = add_operation(paths, path, HttpMethod::Post, operation, problem_responses("Refusal", &single));
    }
    let batch = operation("sendEvents")
        .summary(Some("Send a batch of events"))
        .description(Some(
            "Each event is accepted or rejected on its own, and the answer has an item for each. When all are rejected, \
             or it is not known of one whether Kafka has it, the problem document has the members of this answer, too. \
             Newline-delimited JSON has an event on each line.",
        ))
        .request_body(Some(body(&[
            ("application/json", "EventBatch"),
            ("application/cloudevents-batch+json", "CloudEventBatch"),
            ("application/x-ndjson", "EventLines"),
        ])))
        .response("202", ok("Every in-sync replica has every event.", "BatchReceipt"))
        .response("207", ok("Some events are accepted, the others rejected.", "BatchReceipt"));
    let paths = add_operation(paths, "/events/batch", HttpMethod::Post, batch, problem_responses("Refusal", &kinds));
    let info = InfoBuilder::new().title("ingest").version(env!("CARGO_PKG_VERSION")).build();
    Ok(OpenApiBuilder::new().info(info).paths(paths).components(Some(components)).build())
}

/// The problems of all operations: of a path that is there, so none says that there is no such path.
fn problems(config: &Config) -> Vec<ProblemKind> {
    let errors = IngestError::of_each_kind(&config.body, &config.limits);
    let of_items: BTreeSet<_> =
        errors.iter().filter(|error| error.is_rejection_of_an_item()).map(IngestError::status).collect();
    let all_rejected = of_items.into_iter().map(|status| ProblemKind {
        status,
        tag: ALL_REJECTED.0,
        meaning: ALL_REJECTED.1.to_owned(),
        has_retry_after: false,
    });
    let refused = errors.iter().filter(|error| !matches!(error, IngestError::NoSuchPath)).map(|error| ProblemKind {
        status: error.status(),
        tag: error.tag(),
        meaning: error.detail(),
        has_retry_after: error.retry_after().is_some(),
    });
    refused.chain(all_rejected).chain(edge_problems()).collect()
}

fn operation(id: &str) -> OperationBuilder {
    let schemes = ["bearer", "apiKey", "publishableKey"];
    let required = schemes.map(|scheme| SecurityRequirement::new(scheme, [""; 0]));
    OperationBuilder::new().operation_id(Some(id)).tag("ingest").securities(Some(required))
}

fn idempotency_key() -> ParameterBuilder {
    let schema = ObjectBuilder::new().schema_type(Type::String).pattern(Some(KEY));
    ParameterBuilder::new()
        .name("Idempotency-Key")
        .parameter_in(ParameterIn::Header)
        .required(Required::False)
        .description(Some("The id of an event that has none itself."))
        .schema(Some(schema))
}

fn body(contents: &[(&str, &str)]) -> RequestBody {
    let builder = RequestBodyBuilder::new().required(Some(Required::True));
    let add = |builder: RequestBodyBuilder, (media_type, schema): &(&str, &str)| {
        builder.content(*media_type, Content::new(Some(Ref::from_schema_name(*schema))))
    };
    contents.iter().fold(builder, add).build()
}

fn ok(description: &str, schema: &str) -> ResponseBuilder {
    let content = Content::new(Some(Ref::from_schema_name(schema)));
    ResponseBuilder::new().description(description).content("application/json", content)
}

/// From a receipt to the timeline of its event, once it is processed.
fn timeline_link() -> Link {
    LinkBuilder::new()
        .operation_id("getEvent")
        .parameter("id", "$response.body#/id")
        .parameter("partition", "$response.body#/partition")
        .parameter("offset", "$response.body#/offset")
        .parameter("wait_ms", 5_000)
        .description("What became of the event, once its record is processed.")
        .build()
}

/// The item of a single event that is accepted, with what it has in every case.
fn receipt() -> RefOr<Schema> {
    let mut schema = ItemAnswer::schema();
    if let RefOr::T(Schema::Object(object)) = &mut schema {
        object.description = Some("The answer to an event that is accepted.".to_owned());
        for name in ["index", "problem"] {
            object.properties.remove(name);
        }
        for name in ["id", "id_source", "topic", "partition", "offset", "trace_id"] {
            object.required.push(name.to_owned());
        }
    }
    schema
}

/// The components that requests name: each schema under `types/` as it is, and the forms in which events are sent.
///
/// # Errors
/// If a schema is no JSON, with which the function would not start.
pub fn event_schemas() -> Result<BTreeMap<String, Value>, serde_json::Error> {
    let mut components = BTreeMap::new();
    let (mut plain, mut cloud) = (Vec::new(), Vec::new());
    let mut lowest: BTreeMap<&str, u32> = BTreeMap::new();
    for (event_type, version, _) in schemas() {
        let known = lowest.entry(event_type).or_insert(version);
        *known = version.min(*known);
    }
    for (event_type, version, text) in schemas() {
        let mut schema: Map<String, Value> = serde_json::from_str(text)?;
        // The document says which dialect its schemas have.
        schema.remove("$schema");
        let data = format!("{event_type}_v{version}");
        let is_default = lowest.get(event_type) == Some(&version);
        components.insert(format!("{data}_event"), plain_event(event_type, version, is_default, schema.clone()));
        components.insert(format!("{data}_cloud_event"), cloud_event(event_type, version, is_default, &data));
        plain.push(reference(&format!("{data}_event")));
        cloud.push(reference(&format!("{data}_cloud_event")));
        components.insert(data, Value::Object(schema));
    }
    let batch = |item| json!({"type": "array", "items": reference(item), "minItems": 1});
    let wrapped = json!({"type": "object", "required": ["events"], "properties": {"events": batch("Event")}});
    components.extend([
        ("Event".to_owned(), json!({"oneOf": plain})),
        ("CloudEvent".to_owned(), json!({"oneOf": cloud})),
        ("EventBatch".to_owned(), json!({"oneOf": [batch("Event"), wrapped]})),
        ("EventLines".to_owned(), batch("Event")),
        ("CloudEventBatch".to_owned(), batch("CloudEvent")),
    ]);
    Ok(components)
}

fn reference(schema: &str) -> Value {
    json!({"$ref": format!("#/components/schemas/{schema}")})
}

/// A plain event of a type: the members of its schema, and those that every event may have.
fn plain_event(event_type: &str, version: u32, is_default: bool, mut schema: Map<String, Value>) -> Value {
    let versions = if is_default { json!([version, null]) } else { json!([version]) };
    let id = json!({"type": ["string", "null"], "minLength": 1, "maxLength": 256, "pattern": TEXT,
        "description": "1 to 256 bytes. Without it, the `Idempotency-Key` or a hash of the event is the id; such an event may \
                        have no number beyond ±(2^53 - 1)."});
    let members = [
        ("type", json!({"const": event_type, "description": "Also as `event_type`."})),
        ("id", id),
        (
            "timestamp",
            json!({"type": ["string", "null"], "format": "date-time",
            "description": "When it happened. `id` and `timestamp` may also be called `event_id` and `time`."}),
        ),
        ("schema_version", json!({"enum": versions})),
        ("client_ip", address(&[])),
    ];
    schema.insert("title".to_owned(), json!(format!("{event_type} event")));
    // It would be a CloudEvent, which has a media type of its own.
    schema.insert("not".to_owned(), json!({"required": ["specversion"]}));
    let properties = schema.entry("properties").or_insert_with(|| json!({}));
    if let Some(properties) = properties.as_object_mut() {
        if let Some(user) = properties.get_mut("user_id").and_then(Value::as_object_mut) {
            user.insert("pattern".to_owned(), json!(TEXT));
        }
        properties.extend(members.map(|(name, member)| (name.to_owned(), member)));
    }
    let required = schema.entry("required").or_insert_with(|| json!([]));
    if let Some(required) = required.as_array_mut() {
        required.insert(0, json!("type"));
        if !is_default {
            required.insert(1, json!("schema_version"));
        }
    }
    Value::Object(schema)
}

/// A CloudEvent in structured mode whose data is of a type.
fn cloud_event(event_type: &str, version: u32, is_default: bool, data: &str) -> Value {
    // As an extension attribute it may be a text, and an empty one counts as absent.
    let mut versions = vec![json!(version), json!(version.to_string())];
    if is_default {
        versions.extend([json!(""), Value::Null]);
    }
    let optional = json!({"type": ["string", "null"], "minLength": 1});
    json!({
        "type": "object",
        "title": format!("{event_type} as a CloudEvent"),
        "required": if is_default { json!(["specversion", "id", "source", "type", "data"]) }
            else { json!(["specversion", "id", "source", "type", "schemaversion", "data"]) },
        "properties": {
            "specversion": {"const": "1.0"},
            "id": {"type": "string", "minLength": 1, "pattern": TEXT,
                "description": "`source` and `id` together, joined by `|`, are the event's id, of at most 256 bytes."},
            "source": {"type": "string", "minLength": 1, "pattern": SOURCE},
            "type": {"const": event_type},
            "time": {"type": ["string", "null"], "format": "date-time"},
            "datacontenttype": {"type": ["string", "null"], "pattern": JSON_TYPE},
            "dataschema": optional.clone(),
            "subject": optional,
            "schemaversion": {"enum": versions},
            "clientip": address(&[json!({"const": ""})]),
            "data": {"allOf": [reference(data), {"properties": {"user_id": {"pattern": TEXT}}}]},
        },
        "not": {"required": ["data_base64"]},
        "additionalProperties": {
            "type": ["string", "boolean", "integer", "null"],
            "minimum": i32::MIN,
            "maximum": i32::MAX,
            "description": "Extension attributes.",
        },
    })
}

fn address(others: &[Value]) -> Value {
    let mut any_of = vec![
        json!({"type": "string", "format": "ipv4"}),
        json!({"type": "string", "format": "ipv6"}),
        json!({"type": "null"}),
    ];
    any_of.extend_from_slice(others);
    json!({"description": "Only a server's API key may send it.", "anyOf": any_of})
}
