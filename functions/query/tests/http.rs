//! The router in this process, with fakes for its ports.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking, also in its helpers")]

mod answers;
mod console;
mod streams;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::{Request, Response, StatusCode, header};
use event::{EventId, EventKey, TenantId, Timestamp};
use lambda::http::Deadline;
use lambda::http_trigger;
use pipeline::breaker::{FAILURES_TO_OPEN, OPEN_FOR};
use pipeline::clock::Clock;
use pipeline::ports::{
    ApiKey, ApiKeys as _, EventStore as _, LetterId, LetterStep, MarkKey, RedriveMarks as _, RiskScore, Scope,
};
use pipeline::tracked::{Decided, Event, Tracked};
use pipeline::{ErrorClass, Outcome, Position};
use query::{App, Config, QueryPorts, router};
use serde_json::{Value, json};
use testkit::contracts::store::DEDUP_WINDOW;
use testkit::events::{DIGEST, closed, event, stored, valid};
use testkit::fakes::api_keys::FakeApiKeys;
use testkit::fakes::history::FakeHistory;
use testkit::fakes::publisher::FakePublisher;
use testkit::fakes::rate_leases::FakeRateLeases;
use testkit::fakes::redrive::FakeRedriveMarks;
use testkit::fakes::search::FakeSearch;
use testkit::fakes::statistics::FakeStatistics;
use testkit::fakes::store::FakeStore;
use testkit::fakes::tail::FakeTail;
use testkit::keys::{publishable_key, server_key};
use testkit::samples::{HTTP_TRIGGERS, sample};
use tokio::time::Instant;
use tower::ServiceExt as _;

const RECEIVED_AT: &str = "2026-11-20T18:02:00.000Z";

/// One hour after `RECEIVED_AT`.
struct FixedClock;

impl Clock for FixedClock {
    fn now(&self) -> Timestamp {
        after(3600)
    }
}

struct Service {
    router: Router,
    keys: Arc<FakeApiKeys>,
    store: Arc<FakeStore>,
    history: Arc<FakeHistory>,
    search: Arc<FakeSearch>,
    statistics: Arc<FakeStatistics>,
    marks: Arc<FakeRedriveMarks>,
    broker: Arc<FakePublisher>,
    tail: Arc<FakeTail>,
    functions: Arc<console::FakeFunctions>,
}

impl Service {
    async fn start() -> Self {
        Self::start_with(&[]).await
    }

    async fn start_with(settings: &[(&str, &str)]) -> Self {
        let mut variables = BTreeMap::from([("DATABASE_URL", "postgres://u@127.0.0.1/d")]);
        variables.extend(settings.iter().copied());
        let config = Config::from_variables(&variables).unwrap();
        let keys = Arc::new(FakeApiKeys::default());
        for key in [
            server_key("sample-key"),
            ApiKey { tenant: TenantId::new("other").unwrap(), ..server_key("other-key") },
            ApiKey { revoked: true, ..server_key("revoked-key") },
            publishable_key("web-key"),
            ApiKey { scopes: [Scope::Read, Scope::Operate].into(), ..server_key("operator-key") },
            ApiKey { scopes: [Scope::Operate].into(), ..server_key("only-operate-key") },
        ] {
            keys.put(&key).await.unwrap();
        }
        let store = Arc::new(FakeStore::new(DEDUP_WINDOW));
        let history = Arc::new(FakeHistory::new(store.clone()));
        let search = Arc::new(FakeSearch::new(store.clone()));
        let statistics = Arc::new(FakeStatistics::default());
        let marks = Arc::new(FakeRedriveMarks::default());
        let broker = Arc::new(FakePublisher::new(3));
        let tail = Arc::new(FakeTail::new(broker.clone()));
        let functions = Arc::new(console::FakeFunctions::new());
        let app = App::new(
            &config,
            keys.clone(),
            Arc::new(FakeRateLeases::default()),
            QueryPorts {
                history: history.clone(),
                search: search.clone(),
                statistics: statistics.clone(),
                tail: Some(tail.clone()),
                console: config.console.as_ref().map(|_| console::ports(&functions)),
            },
            marks.clone(),
            Arc::new(FixedClock),
        );
        let router = router(Arc::new(app));
        Service { router, keys, store, history, search, statistics, marks, broker, tail, functions }
    }

