//! One document of both functions.

use std::collections::BTreeMap;

use anyhow::Context as _;
use serde_json::{Map, Value, json};
use utoipa::openapi::security::{ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityScheme};

use crate::examples;

const DESCRIPTION: &str = "Takes events (ingest), says what happened to each, and how many there were (query). Whatever is not \
                           a success is a problem document (RFC 9457), whose `type` is one of those that its status lists.";

/// # Errors
/// If a sample of `events/` is missing, or is no request of its operation.
pub fn document() -> anyhow::Result<Value> {
    let mut merged = ingest::openapi::operations()?;
    merged.merge(query::openapi::operations());
    let mut document = serde_json::to_value(merged)?;
    document["info"] = json!({
        "title": "Forebay", "version": env!("CARGO_PKG_VERSION"), "description": DESCRIPTION, "license": {"name": "MIT"},
    });
    // The address is that of the deployment that serves the document.
    document["servers"] = json!([{"url": "/"}]);
    document["tags"] = json!([
        {"name": "ingest", "description": "Send events. The API key has the scope `write`."},
        {"name": "query", "description": "Ask about events. The API key has the scope `read`, and sees its own tenant's events."},
    ]);
    let components = document["components"].as_object_mut().context("there are no components")?;
    components.insert("securitySchemes".to_owned(), security_schemes()?);
    let schemas = components["schemas"].as_object_mut().context("there are no schemas")?;
    for (name, schema) in ingest::openapi::event_schemas()? {
        anyhow::ensure!(schemas.insert(name.clone(), schema).is_none(), "two schemas are called {name}");
    }
    for (path, method, operation) in operations_mut(&mut document) {
        examples::add(operation).with_context(|| format!("the examples of {method} {path}"))?;
    }
    share_responses(&mut document)?;
    Ok(document)
}

fn security_schemes() -> serde_json::Result<Value> {
    let bearer = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).description(Some("An API key.")).build();
    let header = ApiKeyValue::with_description("X-Api-Key", "An API key.");
    let parameter = ApiKeyValue::with_description("api_key", "A publishable API key, for beacons of web pages.");
    Ok(json!({
        "bearer": serde_json::to_value(SecurityScheme::Http(bearer))?,
        "apiKey": serde_json::to_value(SecurityScheme::ApiKey(ApiKey::Header(header)))?,
        "publishableKey": serde_json::to_value(SecurityScheme::ApiKey(ApiKey::Query(parameter)))?,
    }))
}

/// Makes components of the responses that several operations have: their problems are most of the document.
fn share_responses(document: &mut Value) -> anyhow::Result<()> {
    let mut uses: BTreeMap<String, (String, usize)> = BTreeMap::new();
    for (_, _, operation) in operations(document) {
        for (status, response) in operation["responses"].as_object().into_iter().flatten() {
            let name = format!("{}_{status}", operation["operationId"].as_str().context("it has no id")?);
            uses.entry(response.to_string()).or_insert((name, 0)).1 += 1;
        }
    }
    let mut shared = Map::new();
    for (_, _, operation) in operations_mut(document) {
        let responses = operation.get_mut("responses").and_then(Value::as_object_mut);
        for (_, response) in responses.into_iter().flatten() {
            let Some((name, 2..)) = uses.get(&response.to_string()) else { continue };
            let reference = json!({"$ref": format!("#/components/responses/{name}")});
            shared.insert(name.clone(), std::mem::replace(response, reference));
        }
    }
    document["components"]["responses"] = Value::Object(shared);
    Ok(())
}

fn operations_mut(document: &mut Value) -> impl Iterator<Item = (&str, &str, &mut Map<String, Value>)> {
    let paths = document["paths"].as_object_mut().into_iter().flatten();
    paths.flat_map(|(path, item)| {
        let methods = item.as_object_mut().into_iter().flatten();
        methods
            .filter_map(move |(method, operation)| Some((path.as_str(), method.as_str(), operation.as_object_mut()?)))
    })
}

/// Path, method and operation of each operation, in the order of the document.
pub fn operations(document: &Value) -> impl Iterator<Item = (&str, &str, &Value)> {
    let paths = document["paths"].as_object().into_iter().flatten();
    paths.flat_map(|(path, item)| {
        let methods = item.as_object().into_iter().flatten();
        methods.map(move |(method, operation)| (path.as_str(), method.as_str(), operation))
    })
}
