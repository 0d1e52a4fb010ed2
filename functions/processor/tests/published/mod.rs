//! What goes out for a record, whole: one snapshot for each way in which a record can end. `INSTA_UPDATE=always cargo
//! test -p processor` writes them anew; look at the difference before you commit it.

use std::fmt::{self, Write as _};

use pipeline::dead_letter::DeadLetter;
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};

use super::*;

/// The members of a JSON object in their order, and their values as they were written.
struct Members<'a>(Vec<(String, &'a RawValue)>);

impl<'de: 'a, 'a> Deserialize<'de> for Members<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct InOrder;
        impl<'de> Visitor<'de> for InOrder {
            type Value = Members<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members<'de>, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(InOrder)
    }
}

fn text(bytes: Option<&[u8]>) -> String {
    match bytes {
        None => "(none)".to_owned(),
        Some(b"") => "(empty)".to_owned(),
        Some(bytes) => {
            String::from_utf8(bytes.to_vec()).unwrap_or_else(|_| format!("(not UTF-8) {}", bytes.escape_ascii()))
        }
    }
}

fn key_and_headers(record: &Record) -> String {
    let mut shown = format!("topic: {}\nkey: {}\nheaders:\n", record.position.topic, text(record.key.as_deref()));
    for header in &record.headers.0 {
        writeln!(shown, "  {}: {}", header.name, text(header.value.as_deref())).unwrap();
    }
    shown
}

/// The value of an outcome has a line for each member. That hides nothing: it has no white space between them.
fn shown_outcome(record: &Record) -> String {
    let mut shown = key_and_headers(record) + "value:\n";
    let value = record.value.as_deref().unwrap();
    let members = serde_json::from_slice::<Members<'_>>(value).unwrap().0;
    let written: Vec<String> = members.iter().map(|(name, value)| format!("{name:?}:{value}")).collect();
    assert_eq!(format!("{{{}}}", written.join(",")).as_bytes(), value);
    for (name, value) in members {
        writeln!(shown, "  {name}: {value}").unwrap();
    }
    shown
}

fn shown_letter(record: &Record) -> String {
    format!("{}value: {}\n", key_and_headers(record), text(record.value.as_deref()))
}

/// Compares what went out for each record with its snapshot. `names` are `(position, name of the snapshot)` of all
/// records of this world, in the order of their positions.
fn assert_published(world: &World, names: &[(&str, &str)]) {
    let outcomes = world.published(topic::PROCESSED_EVENTS, "outcome_id");
    let mut letters = world.published(topic::DEAD_LETTER_EVENTS, "");
    let positions: Vec<&str> = names.iter().map(|(position, _)| *position).collect();
    assert_eq!(outcomes.keys().collect::<Vec<_>>(), positions);
    for ((position, name), outcome) in names.iter().zip(outcomes.values()) {
        let mut shown = shown_outcome(outcome);
        let origin = position_of_origin(outcome);
        if let Some(letter) = letters.remove(&origin) {
            assert_eq!(outcome.headers.get(header::OUTCOME), Some(&b"dead_lettered"[..]), "{position}");
            shown = format!("{shown}\n{}", shown_letter(&letter));
        }
        insta::assert_snapshot!(*name, shown);
    }
    assert!(letters.is_empty(), "letters of no outcome: {letters:?}");
}

/// A trigger event of partition 0 with these records, from offset 0.
fn trigger(records: &[Value]) -> String {
    json!({"eventSource": "aws:kafka", "records": {"raw-events-0": records}}).to_string()
}

#[tokio::test(start_paused = true)]
async fn stored_events() {
    let world = World::new();
    invoke(&world.app(), &sample("processor", "valid-batch")).await.unwrap();
    assert_published(
        &world,
        &[
            ("sample-events/0/100", "valid"),
            ("sample-events/0/101", "fraud"),
            ("sample-events/1/7", "valid_sensor_over_ipv6"),
            ("sample-events/1/8", "valid_click"),
            ("sample-events/2/0", "valid_from_another_producer"),
        ],
    );
}

#[tokio::test(start_paused = true)]
async fn events_stored_without_the_scorer() {
    let world = World::new();
    world.scorer.faults.fail(3, ErrorClass::Transient);
    invoke(&world.app(), &batch(&[(0, 0, "a", "10.0.0.1")])).await.unwrap();
    assert_published(&world, &[("raw-events/0/0", "valid_unscored")]);
}