    /// Records an outcome at `RECEIVED_AT` plus one second plus as many seconds as the offset.
    async fn record(&self, origin: i64, record: Tracked<'static, Decided>) {
        let record = Tracked { origin: position(origin).as_origin(record.digest), ..record };
        let now = after(1 + record.position.offset.unsigned_abs());
        self.store.record(&[record], now).await.unwrap();
    }

    async fn store(&self, offset: i64, origin: i64, id: &str) {
        let sample = event(&TenantId::new("acme").unwrap(), id, r#"{"secret":"payload"}"#, after(0));
        let event = Event { event_type: "transaction".into(), occurred_at: None, ..sample };
        let risk = RiskScore { score: 7, reasons: vec!["new-user".into()], rules_version: "1".into() };
        self.record(origin, stored(position(offset), event, valid(Some(risk)))).await;
    }

    async fn close(&self, offset: i64, id: &str, outcome: Outcome, reason: &str) {
        let key = EventKey { tenant: TenantId::new("acme").unwrap(), id: EventId::new(id).unwrap() };
        self.record(offset, closed(position(offset), Some(key), outcome, reason)).await;
    }

    async fn send(&self, request: Request<Body>) -> Answer {
        Answer::of(self.router.clone().oneshot(request).await.unwrap()).await
    }

    async fn get(&self, path: &str) -> Answer {
        self.get_as("sample-key", path).await
    }

    async fn get_as(&self, key: &str, path: &str) -> Answer {
        self.send(Request::get(path).header("x-api-key", key).body(Body::empty()).unwrap()).await
    }

    /// A sample, as the event of its trigger.
    async fn invoke(&self, case: &str) -> Answer {
        self.invoke_with(&sample("query", case)).await
    }

    async fn invoke_with(&self, trigger: &str) -> Answer {
        let answer = http_trigger::answer(self.router.clone(), trigger, None).await.unwrap();
        Answer::of_trigger(&serde_json::from_str(answer.get()).unwrap())
    }
}

fn position(offset: i64) -> Position {
    Position::new("raw-events", 2, offset)
}

fn after(seconds: u64) -> Timestamp {
    Timestamp::parse(RECEIVED_AT).unwrap().plus(Duration::from_secs(seconds))
}

#[derive(Debug)]
struct Answer {
    status: StatusCode,
    headers: BTreeMap<String, String>,
    body: Value,
}

impl Answer {
    async fn of(response: Response<Body>) -> Self {
        let headers = response.headers().iter().map(|(name, value)| (name.to_string(), value.to_str().unwrap().into()));
        let (status, headers) = (response.status(), headers.collect());
        let body = axum::body::to_bytes(response.into_body(), usize::MAX).await.unwrap();
        Answer { status, headers, body: serde_json::from_slice(&body).unwrap_or_default() }
    }

    /// From the answer to a trigger, in any of its formats.
    fn of_trigger(answer: &Value) -> Self {
        let headers = if answer["headers"].is_object() { &answer["headers"] } else { &answer["multiValueHeaders"] };
        let text = |value: &Value| value.as_str().or_else(|| value[0].as_str()).unwrap().to_owned();
        let headers = headers.as_object().unwrap().iter().map(|(name, value)| (name.clone(), text(value)));
        Answer {
            status: StatusCode::from_u16(answer["statusCode"].as_u64().unwrap().try_into().unwrap()).unwrap(),
            headers: headers.collect(),
            body: serde_json::from_str(answer["body"].as_str().unwrap()).unwrap_or_default(),
        }
    }

    fn header(&self, name: header::HeaderName) -> Option<&str> {
        self.headers.get(name.as_str()).map(String::as_str)
    }

    /// Status and tag of a problem document.
    fn problem(&self) -> (u16, &str) {
        assert_eq!(self.header(header::CONTENT_TYPE), Some("application/problem+json"), "{self:?}");
        assert_eq!(self.body["status"], self.status.as_u16());
        (self.status.as_u16(), self.body["type"].as_str().unwrap().strip_prefix("urn:forebay:problem:").unwrap())
    }

