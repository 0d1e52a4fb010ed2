//! Streams of outcomes: what is in them, and that a client that connects again misses nothing.

use bytes::Bytes;
use futures::StreamExt as _;
use pipeline::decisions::publication::OutcomeWriter;
use pipeline::ports::{NewRecord, RecordPublisher as _};
use pipeline::{header as record_header, topic};
use testkit::events::closed;

use super::*;

const ON: [(&str, &str); 3] =
    [("STREAM", "on"), ("KAFKA_BROKERS", "127.0.0.1:9092"), ("QUERY_RATE_LIMIT_PER_MIN", "1000000")];
const SOON: Duration = Duration::from_secs(10);

/// A block of a stream.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Block {
    id: String,
    event: String,
    data: String,
}

impl Block {
    fn json(&self) -> Value {
        serde_json::from_str(&self.data).unwrap()
    }
}

/// The blocks that are complete, as a client reads them.
fn blocks(text: &str) -> Vec<Block> {
    let complete = text.rsplit_once("\n\n").map_or("", |(complete, _)| complete);
    let field = |block: &str, name: &str| {
        let mut lines = block.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
        let found = lines.next().unwrap_or_default().to_owned();
        assert_eq!(lines.next(), None, "{name} twice in {block}");
        found
    };
    let blocks = complete.split("\n\n").filter(|block| !block.is_empty());
    blocks
        .map(|block| Block { id: field(block, "id"), event: field(block, "event"), data: field(block, "data") })
        .collect()
}

/// Those that a client sees.
fn seen(text: &str) -> Vec<Block> {
    blocks(text).into_iter().filter(|block| !block.data.is_empty()).collect()
}

/// What a client sends when it connects again.
fn last_id(text: &str) -> String {
    blocks(text).iter().rev().map(|block| block.id.clone()).find(|id| !id.is_empty()).unwrap_or_default()
}

fn ids(text: &str) -> Vec<String> {
    seen(text).iter().map(|block| block.json()["id"].as_str().unwrap().to_owned()).collect()
}

/// An open stream.
struct Client {
    body: axum::body::BodyDataStream,
    text: String,
}

impl Client {
    /// Reads until that many events have come.
    async fn read(&mut self, events: usize) -> &str {
        while seen(&self.text).len() < events {
            assert!(self.more().await, "the stream ended after {}", self.text);
        }
        &self.text
    }

    /// Whether there was another piece.
    async fn more(&mut self) -> bool {
        let piece = tokio::time::timeout(Duration::from_secs(1_000), self.body.next()).await.expect("nothing comes");
        let Some(piece) = piece else { return false };
        self.text.push_str(std::str::from_utf8(&piece.unwrap()).unwrap());
        true
    }
}

impl Service {
    async fn streaming() -> Self {
        Self::start_with(&ON).await
    }

    async fn open_as(&self, key: &str, path: &str, last_event_id: &str) -> Result<Client, Answer> {
        let request = Request::get(path).header("x-api-key", key).header("last-event-id", last_event_id);
        let response = self.router.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
        if response.status() != StatusCode::OK {
            return Err(Answer::of(response).await);
        }
        assert_eq!(response.headers()[header::CONTENT_TYPE], "text/event-stream");
        let mut client = Client { body: response.into_body().into_data_stream(), text: String::new() };
        assert!(client.more().await);
        assert!(client.text.starts_with("retry: 1000\nid: "), "{}", client.text);
        Ok(client)
    }

    async fn open(&self, path: &str) -> Client {
        self.open_as("sample-key", path, "").await.unwrap()
    }

    /// Publishes the outcome of a record, as the processor does.
    async fn publish(&self, record: Tracked<'static, Decided>) {
        let entries = self.store.record(std::slice::from_ref(&record), after(5)).await.unwrap();
        let records = OutcomeWriter::new(&[]).outcome(&record, &entries[0], None).unwrap();
        self.put(records).await;
    }

    async fn put(&self, record: NewRecord) {
        for answer in self.broker.publish(vec![record], SOON).await {
            answer.unwrap();
        }
    }

    async fn publish_event(&self, offset: i64, tenant: &str, id: &str, json: &str) {
        let event = event(&TenantId::new(tenant).unwrap(), id, json, after(0));
        let risk = RiskScore { score: 7, reasons: vec!["new-user".into()], rules_version: "1".into() };
        self.publish(stored(position(offset), event, valid(Some(risk)))).await;
    }
}

fn key_of(tenant: &str, id: &str) -> EventKey {
    EventKey { tenant: TenantId::new(tenant).unwrap(), id: EventId::new(id).unwrap() }
}

