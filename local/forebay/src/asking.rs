//! A question to `query`, over HTTP.

use std::fmt::Write as _;

use http::StatusCode;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;

use crate::ending::{Ending, Stop};
use crate::ingest_answer::problem_text;
use crate::ingest_client::key_refused;
use crate::place::{ReachedPipeline, key_header};

/// The parameters that are set, to be asked with.
#[derive(Debug, Default)]
pub struct QueryParameters(Vec<(String, String)>);

impl QueryParameters {
    pub fn add(&mut self, name: &str, value: impl ToString) {
        self.0.push((name.to_owned(), value.to_string()));
    }

    /// Adds it if there is a value.
    pub fn add_some(&mut self, name: &str, value: Option<impl ToString>) {
        if let Some(value) = value {
            self.add(name, value);
        }
    }
}

/// The answer to `GET <path>`, which begins with a slash.
///
/// # Errors
/// If query does not answer, or refuses the question.
pub async fn ask(at: &ReachedPipeline, path: &str, parameters: &QueryParameters) -> anyhow::Result<Value> {
    let url = question_url(at, path, parameters)?;
    let answer = at.client.get(&url, &key_header(&at.key()?)).await?;
    if answer.status == StatusCode::OK { Ok(answer.json()) } else { Err(refusal(answer.status, &answer.body)) }
}

/// The address of a question.
///
/// # Errors
/// If nobody has said where query is.
pub fn question_url(at: &ReachedPipeline, path: &str, parameters: &QueryParameters) -> anyhow::Result<String> {
    let mut url = format!("{}{path}", at.query()?);
    for (index, (name, value)) in parameters.0.iter().enumerate() {
        let mark = if index == 0 { '?' } else { '&' };
        let [name, value] = [name, value].map(|text| utf8_percent_encode(text, NON_ALPHANUMERIC));
        let _ = write!(url, "{mark}{name}={value}");
    }
    Ok(url)
}

/// What an answer means that is no success.
pub fn refusal(status: StatusCode, body: &[u8]) -> anyhow::Error {
    let problem = problem_text(status, body);
    match status {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => key_refused(&problem),
        status if status.is_client_error() => Stop::with(Ending::Refused, problem),
        _ => anyhow::anyhow!("query does not answer: {problem}"),
    }
}