    /// `<step> <record or origin>` of each step.
    fn steps(&self) -> Vec<String> {
        let text = |step: &Value, name: &str| step[name].as_str().map(str::to_owned);
        let steps = self.body["timeline"].as_array().unwrap().iter();
        steps
            .map(|step| {
                let place = text(step, "record").or_else(|| text(step, "origin")).unwrap();
                format!("{} {}", text(step, "step").unwrap(), place.split('/').nth(2).unwrap())
            })
            .collect()
    }
}

#[tokio::test]
async fn a_key_that_may_not_read_or_stands_in_the_url_is_refused_and_so_is_a_flood() {
    let service = Service::start().await;
    let web = Request::get("/events/a").header("x-api-key", "web-key").body(Body::empty()).unwrap();
    assert_eq!(service.send(web).await.problem(), (403, "api_key_scope"));
    let in_url = Request::get("/events/a?api_key=sample-key").body(Body::empty()).unwrap();
    assert_eq!(service.send(in_url).await.problem(), (401, "api_key_missing"));
    let mut refused = 0;
    for _ in 0..70 {
        let answer = service.get("/events/a").await;
        refused += u32::from(answer.status == StatusCode::TOO_MANY_REQUESTS);
    }
    assert!((10..=25).contains(&refused), "some 50 at once of 600 a minute: {refused}");
}

#[tokio::test]
async fn another_tenant_is_asked_about_with_the_scope_operate_alone() {
    let service = Service::start().await;
    service.store(5, 5, "order-1001").await;
    let of_other = |path: &str| format!("{path}{}tenant=other", if path.contains('?') { '&' } else { '?' });
    for path in ["/events/order-1001", "/events?id=order-1001", "/events?hours=2", "/stats", "/campaigns/c1/stats"] {
        assert_eq!(service.get(&of_other(path)).await.problem(), (403, "api_key_scope"), "{path}");
        assert_eq!(service.get_as("only-operate-key", path).await.problem(), (403, "api_key_scope"), "{path}");
        assert_eq!(service.get(&of_other(path).replace("other", "acme")).await.status, StatusCode::OK, "{path}");
        let bad = of_other(path).replace("other", "A%20B");
        assert_eq!(service.get_as("operator-key", &bad).await.problem(), (400, "bad_parameter"), "{path}");
    }
    for path in ["/events?hours=2", "/events/order-1001"] {
        let (own, other) = (service.get_as("operator-key", path).await, of_other(path));
        assert_eq!(own.status, StatusCode::OK, "{path}");
        assert_ne!(service.get_as("operator-key", &other).await.body, own.body, "{path}");
    }
    let as_other = service.get_as("other-key", "/events?hours=2").await;
    assert_eq!(service.get_as("operator-key", "/events?hours=2&tenant=other").await.body, as_other.body);
}

#[tokio::test]
async fn a_stored_event_is_told_whole() {
    let service = Service::start().await;
    service.store(5, 5, "order-1001").await;
    let answer = service.invoke("known-event").await;
    assert_eq!((answer.status, answer.header(header::CACHE_CONTROL)), (StatusCode::OK, Some("no-store")));
    let (at, record) = ("2026-11-20T18:02:06.000Z", "raw-events/2/5");
    let origin = format!("{record}/{DIGEST}");
    assert_eq!(
        answer.body,
        json!({
            "id": "order-1001",
            "status": "valid",
            "timeline": [
                {"step": "accepted", "at": RECEIVED_AT, "record": record},
                {"step": "recorded", "at": at, "record": record, "origin": origin, "outcome": "valid"},
                {"step": "stored", "at": at, "origin": origin, "type": "transaction"},
                {"step": "scored", "at": at, "origin": origin, "outcome": "valid",
                 "risk": {"score": 7, "reasons": ["new-user"], "rules_version": "1"}},
            ],
        })
    );
}

#[tokio::test]
async fn behind_any_gateway_stage_or_domain_the_path_is_the_same() {
    let service = Service::start().await;
    service.store(5, 5, "order-1001").await;
    for case in HTTP_TRIGGERS {
        let answer = service.invoke(case).await;
        assert_eq!((answer.status, &answer.body["id"]), (StatusCode::OK, &json!("order-1001")), "{case}");
    }
}

/// API Gateway passes on only what Terraform lists, so a route that is not there can never be asked on AWS.
#[test]
fn every_route_is_a_route_of_api_gateway_too() {
    let quoted = |line: &str| line.split('"').skip(1).step_by(2).map(str::to_owned).collect::<Vec<_>>();
    let handler = include_str!("../src/handler.rs");
    let routes = handler.lines().filter(|line| line.trim_start().starts_with(".route(")).flat_map(quoted);
    let routes: BTreeSet<String> =
        routes.map(|path| path.replace("{*id}", "{id+}")).filter(|path| !path.ends_with('/')).collect();
    let terraform = include_str!("../../../infra/terraform/modules/pipeline/triggers.tf");
    let listed = terraform.lines().find(|line| line.contains("GET ${path}")).unwrap();
    let listed: BTreeSet<String> = quoted(listed).into_iter().filter(|text| text.starts_with('/')).collect();
    assert!(routes.contains("/stats"), "{routes:?}");
    assert_eq!(routes, listed);
}

#[tokio::test]
async fn the_description_needs_no_key_and_may_be_cached() {
    let service = Service::start().await;
    let asked = |method: &str| Request::builder().method(method).uri("/openapi.json").body(Body::empty()).unwrap();
    let answer = service.send(asked("GET")).await;
    assert_eq!((answer.status, &answer.body["openapi"]), (StatusCode::OK, &json!("3.1.0")));
    let headers = ["content-type", "cache-control"].map(|name| answer.headers[name].as_str());
    assert_eq!(headers, ["application/json", "public, max-age=300"]);
    assert_eq!(service.send(asked("POST")).await.problem(), (405, "method_not_allowed"));
}

#[tokio::test]
async fn ids_are_percent_encoded() {
    let service = Service::start().await;
    service.store(0, 0, "order/1 é").await;
    assert_eq!(service.invoke("odd-id").await.body["id"], "order/1 é");
    assert_eq!(service.get("/events/order/1%20%c3%a9").await.status, StatusCode::OK, "decoded by a gateway");
    assert_eq!(service.get("/events/%ff").await.problem(), (400, "bad_event_id"));
    assert_eq!(service.get("/events/a%00").await.problem(), (400, "bad_event_id"));
    assert_eq!(service.get(&format!("/events/{}", "x".repeat(257))).await.problem(), (400, "bad_event_id"));
}

#[tokio::test]
async fn an_id_may_be_a_parameter() {
    let service = Service::start().await;
    for (offset, id) in (0..).zip(["/shop/café|c-1", "../..", "a b+c%2F", "?id=x&y#z", "//", "order-1001"]) {
        service.store(offset, offset, id).await;
        let encoded: String = id.bytes().map(|byte| format!("%{byte:02X}")).collect();
        for path in [format!("/events?id={encoded}"), format!("/events/?id={encoded}&wait_ms=0")] {
            let answer = service.get(&path).await;
            assert_eq!((answer.status, &answer.body["id"]), (StatusCode::OK, &json!(id)), "{path}");
        }
    }
    for case in ["id-parameter-http-api", "id-parameter-rest-api", "id-parameter-load-balancer"] {
        assert_eq!(service.invoke(case).await.body["id"], "/shop/café|c-1", "{case}");
    }
    assert_eq!(service.get("/events?id=unknown").await.problem(), (404, "unknown_event"));
    for path in ["/events?id=a&id=b", "/events?id=a&type=click&id=a", "/events/a?id=a", "/events/a?id=b"] {
        assert_eq!(service.get(path).await.problem(), (400, "bad_parameter"), "{path}");
    }
    assert_eq!(service.get("/events?id=").await.problem(), (400, "bad_event_id"));
}

#[tokio::test]
async fn copies_blocks_and_letters_are_told_with_their_reasons() {
    let service = Service::start().await;
    service.close(3, "a", Outcome::Blocked, "ip-limit: 203.0.113.7").await;
    let blocked = service.get("/events/a").await;
    assert_eq!(
        (&blocked.body["status"], blocked.steps()),
        (&json!("blocked"), vec!["accepted 3".into(), "recorded 3".into()])
    );
    assert_eq!(blocked.body["timeline"][0].get("at"), None, "the ledger does not know it");
    assert_eq!(blocked.body["timeline"][1]["reason"], "ip-limit: 203.0.113.7");
    service.store(4, 4, "a").await;
    service.store(6, 6, "a").await;
    let answer = service.get("/events/a").await;
    assert_eq!(answer.body["status"], "valid");
    let expected =
        ["accepted 4", "accepted 3", "recorded 3", "recorded 4", "stored 4", "scored 4", "accepted 6", "recorded 6"];
    assert_eq!(answer.steps(), expected);
    assert_eq!(answer.body["timeline"][7]["outcome"], "duplicate");
}

#[tokio::test]
async fn a_redriven_letter_is_told_with_its_copy() {
    let service = Service::start().await;
    service.close(0, "a", Outcome::DeadLettered, "schema-violation: /amount").await;
    let origin = position(0).as_origin(Some(DIGEST));
    let key = MarkKey { letter: LetterId { origin, attempt: 0 }, step: LetterStep::Send };
    service.marks.begin(std::slice::from_ref(&key), "run-1", after(2), after(60)).await.unwrap();
    let under_way = service.get("/events/a").await;
    assert_eq!(under_way.body["status"], "dead_lettered");
    assert_eq!(under_way.body["timeline"][2]["state"], "under_way");

    service.marks.finish(&[(key, Some(position(8)))], "run-1", after(3)).await.unwrap();
    service.store(8, 0, "a").await;
    let answer = service.get("/events/a").await;
    assert_eq!(answer.body["status"], "valid");
    assert_eq!(answer.steps(), ["accepted 0", "recorded 0", "redrive 8", "recorded 8", "stored 0", "scored 0"]);
    let redrive = json!({"step": "redrive", "at": after(3), "origin": format!("raw-events/2/0/{DIGEST}"), "action": "send",
        "attempt": 0, "state": "done", "record": "raw-events/2/8"});
    assert_eq!(answer.body["timeline"][2], redrive);
    assert_eq!(answer.body.get("incomplete"), None);

    service.marks.faults.fail(1, ErrorClass::Transient);
    let blind = service.get("/events/a").await;
    assert_eq!((blind.status, &blind.body["incomplete"]), (StatusCode::OK, &json!(["redrives"])));
}

#[tokio::test]
async fn a_404_tells_unknown_from_not_yet_processed() {
    let service = Service::start().await;
    service.store(4, 4, "other").await;
    let unknown = service.get("/events/order-1001").await;
    assert_eq!((unknown.problem(), unknown.header(header::RETRY_AFTER)), ((404, "unknown_event"), None));
    let waiting = service.get("/events/order-1001?partition=2&offset=5").await;
    assert_eq!((waiting.problem(), waiting.header(header::RETRY_AFTER)), ((404, "not_yet_processed"), Some("1")));
    assert_eq!(service.get("/events/order-1001?partition=2&offset=4").await.problem(), (404, "unknown_event"));
    assert_eq!(service.get("/events/order-1001?partition=3&offset=0").await.problem(), (404, "not_yet_processed"));

    service.store(5, 5, "order-1001").await;
    let known = service.get("/events/order-1001?partition=2&offset=5").await;
    assert_eq!(known.body["receipt"], json!({"record": "raw-events/2/5", "processed": true}));
    let resent = service.get("/events/order-1001?partition=2&offset=6").await;
    assert_eq!((resent.status, &resent.body["receipt"]["processed"]), (StatusCode::OK, &json!(false)));
}

#[tokio::test(start_paused = true)]
async fn a_request_waits_as_long_as_it_says_and_no_longer_than_it_may() {
    let service = Service::start().await;
    let waited = async |path: &str| {
        let started = Instant::now();
        let answer = service.get(path).await;
        (answer.status.as_u16(), started.elapsed().as_millis())
    };
    assert_eq!(waited("/events/order-1001").await, (404, 0));
    assert_eq!(waited("/events/order-1001?wait_ms=700").await, (404, 700));
    assert_eq!(waited("/events/order-1001?wait_ms=4000000000").await, (404, 10_000));
    // On Lambda the wait ends before the deadline, which has just passed here.
    let late = Request::get("/events/order-1001?wait_ms=5000").header("x-api-key", "sample-key");
    let late = late.extension(Deadline(std::time::Instant::now())).body(Body::empty()).unwrap();
    let started = Instant::now();
    assert_eq!(service.send(late).await.problem(), (404, "unknown_event"));
    assert_eq!(started.elapsed(), Duration::ZERO);
    let (answer, ()) = tokio::join!(service.invoke("receipt-wait"), async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        service.store(5, 5, "order-1001").await;
    });
    assert_eq!((answer.status, &answer.body["receipt"]["processed"]), (StatusCode::OK, &json!(true)));
    // There is nothing to wait for: the record has been processed, and it belongs to another event.
    assert_eq!(waited("/events/z?partition=2&offset=5&wait_ms=5000").await, (404, 0));
    assert_eq!(waited("/events/order-1001?wait_ms=5000").await, (200, 0));
}