#[tokio::test]
async fn an_event_is_one_line_of_json_with_its_id_and_outcome() {
    let service = Service::streaming().await;
    let mut client = service.open("/stream").await;
    service.publish_event(5, "acme", "a", "{ \"type\":\"click\",\r\n  \"text\":\"x\\ny\" }").await;
    service.publish(closed(position(6), Some(key_of("acme", "b")), Outcome::DeadLettered, "schema")).await;
    let events = seen(client.read(2).await);
    let stored = json!({
        "outcome_id": "raw-events/2/5", "outcome": "valid", "id": "a", "type": "click", "user_id": "u-1",
        "received_at": after(0), "occurred_at": after(0), "recorded_at": after(5),
        "risk": {"score": 7, "reasons": ["new-user"], "rules_version": "1"}, "data": {"type": "click", "text": "x\ny"},
    });
    let closed = json!({
        "outcome_id": "raw-events/2/6", "outcome": "dead_lettered", "reason": "schema", "id": "b", "recorded_at": after(5),
    });
    let of = |id: &str| events.iter().find(|event| event.json()["id"] == id).unwrap();
    assert_eq!((of("a").event.as_str(), of("a").json()), ("valid", stored));
    assert_eq!((of("b").event.as_str(), of("b").json()), ("dead_lettered", closed));
}

#[tokio::test]
async fn only_what_is_wanted_of_the_own_tenant_is_passed_on() {
    let service = Service::streaming().await;
    service.keys.put(&ApiKey { tenant: TenantId::new("raw-events").unwrap(), ..server_key("odd-key") }).await.unwrap();
    let clients = [
        ("sample-key", "/stream", vec!["a", "b", "c"]),
        ("sample-key", "/stream?outcome=duplicate,blocked", vec!["b"]),
        ("sample-key", "/stream?type=click", vec!["a", "c"]),
        ("sample-key", "/stream?type=click&user_id=u-1&outcome=valid", vec!["a", "c"]),
        ("sample-key", "/stream?user_id=u-2", vec![]),
        ("other-key", "/stream", vec!["theirs"]),
        ("operator-key", "/stream?tenant=other", vec!["theirs"]),
        // The key of a record without an event begins with the name of this tenant.
        ("odd-key", "/stream", vec![]),
    ];
    let mut opened = Vec::new();
    for (key, path, wanted) in clients {
        opened.push((service.open_as(key, path, "").await.unwrap(), wanted));
    }
    service.publish_event(1, "acme", "a", "{}").await;
    service.publish(closed(position(2), Some(key_of("acme", "b")), Outcome::Duplicate, "")).await;
    service.publish_event(3, "other", "theirs", "{}").await;
    service.publish(closed(position(4), None, Outcome::DeadLettered, "not-json")).await;
    // What another program wrote is left out, and does not end the stream.
    let foreign = NewRecord {
        topic: topic::PROCESSED_EVENTS,
        key: Some(Bytes::from_static(b"acme/x")),
        value: Some(Bytes::from_static(b"[")),
        headers: vec![pipeline::Header::new(record_header::OUTCOME, "valid")],
    };
    service.put(foreign).await;
    service.publish_event(5, "acme", "c", "{}").await;
    for (mut client, wanted) in opened {
        let mut found = ids(client.read(wanted.len()).await);
        found.sort();
        assert_eq!(found, wanted);
    }
    let refused = service.open_as("sample-key", "/stream?tenant=other", "").await.err().unwrap();
    assert_eq!(refused.problem(), (403, "api_key_scope"));
}

/// A stream that is cut anywhere and goes on with the last id that the client has read has every event once, those of a partition
/// in their order, whatever else is in the topic and however much is read at once.
#[tokio::test]
async fn wherever_a_stream_is_cut_nothing_is_lost_and_nothing_comes_twice() {
    for seed in 0..12 {
        let mut random = fastrand::Rng::with_seed(seed);
        let service = Service::streaming().await;
        let mut events = 0;
        for number in 0..random.i64(20..60) {
            let tenant = if random.u8(..3) > 0 { "acme" } else { "other" };
            let id = format!("event-{number}");
            match random.u8(..4) {
                0 => service.publish(closed(position(number), Some(key_of(tenant, &id)), Outcome::Blocked, "")).await,
                _ => {
                    events += usize::from(tenant == "acme");
                    service.publish_event(number, tenant, &id, "{\"a\":\n1}").await;
                }
            }
        }
        let path = "/stream?outcome=valid&from=earliest";
        let whole = service.open(path).await.read(events).await.to_owned();
        let expected = ids(&whole);
        assert_eq!(expected.len(), events);
        for cut in (0..=whole.len()).filter(|_| random.u16(..500) == 0).chain([0, whole.len()]) {
            let (first, _) = whole.split_at(cut);
            let mut rest = service.open_as("sample-key", path, &last_id(first)).await.unwrap();
            let had = ids(first);
            let found = [had.clone(), ids(rest.read(events - had.len()).await)].concat();
            assert_eq!(found, expected, "cut at {cut} of {}, seed {seed}", whole.len());
        }
    }
}

