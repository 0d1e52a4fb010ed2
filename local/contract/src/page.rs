//! The document as a page in Markdown.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::document::operations;

const HEAD: &str = "# The HTTP interface

`make openapi` makes this page from [openapi.json](openapi.json), an OpenAPI 3.1 document that is made from the code and served at
`GET /openapi.json`. The READMEs of [ingest](../functions/ingest/README.md) and [query](../functions/query/README.md) say more about
what each answer means. Schemas are in the document, under `components/schemas`.

Whatever is not a success is a problem document (RFC 9457): its `type` is `urn:forebay:problem:` and a name that the status lists.
[Problems](#problems) says what each means.
";

/// The page of the document.
pub fn page(document: &Value) -> String {
    let mut page = HEAD.to_owned();
    page.push_str("\n| operation | |\n|---|---|\n");
    for (path, method, operation) in operations(document) {
        let name = title(path, method);
        page.push_str(&format!("| [`{name}`](#{}) | {} |\n", anchor(&name), text(&operation["summary"])));
    }
    for (path, method, operation) in operations(document) {
        page.push_str(&format!("\n## `{}`\n\n{}.\n", title(path, method), text(&operation["summary"])));
        page.push_str(&format!("{}\n", text(&operation["description"])));
        page.push_str(&parameters(operation));
        page.push_str(&bodies(operation));
        page.push_str(&responses(document, operation));
    }
    page.push_str(&problems(document));
    page
}

fn title(path: &str, method: &str) -> String {
    format!("{} {path}", method.to_uppercase())
}

/// As GitHub makes it of a heading.
fn anchor(title: &str) -> String {
    let kept = title.to_lowercase();
    kept.chars()
        .filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'))
        .map(|c| if c == ' ' { '-' } else { c })
        .collect()
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().split_whitespace().collect::<Vec<_>>().join(" ")
}

fn cell(value: &Value) -> String {
    text(value).replace('|', "\\|")
}

fn parameters(operation: &Value) -> String {
    let Some(parameters) = operation["parameters"].as_array().filter(|parameters| !parameters.is_empty()) else {
        return String::new();
    };
    let mut table = "\n| parameter | in | | example |\n|---|---|---|---|\n".to_owned();
    for parameter in parameters {
        let required = if parameter["required"] == true { "required. " } else { "" };
        let examples = parameter["examples"].as_object().into_iter().flatten();
        let examples: Vec<String> = examples.map(|(_, example)| format!("`{}`", plain(&example["value"]))).collect();
        table.push_str(&format!(
            "| `{}` | {} | {required}{} | {} |\n",
            text(&parameter["name"]),
            text(&parameter["in"]),
            cell(parameter.get("description").unwrap_or(&parameter["schema"]["description"])),
            examples.join(", ").replace('|', "\\|"),
        ));
    }
    table
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn bodies(operation: &Value) -> String {
    let mut shown = String::new();
    for (media_type, content) in operation["requestBody"]["content"].as_object().into_iter().flatten() {
        shown.push_str(&format!("\nBody `{media_type}`: {}\n", schema_name(&content["schema"])));
        for (case, example) in content["examples"].as_object().into_iter().flatten() {
            let json = serde_json::to_string_pretty(&example["value"]).unwrap_or_default();
            shown.push_str(&format!("\n`events/ingest/{case}.json`:\n\n```json\n{json}\n```\n"));
        }
    }
    shown
}

fn schema_name(schema: &Value) -> String {
    let name = schema["$ref"].as_str().and_then(|path| path.rsplit('/').next());
    name.map_or_else(|| "an object".to_owned(), |name| format!("`{name}`"))
}

fn responses(document: &Value, operation: &Value) -> String {
    let mut shown = "\n| status | |\n|---|---|\n".to_owned();
    for (status, response) in responses_of(document, operation) {
        let body = &response["content"]["application/json"]["schema"];
        let body = if body.is_object() { format!(" Body: {}", schema_name(body)) } else { String::new() };
        let description = response["description"].as_str().unwrap_or_default();
        let what = description.lines().next().unwrap_or_default();
        let tags: Vec<String> = problems_of(response).map(|(tag, _)| format!("`{tag}`")).collect();
        let tags = if tags.is_empty() { String::new() } else { format!(": {}", tags.join(", ")) };
        shown.push_str(&format!("| {status} | {what}{tags}{body} |\n"));
    }
    shown
}

/// The responses of an operation by status, also those that are components.
fn responses_of<'d>(document: &'d Value, operation: &'d Value) -> impl Iterator<Item = (&'d String, &'d Value)> {
    operation["responses"].as_object().into_iter().flatten().map(|(status, response)| {
        let pointer = response["$ref"].as_str().and_then(|reference| reference.strip_prefix('#'));
        (status, pointer.and_then(|pointer| document.pointer(pointer)).unwrap_or(response))
    })
}

/// The tag and the meaning of each problem of a response, from the list in its description.
fn problems_of(response: &Value) -> impl Iterator<Item = (&str, &str)> {
    let lines = response["description"].as_str().unwrap_or_default().lines();
    lines.filter_map(|line| line.strip_prefix("- `")?.split_once("`: "))
}

fn problems(document: &Value) -> String {
    let mut all: BTreeMap<&str, (BTreeSet<&str>, BTreeSet<&str>)> = BTreeMap::new();
    for (_, _, operation) in operations(document) {
        for (status, response) in responses_of(document, operation) {
            for (tag, meaning) in problems_of(response) {
                let (statuses, meanings) = all.entry(tag).or_default();
                statuses.insert(status);
                meanings.insert(meaning);
            }
        }
    }
    let mut table =
        "\n## Problems\n\nWith an example of what `detail` says.\n\n| type | status | |\n|---|---|---|\n".to_owned();
    let joined = |texts: BTreeSet<&str>, by: &str| texts.into_iter().collect::<Vec<_>>().join(by).replace('|', "\\|");
    for (tag, (statuses, meanings)) in all {
        table.push_str(&format!("| `{tag}` | {} | {} |\n", joined(statuses, ", "), joined(meanings, "; or ")));
    }
    table
}