#[tokio::test(start_paused = true)]
async fn duplicates() {
    let world = World::new();
    invoke(&world.app(), &sample("processor", "duplicates")).await.unwrap();
    assert_published(
        &world,
        &[
            ("sample-events/0/200", "valid_first_copy"),
            ("sample-events/0/201", "duplicate_copy_in_batch"),
            ("sample-events/0/202", "duplicate_payload_differs"),
            ("sample-events/0/203", "valid_same_id_of_another_tenant"),
            ("sample-events/1/300", "valid_redriven_copy"),
            ("sample-events/1/301", "duplicate_of_a_redriven_copy"),
        ],
    );

    let world = World::new();
    invoke(&world.app(), &batch(&[(0, 0, "a", "192.0.2.1")])).await.unwrap();
    invoke(&world.app(), &batch(&[(0, 1, "a", "192.0.2.1")])).await.unwrap();
    // Without its claims, as after the loss of their table, the store finds the copy.
    let world = World { claims: Arc::new(FakeClaims::new(DAY)), ..world };
    invoke(&world.app(), &batch(&[(0, 2, "a", "192.0.2.1")])).await.unwrap();
    assert_published(
        &world,
        &[
            ("raw-events/0/0", "valid_before_its_duplicates"),
            ("raw-events/0/1", "duplicate_already_claimed"),
            ("raw-events/0/2", "duplicate_already_stored"),
        ],
    );
}

#[tokio::test(start_paused = true)]
async fn blocked_events() {
    let world = World::new();
    let mut policy = policy();
    policy.limits.per_minute = NonZeroU32::new(1);
    let app = world.app_with(policy, world.store.clone());
    invoke(&app, &batch(&[(0, 0, "a", "192.0.2.1"), (0, 1, "b", "192.0.2.1")])).await.unwrap();
    invoke(&app, &batch(&[(0, 2, "c", "192.0.2.1")])).await.unwrap();
    assert_published(
        &world,
        &[
            ("raw-events/0/0", "valid_within_the_limit"),
            ("raw-events/0/1", "blocked_address_rate"),
            ("raw-events/0/2", "blocked_address_blocked"),
        ],
    );
}

#[tokio::test(start_paused = true)]
async fn dead_letters_of_the_samples() {
    let world = World::new();
    invoke(&world.app(), &sample("processor", "bad-records")).await.unwrap();
    assert_published(
        &world,
        &[
            ("sample-events/0/400", "dead_lettered_undecodable"),
            ("sample-events/0/401", "dead_lettered_malformed_json"),
            ("sample-events/0/402", "dead_lettered_empty_value"),
            ("sample-events/0/403", "dead_lettered_tombstone"),
            ("sample-events/0/404", "dead_lettered_unknown_envelope_version"),
            ("sample-events/0/405", "dead_lettered_unknown_type"),
            ("sample-events/0/406", "dead_lettered_schema_violation"),
            ("sample-events/0/407", "valid_among_bad_records"),
        ],
    );
}

/// The reasons that no sample has.
#[tokio::test(start_paused = true)]
async fn dead_letters_of_other_reasons() {
    let world = World::new();
    let values: [(&str, &[u8]); 4] = [
        ("acme/a", br#"{"envelope":1,"id":"a"}"#),
        ("acme/b", b"[1, 2]"),
        (
            "acme/c",
            br#"{"envelope":1,"id":"c","id_source":"client","type":"click","schema":9,"tenant":"acme","received_at":"2026-11-20T18:02:00.000Z","ip":"203.0.113.7","data":{"type":"click"}}"#,
        ),
        ("acme/d", b"{\"type\":\"\xff\"}"),
    ];
    let records = values.iter().zip(0..).map(|((key, value), offset)| {
        let headers = [Header::new(header::TRACEPARENT, "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")];
        delivered(0, offset, Some(key.as_bytes()), Some(value), &headers)
    });
    invoke(&world.app(), &trigger(&records.collect::<Vec<_>>())).await.unwrap();
    assert_published(
        &world,
        &[
            ("raw-events/0/0", "dead_lettered_malformed_envelope"),
            ("raw-events/0/1", "dead_lettered_not_an_object"),
            ("raw-events/0/2", "dead_lettered_unknown_schema_version"),
            ("raw-events/0/3", "dead_lettered_malformed_json_of_odd_bytes"),
        ],
    );
}

#[tokio::test(start_paused = true)]
async fn a_letter_that_the_store_caused_and_its_redriven_copies() {
    let refusing = |world: &World| {
        let picky = Picky { inner: world.store.clone(), refuses: "a", refuses_everything: false };
        world.app_with(policy(), Arc::new(picky))
    };
    let world = World::new();
    invoke(&refusing(&world), &batch(&[(0, 0, "a", "192.0.2.1")])).await.unwrap();
    assert_published(&world, &[("raw-events/0/0", "dead_lettered_store_refused")]);

    let letter = world.publisher.records(topic::DEAD_LETTER_EVENTS).remove(0);
    let copy = DeadLetter::read(letter).unwrap().redriven();
    let copy = trigger(&[delivered(0, 7, copy.key.as_deref(), copy.value.as_deref(), &copy.headers)]);
    let again = World::new();
    invoke(&refusing(&again), &copy).await.unwrap();
    assert_published(&again, &[("raw-events/0/7", "dead_lettered_again_after_a_redrive")]);
    let cured = World::new();
    invoke(&cured.app(), &copy).await.unwrap();
    assert_published(&cured, &[("raw-events/0/7", "valid_after_a_redrive")]);
}