#[tokio::test]
async fn what_retention_deleted_or_a_new_topic_replaced_is_told() {
    let service = Service::streaming().await;
    service.broker.create_topic(topic::PROCESSED_EVENTS, 1);
    for number in 0..6 {
        service.publish_event(number, "acme", &format!("event-{number}"), "{}").await;
    }
    let mut client = service.open("/stream?from=earliest").await;
    let first = seen(client.read(6).await)[1].clone();
    drop(client);
    service.broker.expire(topic::PROCESSED_EVENTS, 0, 4);
    let mut client = service.open_as("sample-key", "/stream", &first.id).await.unwrap();
    let events = seen(client.read(3).await);
    assert_eq!(
        (events[0].event.as_str(), events[0].json()),
        ("gap", json!({"partition": 0, "from": 2, "to": 4, "cause": "expired"}))
    );
    assert_eq!([&events[1], &events[2]].map(|event| event.json()["id"].clone()), ["event-4", "event-5"]);
    // The gap has been told, so its id is behind it.
    let mut again = service.open_as("sample-key", "/stream", &events[0].id).await.unwrap();
    assert_eq!(ids(again.read(2).await), ["event-4", "event-5"]);

    service.broker.create_topic(topic::PROCESSED_EVENTS, 1);
    service.publish_event(7, "acme", "event-7", "{}").await;
    // A stream that is open, and one that goes on.
    let events = seen(client.read(5).await);
    let remade = json!({"partition": 0, "from": 6, "to": 0, "cause": "remade"});
    assert_eq!((events[3].json(), events[4].json()["id"].as_str()), (remade.clone(), Some("event-7")));
    let mut later = service.open_as("sample-key", "/stream", &events[2].id).await.unwrap();
    let events = seen(later.read(2).await);
    assert_eq!((events[0].json(), events[1].json()["id"].as_str()), (remade, Some("event-7")));
}

#[tokio::test]
async fn there_are_only_so_many_streams_and_one_that_is_left_makes_room() {
    let service = Service::start_with(&[ON[0], ON[1], ON[2], ("STREAM_CONNECTIONS", "2")]).await;
    let (first, second) = (service.open("/stream").await, service.open("/stream").await);
    let refused = service.open_as("sample-key", "/stream", "").await.err().unwrap();
    assert_eq!(refused.problem(), (503, "too_many_streams"));
    assert_eq!(refused.header(header::RETRY_AFTER), Some("5"));
    assert_eq!(service.tail.followers(), 2);
    drop(first);
    assert_eq!(service.tail.followers(), 1, "its reader is gone");
    let third = service.open("/stream").await;
    drop((second, third));
    // What fails takes no place.
    service.tail.faults.fail(3, ErrorClass::Transient);
    for _ in 0..3 {
        let refused = service.open_as("sample-key", "/stream", "").await.err().unwrap();
        assert_eq!(refused.problem(), (503, "stream_unavailable"));
        assert!(refused.header(header::RETRY_AFTER).is_some());
    }
    let _both = (service.open("/stream").await, service.open("/stream").await);
}

