//! `forebay doctor`: whether everything that the commands need is there, and what to do if not.

use std::time::Duration;

use event::Timestamp;
use http::{HeaderMap, StatusCode, header};
use pipeline::clock::{Clock as _, SystemClock};
use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc2822;

use crate::answers::Answers;
use crate::client::HttpAnswer;
use crate::ending::Ending;
use crate::ingest_answer::problem_text;
use crate::place::{ReachedPipeline, key_header};
use crate::table::{TextTable, cell};

/// Longest wait for one check.
const CHECK_TIMEOUT: Duration = Duration::from_secs(30);
/// AWS refuses signatures that are older; half of it is a reason to look at the clock.
const TOLERABLE_SKEW: Duration = Duration::from_secs(150);

#[derive(Debug, PartialEq, Eq)]
struct Finding {
    what: String,
    /// `Err` says what to do.
    result: Result<String, String>,
}

/// # Errors
/// If the result cannot be written. What is wrong is a result.
pub async fn doctor(at: &ReachedPipeline, answers: &Answers) -> anyhow::Result<Ending> {
    let mut findings = Vec::new();
    for (name, url) in [("ingest", at.ingest()), ("query", at.query())] {
        match url {
            Ok(url) => findings.extend(front(name, url, at).await),
            Err(error) => findings.push(Finding { what: name.to_owned(), result: Err(error.to_string()) }),
        }
    }
    findings.push(may("API key may write", at, KeyCheck::Write).await);
    findings.push(may("API key may read", at, KeyCheck::Read).await);
    // Requests that only read, and little.
    let nothing = json!({"from": "2000-01-01T00:00:00Z", "until": "2000-01-02T00:00:00Z"});
    for (function, request) in [
        ("maintainer", json!({"action": "list-blocks"})),
        ("redriver", json!({"action": "parked", "limit": 1})),
        ("replayer", json!({"action": "restore", "dry_run": true, "filters": nothing})),
    ] {
        let called = tokio::time::timeout(CHECK_TIMEOUT, at.call(function, &request)).await;
        let result = match called {
            Ok(Ok(_)) => Ok("answers".to_owned()),
            Ok(Err(error)) => Err(format!("{error:#}")),
            Err(_) => Err(format!("no answer within {} s: look at its log", CHECK_TIMEOUT.as_secs())),
        };
        findings.push(Finding { what: function.to_owned(), result });
    }
    let is_well = findings.iter().all(|finding| finding.result.is_ok());
    let rows: Vec<Value> = findings
        .into_iter()
        .map(|Finding { what, result }| {
            let (is_well, said) = result.map_or_else(|said| (false, said), |said| (true, said));
            json!({"check": what, "ok": is_well, "said": said})
        })
        .collect();
    answers.show(&json!({"ok": is_well, "checks": rows}), |found| {
        let mut table = TextTable::new(["check", "", "what it says, or what to do"]);
        for row in found["checks"].as_array().into_iter().flatten() {
            let mark = if row["ok"] == true { "ok" } else { "NO" };
            table.add([cell(&row["check"]), mark.to_owned(), cell(&row["said"])]);
        }
        table.to_string()
    })?;
    Ok(if is_well { Ending::Done } else { Ending::Failed })
}

/// Whether something answers, and how far apart its clock and ours are.
async fn front(name: &str, url: &str, at: &ReachedPipeline) -> Vec<Finding> {
    let answer = within(at.client.get(&format!("{url}/healthz"), &[])).await;
    let clock = answer.as_ref().ok().and_then(|answer| skew(&answer.headers, SystemClock.now()));
    let mut findings = vec![Finding { what: name.to_owned(), result: health(url, answer) }];
    if let Some(clock) = clock {
        findings.push(Finding { what: format!("clock of {name}"), result: clock });
    }
    findings
}

fn health(url: &str, answer: anyhow::Result<HttpAnswer>) -> Result<String, String> {
    match answer {
        Ok(answer) if answer.status == StatusCode::OK => Ok(format!("{url} is healthy")),
        // A gateway passes on only the paths of events.
        Ok(answer) if answer.status.is_client_error() => Ok(format!("{url} answers ({})", answer.status)),
        Ok(answer) => Err(format!("{url} answers {}: look at the function's log", answer.status)),
        Err(error) => Err(format!("{error:#}: is it running, and is the address right (--url, --query-url)?")),
    }
}

