//! Schemas of what other crates own, which know nothing of HTTP.

use event::TypeDefinition;
use lambda::openapi::one_of;
use pipeline::Outcome;
use pipeline::ports::{LetterStep, StoredStatus};
use statistics::SeriesInterval;
use strum::VariantNames as _;
use utoipa::openapi::Schema;
use utoipa::openapi::path::{Parameter, ParameterBuilder, ParameterIn};
use utoipa::openapi::schema::{ObjectBuilder, Type};

pub(crate) fn outcome() -> Schema {
    one_of(Outcome::ALL.iter().map(|outcome| outcome.as_str())).into()
}

pub(crate) fn letter_step() -> Schema {
    one_of([LetterStep::Send, LetterStep::Park].map(LetterStep::as_str)).into()
}

pub(crate) fn interval() -> Schema {
    let intervals = [SeriesInterval::Hour, SeriesInterval::Day].map(SeriesInterval::as_str);
    one_of(intervals).description(Some("What an entry of the series is; `hour`.")).into()
}

pub(crate) fn dimension() -> Schema {
    let description =
        "A member that event types declare for statistics. Without a value: its values with the most records.";
    one_of(TypeDefinition::all_dimensions()).description(Some(description)).into()
}

pub(crate) fn stored_status_object() -> ObjectBuilder {
    one_of(StoredStatus::VARIANTS.iter().copied())
}

pub(crate) fn stored_status() -> Schema {
    stored_status_object().into()
}

/// Every operation takes it.
pub(crate) fn tenant_parameter() -> Parameter {
    let schema = ObjectBuilder::new().schema_type(Type::String).pattern(Some("^[a-z0-9._-]{1,64}$"));
    let description = "Another tenant than the key's own. The key needs the scope `operate`.";
    let parameter = ParameterBuilder::new().name("tenant").parameter_in(ParameterIn::Query);
    parameter.description(Some(description)).schema(Some(schema)).build()
}