#[tokio::test(start_paused = true)]
async fn a_silent_stream_says_so_and_moves_its_id_on() {
    let service = Service::streaming().await;
    let mut client = service.open("/stream").await;
    let begun = last_id(&client.text);
    service.publish_event(1, "other", "theirs", "{}").await;
    let started = Instant::now();
    assert!(client.more().await);
    assert!((15..17).contains(&started.elapsed().as_secs()), "{:?}", started.elapsed());
    let silent = client.text.split("\n\n").nth(1).unwrap();
    assert!(silent.starts_with(": keep-alive\nid: "), "{silent}");
    assert_ne!(last_id(&client.text), begun, "it has passed over the other tenant's event");
    assert!(seen(&client.text).is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_stream_ends_by_itself_and_when_its_key_is_revoked() {
    let service = Service::start_with(&[ON[0], ON[1], ON[2], ("STREAM_MAX_SEC", "300")]).await;
    let (mut client, mut other) =
        (service.open("/stream").await, service.open_as("other-key", "/stream", "").await.unwrap());
    let key = ApiKey { tenant: TenantId::new("other").unwrap(), ..server_key("other-key") };
    service.keys.put(&ApiKey { revoked: true, ..key }).await.unwrap();
    let started = Instant::now();
    while other.more().await {}
    assert!((59..75).contains(&started.elapsed().as_secs()), "{:?}", started.elapsed());
    while client.more().await {}
    assert!((299..305).contains(&started.elapsed().as_secs()), "{:?}", started.elapsed());
    assert_eq!(service.tail.followers(), 0);
}

#[tokio::test]
async fn a_stream_ends_when_kafka_cannot_be_read_and_goes_on_later() {
    let service = Service::streaming().await;
    let mut client = service.open("/stream").await;
    service.publish_event(1, "acme", "a", "{}").await;
    service.tail.read_faults.fail(1, ErrorClass::Transient);
    while client.more().await {}
    let mut again = service.open_as("sample-key", "/stream", &last_id(&client.text)).await.unwrap();
    let missed = 1 - seen(&client.text).len();
    assert_eq!(ids(again.read(missed).await).len(), missed);
}

#[tokio::test]
async fn streams_are_off_unless_they_are_set() {
    let service = Service::start().await;
    assert_eq!(service.get("/stream").await.problem(), (404, "streams_off"));
    assert_eq!(service.get_as("revoked-key", "/stream").await.problem(), (403, "api_key_revoked"));
    let service = Service::streaming().await;
    assert_eq!(service.get("/stream?last_event_id=5").await.problem(), (400, "bad_parameter"));
    assert_eq!(service.get("/stream?outcome=good").await.problem(), (422, "out_of_bounds"));
    assert_eq!(service.get("/stream?limit=5").await.problem(), (400, "unknown_parameter"));
}

/// The text that a gateway passes on.
async fn polled(service: &Service, trigger: &str) -> String {
    let answer = http_trigger::answer(service.router.clone(), trigger, None).await.unwrap();
    let answer: Value = serde_json::from_str(answer.get()).unwrap();
    assert_eq!(answer["statusCode"], 200, "{answer}");
    answer["body"].as_str().unwrap().to_owned()
}

#[tokio::test(start_paused = true)]
async fn through_a_gateway_a_stream_is_polled() {
    let service = Service::streaming().await;
    let trigger = sample("query", "stream");
    let after_id = |id: &str| trigger.replace("from=earliest&", &format!("last_event_id={id}&"));
    let started = Instant::now();
    let nothing = polled(&service, &trigger).await;
    assert!((10..12).contains(&started.elapsed().as_secs()), "MAX_WAIT_MS: {:?}", started.elapsed());
    assert!(seen(&nothing).is_empty() && !last_id(&nothing).is_empty(), "{nothing}");
    service.publish_event(1, "acme", "a", "{}").await;
    let started = Instant::now();
    let first = polled(&service, &after_id(&last_id(&nothing))).await;
    assert_eq!(ids(&first), ["a"]);
    assert!(started.elapsed() < Duration::from_secs(1), "{:?}", started.elapsed());
    assert_eq!(service.tail.followers(), 0);

    // A load balancer takes 1 MB: what does not fit comes with the next answers, and what never fits without its data.
    let balancer = |id: &str| {
        let trigger: Value = serde_json::from_str(&sample("query", "load-balancer")).unwrap();
        let mut trigger = trigger;
        trigger["path"] = "/stream".into();
        trigger["multiValueQueryStringParameters"] = json!({"last_event_id": [id]});
        trigger["queryStringParameters"] = json!({"last_event_id": id});
        trigger.to_string()
    };
    for (number, bytes) in [(2, 400_000), (3, 400_000), (4, 400_000), (5, 1_200_000), (6, 10)] {
        let json = format!("{{\"text\":\"{}\"}}", "x".repeat(bytes));
        service.publish_event(number, "acme", &format!("event-{number}"), &json).await;
    }
    let (mut id, mut found, mut cut) = (last_id(&first), Vec::new(), Vec::new());
    while found.len() < 5 {
        let text = polled(&service, &balancer(&id)).await;
        assert!(serde_json::to_string(&text).unwrap().len() <= 1_000_000);
        id = last_id(&text);
        cut.extend(
            seen(&text)
                .iter()
                .map(Block::json)
                .filter(|event| event["without_data"] == true)
                .map(|event| event["id"].clone()),
        );
        found.extend(ids(&text));
    }
    found.sort();
    assert_eq!(found, ["event-2", "event-3", "event-4", "event-5", "event-6"]);
    assert_eq!(cut, ["event-5"]);
}
