//! The function with fakes in place of the database and of endpoints.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

use std::collections::BTreeMap;
use std::num::NonZeroU16;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use event::{TenantId, Timestamp};
use lambda::invocation::{Invocation, InvocationError};
use notifier::{App, Attempt, Policy, WebhookSender, handle};
use pipeline::clock::{Clock, SystemClock};
use pipeline::{ErrorClass, Outcome};
use serde_json::value::RawValue;
use serde_json::{Value, json};
use testkit::contracts::webhooks::endpoint;
use testkit::fakes::webhooks::FakeWebhooks;
use testkit::samples::sample;
use webhooks::{ATTEMPTS, EndpointId, WebhookDeliveries as _, WebhookEndpoint, WebhookEndpoints as _};

/// A clock that a test sets.
#[derive(Debug)]
struct SetClock(Mutex<Timestamp>);

impl Clock for SetClock {
    fn now(&self) -> Timestamp {
        *self.0.lock().unwrap()
    }
}

/// Endpoints that answer as a test says; all others answer well.
#[derive(Debug, Default)]
struct Receivers {
    answers: Mutex<BTreeMap<EndpointId, Attempt>>,
    takes: Mutex<Duration>,
    sent: Mutex<Vec<(EndpointId, String, Value)>>,
}

impl Receivers {
    fn answer(&self, endpoint: &WebhookEndpoint, attempt: Attempt) {
        self.answers.lock().unwrap().insert(endpoint.id.clone(), attempt);
    }

    fn fail(&self, endpoint: &WebhookEndpoint) {
        self.answer(endpoint, Attempt::Failed { error: "the answer has the status 500".to_owned(), retry_after: None });
    }

    fn sent_to(&self, endpoint: &WebhookEndpoint) -> Vec<(String, Value)> {
        let sent = self.sent.lock().unwrap();
        sent.iter().filter(|(to, ..)| *to == endpoint.id).map(|(_, id, body)| (id.clone(), body.clone())).collect()
    }
}

#[async_trait]
impl WebhookSender for Receivers {
    async fn send(&self, endpoint: &WebhookEndpoint, message_id: &str, body: Bytes, _: Timestamp) -> Attempt {
        let takes = *self.takes.lock().unwrap();
        tokio::time::sleep(takes).await;
        let body = serde_json::from_slice(&body).unwrap();
        self.sent.lock().unwrap().push((endpoint.id.clone(), message_id.to_owned(), body));
        self.answers.lock().unwrap().get(&endpoint.id).cloned().unwrap_or(Attempt::Delivered)
    }
}

struct Setup {
    store: Arc<FakeWebhooks>,
    receivers: Arc<Receivers>,
    clock: Arc<SetClock>,
    app: App,
}

impl Setup {
    fn new() -> Self {
        Setup::with(Policy { max_waiting: 100, ..policy() })
    }

    fn with(policy: Policy) -> Self {
        let store = Arc::new(FakeWebhooks::default());
        let receivers = Arc::new(Receivers::default());
        let clock = Arc::new(SetClock(Mutex::new(SystemClock.now())));
        let app = App::new(store.clone(), store.clone(), receivers.clone(), clock.clone(), policy);
        Setup { store, receivers, clock, app }
    }

    async fn has(&self, tenant: &str, outcomes: &[Outcome]) -> WebhookEndpoint {
        let endpoint = WebhookEndpoint {
            outcomes: outcomes.iter().copied().collect(),
            event_types: std::collections::BTreeSet::new(),
            ..endpoint(&TenantId::new(tenant).unwrap())
        };
        assert!(self.store.put(&endpoint).await.unwrap());
        endpoint
    }

    async fn ask(&self, event: &str) -> Result<Value, InvocationError> {
        let event = RawValue::from_string(event.to_owned()).unwrap();
        let answer = handle(&event, &invocation(), &self.app).await?;
        Ok(serde_json::from_str(answer.get()).unwrap())
    }