async fn within(answer: impl Future<Output = anyhow::Result<HttpAnswer>>) -> anyhow::Result<HttpAnswer> {
    match tokio::time::timeout(CHECK_TIMEOUT, answer).await {
        Ok(answer) => answer,
        Err(_) => anyhow::bail!("no answer within {} s", CHECK_TIMEOUT.as_secs()),
    }
}

/// What the `Date` header says about the clocks; `None` if there is none.
fn skew(headers: &HeaderMap, now: Timestamp) -> Option<Result<String, String>> {
    // The format of HTTP ends in GMT, which is that of mail.
    let date = headers.get(header::DATE)?.to_str().ok()?;
    let there = Timestamp::from(OffsetDateTime::parse(date, &Rfc2822).ok()?);
    let apart = Duration::from_millis(there.as_millis().abs_diff(now.as_millis()));
    let said = format!("{} s apart from this machine's", apart.as_secs());
    Some(if apart <= TOLERABLE_SKEW {
        Ok(said)
    } else {
        Err(format!("{said}: set the clocks (NTP), or AWS refuses signatures and events get doubtful times"))
    })
}

#[derive(Clone, Copy)]
enum KeyCheck {
    Write,
    Read,
}

async fn may(what: &str, at: &ReachedPipeline, check: KeyCheck) -> Finding {
    let result = match ask(at, check).await {
        Ok(answer) => allowance(check, &answer),
        Err(error) => Err(format!("{error:#}")),
    };
    Finding { what: what.to_owned(), result }
}

/// Asks for what changes nothing: an empty batch, an event that nobody has sent.
async fn ask(at: &ReachedPipeline, check: KeyCheck) -> anyhow::Result<HttpAnswer> {
    let key = at.key()?;
    match check {
        KeyCheck::Write => {
            let url = format!("{}/events/batch", at.ingest()?);
            within(at.client.post(&url, &key_header(&key), "[]")).await
        }
        KeyCheck::Read => {
            let url = format!("{}/events?id=forebay-doctor", at.query()?);
            within(at.client.get(&url, &key_header(&key))).await
        }
    }
}

fn allowance(check: KeyCheck, answer: &HttpAnswer) -> Result<String, String> {
    let problem = problem_text(answer.status, &answer.body);
    let (passed, scope) = match check {
        KeyCheck::Write => ("empty_batch", "write"),
        KeyCheck::Read => ("unknown_event", "read"),
    };
    if answer.status.is_success() || problem.starts_with(passed) {
        return Ok("yes".to_owned());
    }
    Err(match answer.status {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
            format!("{problem}: make a key with `forebay keys create --scopes {scope} …`")
        }
        StatusCode::TOO_MANY_REQUESTS => format!("{problem}: raise the key's limit, or wait"),
        _ => format!("{problem}: look at the function's log"),
    })
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn answer(status: u16, problem: &str) -> HttpAnswer {
        HttpAnswer {
            status: StatusCode::from_u16(status).unwrap(),
            headers: HeaderMap::new(),
            body: Bytes::from(json!({"type": format!("urn:forebay:problem:{problem}")}).to_string()),
        }
    }

    #[test]
    fn clocks_may_be_a_little_apart() {
        let mut headers = HeaderMap::new();
        headers.insert(header::DATE, "Fri, 20 Nov 2026 18:00:00 GMT".parse().unwrap());
        let at = |time: &str| skew(&headers, Timestamp::parse(time).unwrap()).unwrap();
        assert_eq!(at("2026-11-20T18:02:30Z"), Ok("150 s apart from this machine's".to_owned()));
        assert!(at("2026-11-20T17:57:29Z").unwrap_err().contains("151 s apart"));
        assert_eq!(skew(&HeaderMap::new(), Timestamp::EPOCH), None);
    }

    #[test]
    fn a_key_may_do_what_fails_for_no_other_reason() {
        assert!(allowance(KeyCheck::Write, &answer(400, "empty_batch")).is_ok());
        assert!(allowance(KeyCheck::Read, &answer(404, "unknown_event")).is_ok());
        let said = allowance(KeyCheck::Read, &answer(403, "api_key_scope")).unwrap_err();
        assert!(said.contains("api_key_scope") && said.contains("--scopes read"), "{said}");
        assert!(allowance(KeyCheck::Write, &answer(503, "api_keys_unavailable")).unwrap_err().contains("log"));
    }
}
