//! The parameters of a search, as they are described.

use event::TypeDefinition;
use lambda::openapi::one_of;
use utoipa::openapi::path::{Parameter, ParameterBuilder, ParameterIn};
use utoipa::openapi::schema::{KnownFormat, ObjectBuilder, SchemaFormat, Type};

use super::question::PARAMETERS;

/// That of the query string, in the order of [`PARAMETERS`], and then the dimensions.
pub(crate) fn documented() -> Vec<Parameter> {
    let text = || ObjectBuilder::new().schema_type(Type::String);
    let instant = || text().format(Some(SchemaFormat::KnownFormat(KnownFormat::DateTime)));
    let number = |maximum: i32| {
        ObjectBuilder::new().schema_type(Type::Integer).minimum(Some(1)).maximum(Some(f64::from(maximum)))
    };
    let own = PARAMETERS.iter().map(|name| {
        let (description, schema) = match *name {
            "type" => ("Only events of this type.", text()),
            "status" => ("Only events that are so.", crate::schemas::stored_status_object()),
            "user_id" => ("Only events of this user.", text()),
            "dimension" => (
                "Together with `value`: a dimension whose name is that of another parameter.",
                one_of(TypeDefinition::all_dimensions()),
            ),
            "value" => ("Together with `dimension`: the value that the event must have there.", text()),
            "hours" => ("Received in the last so many hours; 24. Not together with `from` and `to`.", number(744)),
            "from" => ("Received at this time or later, together with `to`. A `+` is written as `%2B`.", instant()),
            "to" => ("Received before this time, at most 100 days later, together with `from`.", instant()),
            "limit" => ("The most events of a page; 50.", number(100)),
            "next" => (
                "For the next page: the `next` of the page before, beside the same conditions. It has the range.",
                text().pattern(Some("^[A-Za-z0-9_-]+$")),
            ),
            _tenant => return crate::schemas::tenant_parameter(),
        };
        parameter(name, description, schema)
    });
    let dimensions = TypeDefinition::all_dimensions().filter(|name| !PARAMETERS.contains(name));
    let dimensions = dimensions.map(|name| parameter(name, "Only events with this value of the dimension.", text()));
    own.chain(dimensions).collect()
}

fn parameter(name: &str, description: &str, schema: ObjectBuilder) -> Parameter {
    let parameter = ParameterBuilder::new().name(name).parameter_in(ParameterIn::Query);
    parameter.description(Some(description)).schema(Some(schema)).build()
}
