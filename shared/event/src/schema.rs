//! The JSON Schemas that events must meet, and the one validator that ingest and the processor share.

use std::borrow::Cow;
use std::collections::BTreeMap;

use jsonschema::Validator;
use jsonschema::error::ValidationErrorKind;

use crate::client::{Binding, ClientEvent, Form, user_id, user_id_violation};
use crate::facts::{Facts, facts};
use crate::json::{Borrowed, Value};
pub use crate::violation::Violation;
use crate::{Envelope, EventError};

/// `(event type, version, schema)` for each schema under `types/`, in the order of type and file name.
const EMBEDDED: &[(&str, u32, &str)] = include!(concat!(env!("OUT_DIR"), "/schemas.rs"));

/// Largest number of violations reported for one event; more would not help anybody.
const MAX_VIOLATIONS: usize = 16;

/// `(event type, version, schema)` for each schema of this build, in the order of type and file name.
pub fn schemas() -> impl Iterator<Item = (&'static str, u32, &'static str)> {
    EMBEDDED.iter().copied()
}

/// A schema that cannot be used. This is an error in the build, and is found at start.
#[derive(Debug, thiserror::Error)]
#[error("cannot use schema {event_type}/{version}")]
pub struct SchemaError {
    pub event_type: &'static str,
    pub version: u32,
    #[source]
    pub source: Box<dyn std::error::Error + Send + Sync>,
}

/// All schemas, compiled. Build one registry at start and share it.
#[derive(Debug)]
pub struct Registry {
    types: BTreeMap<&'static str, BTreeMap<u32, Validator<Borrowed>>>,
}

impl Registry {
    /// Compiles the schemas that were embedded when this crate was built.
    ///
    /// # Errors
    /// [`SchemaError`] for the first file that is not a JSON Schema.
    pub fn embedded() -> Result<Self, SchemaError> {
        let mut types: BTreeMap<&'static str, BTreeMap<u32, Validator<Borrowed>>> = BTreeMap::new();
        for &(event_type, version, text) in EMBEDDED {
            let error = |source| SchemaError { event_type, version, source };
            let schema: serde_json::Value = serde_json::from_str(text).map_err(|source| error(source.into()))?;
            let validator = jsonschema::options_for::<Borrowed>()
                .should_validate_formats(true)
                .build(&schema)
                .map_err(|source| error(source.into()))?;
            types.entry(event_type).or_default().insert(version, validator);
        }
        Ok(Registry { types })
    }

    /// Event types and the versions of each, in ascending order.
    pub fn types(&self) -> impl Iterator<Item = (&'static str, Vec<u32>)> {
        self.types.iter().map(|(event_type, versions)| (*event_type, versions.keys().copied().collect()))
    }