#[tokio::test]
async fn only_the_tenant_may_know() {
    let service = Service::start().await;
    service.store(5, 5, "order-1001").await;
    let with_key = async |key: &str| service.get_as(key, "/events/order-1001?partition=2&offset=5").await;
    let bad = service.invoke("bad-key").await;
    assert_eq!(bad.problem(), (401, "api_key_unknown"));
    assert_eq!(bad.header(header::WWW_AUTHENTICATE), Some("Bearer realm=\"forebay\""));
    assert_eq!(with_key("other-key").await.problem(), (404, "unknown_event"));
    assert_eq!(with_key("revoked-key").await.problem(), (403, "api_key_revoked"));
    let none = service.send(Request::get("/events/a%00").body(Body::empty()).unwrap()).await;
    assert_eq!(none.problem(), (401, "api_key_missing"), "nothing is read before the key");
    assert_eq!(with_key("sample-key").await.status, StatusCode::OK);
}

#[tokio::test(start_paused = true)]
async fn a_database_that_keeps_failing_is_left_alone() {
    let service = Service::start().await;
    service.store(5, 5, "order-1001").await;
    service.history.faults.fail(FAILURES_TO_OPEN as usize, ErrorClass::Transient);
    for _ in 0..FAILURES_TO_OPEN {
        assert_eq!(service.get("/events/order-1001").await.problem(), (503, "history_unavailable"));
    }
    let refused = service.get("/events/order-1001").await;
    assert_eq!((refused.problem(), refused.header(header::RETRY_AFTER)), ((503, "history_unavailable"), Some("60")));
    tokio::time::advance(OPEN_FOR).await;
    assert_eq!(service.get("/events/order-1001").await.status, StatusCode::OK);
}

