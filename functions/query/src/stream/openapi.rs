//! The parameters of a stream, as they are described.

use pipeline::Outcome;
use utoipa::openapi::path::{Parameter, ParameterBuilder, ParameterIn};
use utoipa::openapi::schema::{ObjectBuilder, Type};

use super::question::PARAMETERS;

/// Those of the query string, in the order of [`PARAMETERS`], and then the header.
pub(crate) fn documented() -> Vec<Parameter> {
    let text = || ObjectBuilder::new().schema_type(Type::String);
    let outcomes = Outcome::ALL.iter().map(|outcome| outcome.as_str()).collect::<Vec<_>>().join("|");
    let id = || text().pattern(Some(r"^$|^[A-Za-z0-9_-]{21}[AQgw](\.(0|[1-9][0-9]{0,17}))*$"));
    let own = PARAMETERS.iter().map(|name| {
        let (description, schema) = match *name {
            "outcome" => (
                "Only these outcomes, with commas between them.",
                text().pattern(Some(format!("^({outcomes})(,({outcomes}))*$"))),
            ),
            "type" => ("Only events of this type.", text()),
            "user_id" => ("Only events of this user.", text()),
            "from" => (
                "Where to begin without an id: `latest`, `earliest`, or with the first outcome published at a time in RFC 3339; \
                 `latest`. A `+` is written as `%2B`.",
                text(),
            ),
            "last_event_id" => ("The same as the header `Last-Event-ID`, which wins.", id()),
            _tenant => return crate::schemas::tenant_parameter(),
        };
        parameter(name, ParameterIn::Query, description, schema)
    });
    let header = "The id of the last event that was received: the stream goes on behind it.";
    own.chain([parameter("Last-Event-ID", ParameterIn::Header, header, id())]).collect()
}

fn parameter(name: &str, parameter_in: ParameterIn, description: &str, schema: ObjectBuilder) -> Parameter {
    let parameter = ParameterBuilder::new().name(name).parameter_in(parameter_in);
    parameter.description(Some(description)).schema(Some(schema)).build()
}