    /// The name of a known event type, with the lifetime of the program, so that it can be the label of a metric.
    pub fn known_type(&self, event_type: &str) -> Option<&'static str> {
        self.types.get_key_value(event_type).map(|(name, _)| *name)
    }

    /// Reads one event, plain or as a structured CloudEvent, and checks it. The event itself says which it is.
    ///
    /// # Errors
    /// [`EventError`] with everything that is wrong, so that a client can correct it all at once.
    pub fn read<'a>(&self, bytes: &'a [u8]) -> Result<ClientEvent<'a>, EventError> {
        self.check_event(ClientEvent::parse(bytes, None)?)
    }

    /// Like [`Registry::read`], for an event whose media type says which form it has: plain or structured.
    ///
    /// # Errors
    /// Like [`Registry::read`].
    pub fn read_as<'a>(&self, form: Form, bytes: &'a [u8]) -> Result<ClientEvent<'a>, EventError> {
        self.check_event(ClientEvent::parse(bytes, Some(form))?)
    }

    /// Reads one event of the CloudEvents binary mode: attributes from headers, without their prefix, and data in the body.
    ///
    /// # Errors
    /// Like [`Registry::read`].
    pub fn read_binary<'a>(
        &self,
        binding: Binding,
        attributes: &BTreeMap<String, String>,
        body: &'a [u8],
    ) -> Result<ClientEvent<'a>, EventError> {
        self.check_event(ClientEvent::parse_binary(binding, attributes, body)?)
    }

    fn check_event<'a>(&self, parsed: (ClientEvent<'a>, Vec<Violation>)) -> Result<ClientEvent<'a>, EventError> {
        let (mut event, mut violations) = parsed;
        if event.event_type.is_empty() {
            // Without a type there is no schema to check against.
            return Err(EventError::Invalid(violations));
        }
        let (version, validator) = self.find(&event.event_type, event.requested_version)?;
        event.schema = version;
        let pointer = event.form().payload_pointer();
        check(validator, event.payload(), pointer, &mut violations);
        violations.extend(user_id_violation(event.payload(), pointer));
        if violations.is_empty() { Ok(event) } else { Err(EventError::Invalid(violations)) }
    }

    /// Checks the data of an envelope against the schema version it names.
    ///
    /// # Errors
    /// [`EventError`] if the data is not JSON, the schema is unknown, or the data violates it.
    pub fn check<'a>(&self, envelope: &Envelope<'a>) -> Result<CheckedData<'a>, EventError> {
        let json = Value::parse(envelope.data.get().as_bytes()).map_err(EventError::Malformed)?;
        let form = if envelope.attributes.is_some() { Form::Binary } else { Form::of(&json) };
        let (_, validator) = self.find(&envelope.event_type, Some(envelope.schema))?;
        let mut violations = Vec::new();
        check(validator, form.payload(&json), form.payload_pointer(), &mut violations);
        if violations.is_empty() { Ok(CheckedData { json, form }) } else { Err(EventError::Invalid(violations)) }
    }

    /// The version asked for, or else the lowest: clients that send no version were written for the lowest, and a new
    /// version must not break them.
    fn find(&self, event_type: &str, version: Option<u32>) -> Result<(u32, &Validator<Borrowed>), EventError> {
        let versions = self.types.get(event_type).ok_or_else(|| EventError::unknown_type(event_type))?;
        let found = match version {
            Some(version) => versions.get_key_value(&version),
            None => versions.first_key_value(),
        };
        found.map(|(version, validator)| (*version, validator)).ok_or_else(|| EventError::UnknownVersion {
            event_type: event_type.to_owned(),
            version: version.unwrap_or_default(),
        })
    }
}

/// The data of an envelope, which conforms to its schema.
#[derive(Debug)]
pub struct CheckedData<'a> {
    json: Value<'a>,
    form: Form,
}

impl<'a> CheckedData<'a> {
    /// The user the event is about, if it names one.
    pub fn user_id(&self) -> Option<Cow<'a, str>> {
        user_id(self.form.payload(&self.json))
    }

    /// What statistics keep of an event of this type.
    pub fn facts(&self, event_type: &str) -> Facts {
        facts(event_type, self.form.payload(&self.json))
    }
}

/// Adds the violations of `payload`, which is at `pointer` in what the client sent.
fn check(validator: &Validator<Borrowed>, payload: &Value<'_>, pointer: &str, violations: &mut Vec<Violation>) {
    // The test alone is several times quicker than collecting errors, and nearly every event passes it.
    if validator.is_valid(payload) {
        return;
    }
    let left = MAX_VIOLATIONS.saturating_sub(violations.len()).max(1);
    violations.extend(validator.iter_errors(payload).take(left).map(|error| {
        let mut field = format!("{pointer}{}", error.instance_path().as_str());
        if let ValidationErrorKind::Required { property } = error.kind() {
            // Names the missing member instead of the object in which it is missing.
            field.push('/');
            field.push_str(&property.as_str().unwrap_or_default().replace('~', "~0").replace('/', "~1"));
        }
        Violation { field, rule: error.kind().keyword().to_owned(), message: error.masked().to_string() }
    }));
}