    async fn retry(&self) -> Value {
        self.ask(r#"{"action":"retry"}"#).await.unwrap()
    }

    fn pass(&self, time: Duration) {
        let mut now = self.clock.0.lock().unwrap();
        *now = now.plus(time);
    }
}

fn invocation() -> Invocation {
    Invocation { request_id: "r".to_owned(), deadline: std::time::Instant::now() + Duration::from_secs(30) }
}

fn done() -> Value {
    json!({ "batchItemFailures": [] })
}

/// An event of the trigger with these outcomes of the tenant, of events `e0`, `e1`, ….
fn batch(tenant: &str, outcomes: &[Outcome]) -> String {
    let encode = |bytes: &[u8]| base64_simd::STANDARD.encode_to_string(bytes);
    let records: Vec<Value> = (0..)
        .zip(outcomes)
        .map(|(offset, outcome)| {
            let value = json!({
                "outcome_id": format!("raw-events/0/{offset}"), "outcome": outcome, "reason": "", "tenant": tenant,
                "id": format!("e{offset}"), "type": "click", "recorded_at": "2026-11-20T18:02:00.000Z",
                "received_at": "2026-11-20T18:02:00.000Z", "ip": "203.0.113.7",
            });
            json!({
                "topic": "processed-events", "partition": 0, "offset": offset, "timestamp": 1_795_197_721_010_i64,
                "key": encode(format!("{tenant}/e{offset}").as_bytes()),
                "value": encode(value.to_string().as_bytes()),
                "headers": [{"outcome": outcome.as_str().as_bytes()}, {"event-type": b"click"}],
            })
        })
        .collect();
    json!({ "eventSource": "aws:kafka", "records": { "processed-events-0": records } }).to_string()
}

const TENANT: &str = "samples";

#[tokio::test]
async fn the_sample_is_sent_to_who_asks_for_it_and_to_nobody_else() {
    let setup = Setup::new();
    let all = setup.has(TENANT, &[Outcome::Valid, Outcome::Fraud]).await;
    let frauds = setup.has(TENANT, &[Outcome::Fraud]).await;
    let clicks =
        WebhookEndpoint { event_types: ["click".to_owned()].into(), ..setup.has(TENANT, &[Outcome::Fraud]).await };
    setup.store.put(&clicks).await.unwrap();
    let other = setup.has("other", Outcome::ALL).await;
    assert_eq!(setup.ask(&sample("notifier", "outcomes")).await.unwrap(), done());
    let sent: Vec<Value> = setup.receivers.sent_to(&all).into_iter().map(|(_, body)| body["type"].clone()).collect();
    assert_eq!(sent.len(), 2);
    assert!(sent.contains(&"event.valid".into()) && sent.contains(&"event.fraud".into()), "{sent:?}");
    assert_eq!(setup.receivers.sent_to(&frauds).len(), 1);
    assert_eq!(setup.receivers.sent_to(&clicks), []);
    assert_eq!(setup.receivers.sent_to(&other), [], "tenants are not told of each other's events");
    assert_eq!(setup.store.kept(), []);
}

#[tokio::test]
async fn what_fails_is_kept_and_tried_again_until_it_is_dead() {
    // Otherwise the endpoint would be left alone for a minute of the process's own clock.
    let setup = Setup::with(Policy { breaker_open: Duration::ZERO, ..policy() });
    let endpoint = setup.has(TENANT, &[Outcome::Valid]).await;
    setup.receivers.fail(&endpoint);
    assert_eq!(setup.ask(&batch(TENANT, &[Outcome::Valid])).await.unwrap(), done());
    assert_eq!(setup.store.kept()[0].1.attempts, 1);
    assert_eq!(setup.retry().await["waiting"], 1);
    let mut days = 0;
    while setup.receivers.sent_to(&endpoint).len() < ATTEMPTS as usize {
        setup.pass(Duration::from_secs(27 * 3600));
        setup.retry().await;
        days += 1;
        assert!(days < 20, "{:?}", setup.store.kept());
    }
    let ids: Vec<String> = setup.receivers.sent_to(&endpoint).into_iter().map(|(id, _)| id).collect();
    assert!(ids.iter().all(|id| *id == ids[0]), "every attempt has the id of the message: {ids:?}");
    assert_eq!(setup.store.kept()[0].1.due_at, None, "it is dead");

    let listed = setup.ask(&json!({ "action": "list-dead", "webhook": endpoint.id }).to_string()).await.unwrap();
    assert_eq!((&listed["dead"][0]["message_id"], &listed["dead"][0]["attempts"]), (&json!(ids[0]), &json!(ATTEMPTS)));
    setup.receivers.answer(&endpoint, Attempt::Delivered);
    let resend = json!({ "action": "resend", "webhook": endpoint.id, "message_id": ids[0] }).to_string();
    assert_eq!(setup.ask(&resend).await.unwrap(), json!({ "revived": 1 }));
    assert_eq!(setup.ask(&resend).await.unwrap(), json!({ "revived": 0 }));
    assert_eq!(setup.retry().await["delivered"], 1);
    assert_eq!(setup.store.kept(), []);
}

fn policy() -> Policy {
    Policy {
        concurrency: NonZeroU16::new(32).unwrap(),
        timeout: Duration::from_secs(5),
        max_waiting: 2,
        breaker_open: Duration::from_secs(60),
    }
}

#[tokio::test]
async fn dead_deliveries_are_kept_for_thirty_days() {
    let setup = Setup::new();
    let endpoint = setup.has(TENANT, &[Outcome::Valid]).await;
    let delivery = webhooks::WebhookDelivery { endpoint: endpoint.id, message_id: "m".to_owned(), body: Bytes::new() };
    let failure = webhooks::Failure { attempts: ATTEMPTS, error: String::new(), due_at: None };
    setup.store.keep(&[(delivery, failure)], setup.clock.now()).await.unwrap();
    setup.pass(Duration::from_secs(29 * 86_400));
    setup.retry().await;
    assert_eq!(setup.store.kept().len(), 1);
    setup.pass(Duration::from_secs(2 * 86_400));
    setup.retry().await;
    assert_eq!(setup.store.kept(), []);
}

#[tokio::test]
async fn a_receiver_that_fails_is_left_alone_and_others_are_served() {
    let setup = Setup::new();
    let (bad, good) = (setup.has(TENANT, &[Outcome::Valid]).await, setup.has(TENANT, &[Outcome::Valid]).await);
    setup.receivers.fail(&bad);
    assert_eq!(setup.ask(&batch(TENANT, &[Outcome::Valid; 50])).await.unwrap(), done());
    assert_eq!(setup.receivers.sent_to(&good).len(), 50);
    let tried = setup.receivers.sent_to(&bad).len();
    assert!((5..=12).contains(&tried), "{tried} requests to one that fails");
    let kept = setup.store.kept();
    assert_eq!(kept.len(), 50, "what was not tried is kept too");
    assert_eq!(kept.iter().filter(|(_, failure)| failure.attempts == 0).count(), 50 - tried);
}

#[tokio::test(start_paused = true)]
async fn a_slow_receiver_delays_others_by_seconds_at_most() {
    let setup = Setup::new();
    let slow = setup.has(TENANT, &[Outcome::Valid]).await;
    *setup.receivers.takes.lock().unwrap() = Duration::from_secs(2);
    let began = tokio::time::Instant::now();
    assert_eq!(setup.ask(&batch(TENANT, &[Outcome::Valid; 100])).await.unwrap(), done());
    assert!(began.elapsed() <= Duration::from_secs(5), "{:?}", began.elapsed());
    let (sent, kept) = (setup.receivers.sent_to(&slow).len(), setup.store.kept().len());
    assert_eq!(sent + kept, 100);
    assert!(sent >= 8 && kept > 0, "{sent} sent, {kept} kept");
    *setup.receivers.takes.lock().unwrap() = Duration::from_millis(50);
    let retried = setup.retry().await;
    assert_eq!((&retried["ended"], &retried["delivered"]), (&json!("done"), &json!(kept)));
}

#[tokio::test]
async fn an_endpoint_that_is_gone_or_has_too_much_waiting_is_paused() {
    let setup = Setup::with(policy());
    let gone = setup.has(TENANT, &[Outcome::Valid]).await;
    setup.receivers.answer(&gone, Attempt::Gone);
    setup.ask(&batch(TENANT, &[Outcome::Valid])).await.unwrap();
    let paused = async |endpoint: &WebhookEndpoint| setup.store.get(&endpoint.id).await.unwrap().unwrap().paused;
    assert!(paused(&gone).await.unwrap().contains("410"));
    setup.pass(Duration::from_secs(60));
    setup.ask(&batch(TENANT, &[Outcome::Valid])).await.unwrap();
    setup.retry().await;
    assert_eq!(setup.receivers.sent_to(&gone).len(), 1, "it is told nothing more");

    let behind = setup.has("behind", &[Outcome::Valid]).await;
    setup.receivers.fail(&behind);
    setup.pass(Duration::from_secs(60));
    setup.ask(&batch("behind", &[Outcome::Valid; 3])).await.unwrap();
    let report = setup.retry().await;
    assert!(paused(&behind).await.unwrap().contains("WEBHOOK_MAX_WAITING=2"), "{report}");
}

#[tokio::test]
async fn a_batch_fails_if_what_failed_cannot_be_kept_and_the_next_delivery_makes_it_good() {
    let setup = Setup::new();
    let endpoint = setup.has(TENANT, &[Outcome::Valid]).await;
    setup.receivers.fail(&endpoint);
    let event = batch(TENANT, &[Outcome::Valid]);
    // The list of endpoints is read first.
    setup.ask(&batch(TENANT, &[])).await.unwrap();
    setup.store.faults.fail(3, ErrorClass::Transient);
    assert!(setup.ask(&event).await.is_err());
    assert_eq!(setup.store.kept(), []);
    setup.store.faults.clear();
    setup.ask(&event).await.unwrap();
    setup.ask(&event).await.unwrap();
    assert_eq!(setup.store.kept().len(), 1, "also if it is delivered twice");
}

#[tokio::test]
async fn what_is_no_outcome_is_told_to_nobody_and_stops_nothing() {
    let setup = Setup::new();
    let endpoint = setup.has("raw-events", Outcome::ALL).await;
    let encode = |text: &str| base64_simd::STANDARD.encode_to_string(text);
    let record = |offset: i64, key: &str, value: &str| {
        json!({
            "topic": "processed-events", "partition": 0, "offset": offset, "timestamp": 1, "key": encode(key),
            "value": encode(value), "headers": [{"outcome": b"dead_lettered"}],
        })
    };
    // The key of what is no event is its origin, which looks like one of a tenant with the name of the topic.
    let no_event = r#"{"outcome_id":"raw-events/0/7","outcome":"dead_lettered","reason":"not-json","recorded_at":"2026-11-20T18:02:00.000Z"}"#;
    let records = [record(0, "raw-events/0/7", no_event), record(1, "raw-events/x", "garbage"), record(2, "odd", "{}")];
    let event = json!({ "records": { "processed-events-0": records } }).to_string();
    assert_eq!(setup.ask(&event).await.unwrap(), done());
    assert_eq!(setup.receivers.sent_to(&endpoint), []);
}

#[tokio::test]
async fn an_event_that_is_neither_a_batch_nor_a_request_is_refused() {
    let setup = Setup::new();
    for (event, expected) in [
        (sample("notifier", "bad"), "bad-request"),
        (r#"{"records":7}"#.into(), "not-a-kafka-event"),
        ("{}".into(), "bad-request"),
    ] {
        assert_eq!(setup.ask(&event).await.unwrap_err().error_type, expected, "{event}");
    }
}