#[tokio::test]
async fn bad_requests_and_outages_are_problem_documents() {
    let service = Service::start().await;
    let half = service.invoke("half-receipt").await;
    assert_eq!(half.problem(), (400, "bad_parameter"));
    assert_eq!(half.body["detail"], "partition must be sent together with offset");
    for query in ["partition=x&offset=0", "partition=0&offset=-1", "wait_ms=soon", "offset=1&offset=2&partition=0"] {
        assert_eq!(service.get(&format!("/events/a?{query}")).await.problem(), (400, "bad_parameter"), "{query}");
    }
    assert_eq!(service.get("/other").await.problem(), (404, "no_such_path"));
    assert_eq!(service.get("/event").await.problem(), (404, "no_such_path"));
    let post = service.send(Request::post("/events/a").body(Body::empty()).unwrap()).await;
    assert_eq!((post.problem(), post.header(header::ALLOW)), ((405, "method_not_allowed"), Some("GET, HEAD")));

    service.history.faults.fail(1, ErrorClass::Overload);
    let down = service.get("/events/a").await;
    assert_eq!((down.problem(), down.header(header::RETRY_AFTER)), ((503, "history_unavailable"), Some("2")));
    assert!(!down.body["detail"].as_str().unwrap().contains("injected"), "our troubles are not the client's");
    service.history.faults.fail(1, ErrorClass::Permanent);
    assert_eq!(service.get("/events/a").await.problem(), (500, "history_unreadable"));

    service.keys.faults.fail(1, ErrorClass::Transient);
    assert_eq!(service.get("/events/a").await.problem(), (404, "unknown_event"), "a key seen lately is remembered");
}
