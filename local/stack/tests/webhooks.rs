//! Webhooks through the real binaries: events over HTTP, outcomes at a receiver's HTTPS server.

#![expect(clippy::unwrap_used, reason = "helpers of tests: a failure is a failed test")]

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use pipeline::ports::KeyKind;
use serde_json::{Value, json};
use services::https_receiver::{HttpsReceiver, ReceiverAnswer};
use stack::client::JsonClient;
use stack::functions::beside_this_program;
use stack::options::Options;
use stack::stack::Stack;
use tokio_postgres::NoTls;

const PATIENCE: Duration = Duration::from_secs(60);

async fn stack(receiver: &HttpsReceiver) -> Stack {
    let options = Options::for_one_run(&settings::ProcessEnvironment, beside_this_program().unwrap()).unwrap();
    let options = options.with_setting("BREAKER_OPEN_SEC", "1").telling(receiver);
    let options = Options { notify_every: None, aggregate_every: None, rescore_every: None, ..options };
    Stack::start(options).await.unwrap()
}

async fn send(stack: &Stack, key: &str, ids: std::ops::Range<usize>) {
    let events: Vec<Value> =
        ids.map(|id| json!({ "type": "click", "id": format!("e{id}"), "user_id": "u", "campaign_id": "c" })).collect();
    let headers = [("x-api-key", key), ("content-type", "application/json")];
    let url = format!("{}/batch", stack.ingest_url());
    let answer = JsonClient::default().post(&url, &headers, serde_json::to_vec(&events).unwrap()).await.unwrap();
    assert_eq!(answer.status, 202, "{:?}", answer.json());
}

async fn until(what: &str, is_so: impl AsyncFn() -> bool) {
    let began = Instant::now();
    while !is_so().await {
        assert!(began.elapsed() < PATIENCE, "{what}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// As if the waits were over.
async fn make_due(stack: &Stack) {
    let (client, connection) = tokio_postgres::connect(stack.database_url(), NoTls).await.unwrap();
    let connection = tokio::spawn(connection);
    client.execute("UPDATE webhook_deliveries SET due_at = now() - interval '1 second'", &[]).await.unwrap();
    connection.abort();
}

/// The ids of events that the receiver was told of, and answered well or not.
fn ids(receiver: &HttpsReceiver) -> BTreeSet<String> {
    let received = receiver.received();
    let id = |body: &[u8]| serde_json::from_slice::<Value>(body).unwrap()["data"]["id"].as_str().unwrap().to_owned();
    received.iter().map(|request| id(&request.body)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn outcomes_reach_a_receiver_also_after_it_was_down() {
    let receiver = HttpsReceiver::start().await.unwrap();
    let stack = stack(&receiver).await;
    let key = stack.create_key("acme", "webhooks", KeyKind::Server, 1_000_000).await.unwrap();
    let other = stack.create_key("other", "webhooks", KeyKind::Server, 1_000_000).await.unwrap();
    let create = json!({
        "action": "create-webhook", "by": "test", "tenant": "acme", "url": receiver.url(), "outcomes": ["valid", "duplicate"],
    });
    let created = stack.invoke("maintainer", create).await.unwrap();
    let webhook = created["webhook"].as_str().unwrap().to_owned();
    assert!(created["secret"].as_str().unwrap().starts_with("whsec_"), "{created}");

    send(&stack, &key, 0..20).await;
    send(&stack, &other, 100..105).await;
    until("20 outcomes arrive", async || ids(&receiver).len() == 20).await;
    let first = &receiver.received()[0];
    assert!(first.header("webhook-signature").starts_with("v1,"), "{first:?}");
    let body: Value = serde_json::from_slice(&first.body).unwrap();
    assert_eq!(body["type"], "event.valid");
    assert_eq!(body["data"]["data"]["campaign_id"], "c", "{body}");

    // While the receiver is down, everything waits in the database.
    receiver.answer(ReceiverAnswer::status(503));
    send(&stack, &key, 20..40).await;
    let retry = async || stack.invoke("notifier", json!({ "action": "retry" })).await.unwrap();
    until("20 deliveries wait", async || retry().await["waiting"] == 20).await;
    let paused = stack.invoke("maintainer", json!({ "action": "pause-webhook", "webhook": webhook })).await.unwrap();
    assert_eq!(paused["paused"], "an operator paused it");
    receiver.answer(ReceiverAnswer::status(200));
    assert_eq!(retry().await["delivered"], 0, "a paused endpoint is told nothing");
    stack.invoke("maintainer", json!({ "action": "resume-webhook", "webhook": webhook })).await.unwrap();
    until("all 40 are delivered", async || {
        make_due(&stack).await;
        retry().await["waiting"] == 0
    })
    .await;
    assert_eq!(ids(&receiver), (0..40).map(|id| format!("e{id}")).collect());
    let audit = stack.invoke("maintainer", json!({ "action": "audit" })).await.unwrap().to_string();
    assert!(audit.contains("create-webhook") && !audit.contains("whsec_"), "the trail has the change, and no secret");
    stack.stop().await.unwrap();
}
