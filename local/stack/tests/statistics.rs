//! Statistics and searches through the real binaries: events over HTTP, counted by the aggregator while it is killed, and read
//! over HTTP.

#![expect(clippy::unwrap_used, reason = "helpers of tests: a failure is a failed test")]

use std::collections::BTreeSet;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use pipeline::ports::KeyKind;
use serde_json::{Value, json};
use stack::client::JsonClient;
use stack::functions::beside_this_program;
use stack::options::Options;
use stack::stack::Stack;

const PATIENCE: Duration = Duration::from_secs(60);

fn options() -> Options {
    let options = Options::for_one_run(&settings::ProcessEnvironment, beside_this_program().unwrap()).unwrap();
    let options = options.with_setting("IP_RATE_LIMIT_PER_MIN", "0");
    Options { aggregate_every: None, ..options }
}

/// An impression or click of the campaign of the README's example, by one of ten users, every fifth in France.
fn event(kind: &str, number: usize) -> Value {
    let country = if number.is_multiple_of(5) { "FR" } else { "DE" };
    json!({
        "type": kind, "id": format!("{kind}-{number}"), "user_id": format!("u{}", number % 10), "campaign_id": "camp456",
        "geo_country": country, "device_type": "mobile",
    })
}

async fn send(stack: &Stack, key: &str, events: &[Value]) {
    let url = format!("{}/batch", stack.ingest_url());
    let headers = [("x-api-key", key), ("content-type", "application/json")];
    let answer = JsonClient::default().post(&url, &headers, serde_json::to_vec(events).unwrap()).await.unwrap();
    assert_eq!(answer.status, 202, "{:?}", answer.json());
}

async fn stats(stack: &Stack, key: &str) -> Value {
    let url = stack.query_url().replace("/events", "/campaigns/camp456/stats?hours=24");
    JsonClient::default().get(&url, &[("x-api-key", key)]).await.unwrap().json()
}

/// The ids of all pages of a search, and their number.
async fn search(stack: &Stack, key: &str, conditions: &str) -> (BTreeSet<String>, usize) {
    let (mut ids, mut pages, mut next) = (BTreeSet::new(), 0, String::new());
    loop {
        let url = format!("{}?{conditions}&limit=30{next}", stack.query_url());
        let page = JsonClient::default().get(&url, &[("x-api-key", key)]).await.unwrap().json();
        for event in page["events"].as_array().unwrap() {
            assert!(ids.insert(event["id"].as_str().unwrap().to_owned()), "twice: {event}");
        }
        pages += 1;
        let Some(cursor) = page["next"].as_str() else { return (ids, pages) };
        next = format!("&next={cursor}");
    }
}

/// Counts everything, with the process killed again and again.
async fn count(stack: &Stack) {
    for _ in 0..10 {
        let run = stack.invoke("aggregator", json!({"action": "aggregate"}));
        let killer = async {
            tokio::time::sleep(Duration::from_millis(3)).await;
            for pid in stack.processes("aggregator") {
                let _ = kill(Pid::from_raw(i32::try_from(pid).unwrap()), Signal::SIGKILL);
            }
        };
        let _ = tokio::join!(run, killer);
    }
    let run = stack.invoke("aggregator", json!({"action": "aggregate"})).await.unwrap();
    assert_eq!((&run["ended"], &run["oldest_uncounted_sec"]), (&json!("done"), &json!(0.0)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_campaigns_statistics_are_those_of_what_was_sent() {
    let stack = Stack::start(options()).await.unwrap();
    let key = stack.create_key("acme", "statistics", KeyKind::Server, 1_000_000).await.unwrap();
    let nothing = stats(&stack, &key).await;
    assert_eq!((&nothing["events"], &nothing["complete_until"]), (&json!(0), &Value::Null));

    let impressions: Vec<Value> = (0..100).map(|number| event("impression", number)).collect();
    let clicks: Vec<Value> = (0..20).map(|number| event("click", number)).collect();
    let mut fraud = event("click", 20);
    fraud["client_ip"] = json!("10.0.0.7");
    send(&stack, &key, &impressions).await;
    send(&stack, &key, &clicks).await;
    send(&stack, &key, &clicks[..4]).await;
    send(&stack, &key, &[fraud]).await;
    stack.wait_until_idle(PATIENCE).await.unwrap();
    count(&stack).await;
    count(&stack).await;

    let found = stats(&stack, &key).await;
    assert_eq!(found["by_type"]["impression"]["valid"], 100);
    let expected = json!({"valid": 20, "fraud": 1, "unscored": 0, "duplicate": 4, "blocked": 0, "dead_lettered": 0});
    assert_eq!(found["by_type"]["click"], expected);
    assert_eq!((&found["events"], &found["click_through_rate"]), (&json!(121), &json!(0.21)));
    assert_eq!(found["distinct_users"]["estimate"], 10);
    // 20 of the impressions, and of the clicks 0, 5, 10, 15 and the fraud, which is the 20th.
    let countries = json!([{"value": "DE", "events": 96, "fraud": 0}, {"value": "FR", "events": 25, "fraud": 1}]);
    assert_eq!(found["by_country"], countries);
    let hours = found["series"].as_array().unwrap();
    let in_hours: u64 = hours.iter().map(|hour| hour["events"].as_u64().unwrap()).sum();
    assert!((24..=25).contains(&hours.len()) && in_hours == 121, "{hours:?}");
    assert!(found["complete_until"].is_string(), "{found}");

    let (found, pages) = search(&stack, &key, "campaign_id=camp456").await;
    assert_eq!((found.len(), pages), (121, 5));
    assert_eq!(search(&stack, &key, "status=fraud&type=click").await.0, ["click-20".to_owned()].into());
    let of_user = search(&stack, &key, "user_id=u7&geo_country=DE&device_type=mobile").await.0;
    assert!(of_user.len() == 12 && of_user.contains("impression-97") && of_user.contains("click-17"), "{of_user:?}");
    assert_eq!(search(&stack, &key, "campaign_id=other").await.0, [].into());

    let operator = json!({
        "action": "create-key", "tenant": "ops", "name": "ops", "kind": "server", "scopes": ["operate"], "by": "test",
    });
    let operator = stack.invoke("maintainer", operator).await.unwrap();
    let url = stack.query_url().replace("/events", "/addresses/top?tenant=acme");
    let headers = [("x-api-key", operator["key"].as_str().unwrap())];
    let busiest = JsonClient::default().get(&url, &headers).await.unwrap().json();
    let told = |of: &Value| ["address", "records", "events", "fraud"].map(|name| of[name].to_string()).join(" ");
    let told: Vec<String> = busiest["addresses"].as_array().unwrap().iter().map(told).collect();
    // A server says whose event it sends; its own address is nobody's.
    assert_eq!(told, ["\"10.0.0.7\" 1 1 1"]);

    let all = json!({"action": "verify", "from": "2000-01-01T00:00:00Z", "to": "2100-01-01T00:00:00Z"});
    let verified = stack.invoke("aggregator", all).await.unwrap();
    assert_eq!((&verified["events"], &verified["different"]), (&json!(121), &json!(0)), "{verified}");
    stack.stop().await.unwrap();
}
