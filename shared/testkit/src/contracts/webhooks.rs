//! The contracts of every [`WebhookEndpoints`] and every [`WebhookDeliveries`].
#![expect(clippy::expect_used, reason = "a contract suite fails by panicking")]

use std::collections::BTreeSet;

use event::{TenantId, Timestamp};
use pipeline::Outcome;
use webhooks::{
    EndpointId, Failure, MAX_ENDPOINTS, WebhookDeliveries, WebhookDelivery, WebhookEndpoint, WebhookEndpoints,
};

use super::{answer, random, unique};

/// An endpoint of a tenant that nobody else has.
pub fn endpoint(tenant: &TenantId) -> WebhookEndpoint {
    let mut bytes = [0; EndpointId::BYTES];
    for (to, from) in bytes.iter_mut().zip(random().to_be_bytes().into_iter().chain(random().to_be_bytes())) {
        *to = from;
    }
    WebhookEndpoint {
        id: EndpointId::of(bytes),
        tenant: tenant.clone(),
        target: "https://hooks.example.com/in?token=1".parse().expect("a URL"),
        outcomes: BTreeSet::from([Outcome::Fraud, Outcome::DeadLettered]),
        event_types: BTreeSet::from(["click".to_owned(), "transaction".to_owned()]),
        secret_version: 1,
        previous_until: None,
        paused: None,
        created_at: Timestamp::from_millis(1_763_661_600_123),
    }
}

fn tenant() -> TenantId {
    TenantId::new(&unique("hooks")).expect("a tenant")
}

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_millis(1_763_661_600_000 + seconds * 1_000)
}

fn delivery(endpoint: &WebhookEndpoint, message: &str) -> WebhookDelivery {
    let body = format!("{{\"about\":\"{message}\"}}").into();
    WebhookDelivery { endpoint: endpoint.id.clone(), message_id: message.to_owned(), body }
}

fn failed(endpoint: &WebhookEndpoint, message: &str, attempts: u32, due_at: Option<i64>) -> (WebhookDelivery, Failure) {
    let failure = Failure { attempts, error: format!("status 500\u{0} {attempts}"), due_at: due_at.map(at) };
    (delivery(endpoint, message), failure)
}

/// Runs both suites. There are no other endpoints or deliveries in the store.
pub async fn webhooks_contract<S: WebhookEndpoints + WebhookDeliveries>(store: &S) {
    endpoints_are_written_and_read(store).await;
    due_deliveries_are_taken_once(store).await;
    deliveries_are_settled(store).await;
    dead_deliveries_are_kept_revived_and_forgotten(store).await;
}

async fn endpoints_are_written_and_read<S: WebhookEndpoints + WebhookDeliveries>(store: &S) {
    let (tenant, other) = (tenant(), tenant());
    let first = endpoint(&tenant);
    assert_eq!(answer(store.get(&first.id).await), None);
    assert!(answer(store.put(&first).await));
    assert!(answer(store.put(&first).await), "a call may be repeated");
    assert_eq!(answer(store.get(&first.id).await), Some(first.clone()));
    assert!(answer(store.put(&endpoint(&other)).await));
    assert_eq!(answer(store.list(Some(&tenant)).await), std::slice::from_ref(&first), "tenants see their own");
    assert!(answer(store.list(None).await).len() >= 2);

    let changed =
        WebhookEndpoint { secret_version: 2, previous_until: Some(at(9)), event_types: BTreeSet::new(), ..first };
    assert!(answer(store.put(&changed).await));
    assert_eq!(answer(store.get(&changed.id).await), Some(changed.clone()));
    answer(store.pause(&changed.id, "it is gone").await);
    answer(store.pause(&changed.id, "again").await);
    let paused = answer(store.get(&changed.id).await).and_then(|endpoint| endpoint.paused);
    assert_eq!(paused.as_deref(), Some("it is gone"), "the first reason stays");
    answer(store.pause(&EndpointId::of([7; EndpointId::BYTES]), "no such endpoint").await);

    for _ in 1..MAX_ENDPOINTS {
        assert!(answer(store.put(&endpoint(&tenant)).await));
    }
    assert!(!answer(store.put(&endpoint(&tenant)).await), "a tenant has at most {MAX_ENDPOINTS}");
    assert!(answer(store.put(&changed).await), "one that is there can still be changed");
    assert!(answer(store.delete(&changed.id).await));
    assert!(!answer(store.delete(&changed.id).await));
    for endpoint in answer(store.list(None).await) {
        answer(store.delete(&endpoint.id).await);
    }
}

async fn due_deliveries_are_taken_once<S: WebhookEndpoints + WebhookDeliveries>(store: &S) {
    let (busy, calm, paused) = (endpoint(&tenant()), endpoint(&tenant()), endpoint(&tenant()));
    let gone = endpoint(&tenant());
    for endpoint in [&busy, &calm, &paused] {
        answer(store.put(endpoint).await);
    }
    let mut kept: Vec<_> = (1..=5).map(|n| failed(&busy, &format!("b{n}"), 1, Some(n))).collect();
    kept.extend([
        failed(&calm, "c", 2, Some(4)),
        failed(&calm, "later", 1, Some(60)),
        failed(&paused, "p", 1, Some(0)),
    ]);
    kept.push(failed(&gone, "g", 1, Some(0)));
    answer(store.keep(&kept, at(0)).await);
    let again = failed(&busy, "b1", 9, Some(900));
    answer(store.keep(&[again], at(0)).await);
    answer(store.pause(&paused.id, "by hand").await);

    let backlog = answer(store.backlog().await);
    let mut expected = vec![(busy.id.clone(), 5), (calm.id.clone(), 2), (paused.id.clone(), 1)];
    expected.sort();
    assert_eq!(backlog.waiting, expected, "what is for no endpoint is left out");
    assert_eq!(backlog.first_due, Some(at(1)), "what is paused is not overdue");

    let messages = |due: &[webhooks::DueDelivery]| -> Vec<String> {
        due.iter().map(|due| due.delivery.message_id.clone()).collect()
    };
    assert_eq!(answer(store.take(at(0), at(100), 9, 9).await), [], "nothing is due yet");
    let taken = answer(store.take(at(10), at(100), 3, 9).await);
    assert_eq!(messages(&taken), ["b1", "b2", "b3", "c"], "a share of each endpoint, the longest due first");
    assert_eq!(taken[0].delivery, delivery(&busy, "b1"));
    assert_eq!((taken[0].attempts, taken[0].due_at), (1, at(1)), "what is kept first stays");
    assert_eq!(messages(&answer(store.take(at(10), at(100), 9, 1).await)), ["b4"], "the limit is for all together");
    assert_eq!(
        messages(&answer(store.take(at(99), at(200), 9, 9).await)),
        ["b5", "later"],
        "what is taken is not taken again"
    );
    assert_eq!(
        messages(&answer(store.take(at(100), at(200), 1, 9).await)).len(),
        2,
        "unless it was not settled in time"
    );

    for endpoint in [&busy, &calm, &paused] {
        answer(store.delete(&endpoint.id).await);
    }
    assert_eq!(answer(store.backlog().await).waiting, [], "deliveries go with their endpoint");
}

async fn deliveries_are_settled<S: WebhookEndpoints + WebhookDeliveries>(store: &S) {
    let one = endpoint(&tenant());
    answer(store.put(&one).await);
    answer(
        store
            .keep(&[failed(&one, "x", 1, Some(1)), failed(&one, "y", 1, Some(1)), failed(&one, "z", 1, Some(1))], at(0))
            .await,
    );
    let settle = async || {
        let failures = [failed(&one, "y", 2, Some(50)), failed(&one, "z", 10, None), failed(&one, "unknown", 1, None)];
        answer(store.settle(&[delivery(&one, "x"), delivery(&one, "unknown")], &failures, at(7)).await);
    };
    settle().await;
    settle().await;
    let due = answer(store.take(at(1_000), at(2_000), 9, 9).await);
    assert_eq!(
        due.iter().map(|due| (&*due.delivery.message_id, due.attempts, due.due_at)).collect::<Vec<_>>(),
        [("y", 2, at(50))]
    );
    answer(store.settle(&[], &[], at(7)).await);
    answer(store.delete(&one.id).await);
}

async fn dead_deliveries_are_kept_revived_and_forgotten<S: WebhookEndpoints + WebhookDeliveries>(store: &S) {
    let (one, other) = (endpoint(&tenant()), endpoint(&tenant()));
    answer(store.put(&one).await);
    answer(store.put(&other).await);
    for (seconds, message) in [(1, "old"), (3, "new"), (2, "middle")] {
        answer(store.keep(&[failed(&one, message, 10, None)], at(seconds)).await);
    }
    answer(store.keep(&[failed(&other, "other", 10, None)], at(1)).await);
    assert_eq!(answer(store.take(at(9_000), at(9_001), 9, 9).await), [], "what is dead is not due");
    let dead = answer(store.dead(&one.id, 2).await);
    assert_eq!(
        dead.iter().map(|dead| (&*dead.message_id, dead.failed_at)).collect::<Vec<_>>(),
        [("new", at(3)), ("middle", at(2))]
    );
    assert_eq!((dead[0].attempts, dead[0].body_bytes), (10, delivery(&one, "new").body.len() as u64));
    assert!(dead[0].error.starts_with("status 500"), "{}", dead[0].error);

    assert_eq!(answer(store.revive(&one.id, Some("other"), at(5)).await), 0);
    assert_eq!(answer(store.revive(&one.id, Some("new"), at(5)).await), 1);
    let due = answer(store.take(at(5), at(6), 9, 9).await);
    assert_eq!(due.iter().map(|due| (&*due.delivery.message_id, due.attempts)).collect::<Vec<_>>(), [("new", 0)]);
    assert_eq!(due[0].delivery, delivery(&one, "new"), "what is sent again is what was sent before");
    assert_eq!(answer(store.forget(at(2)).await), 2, "of all endpoints");
    assert_eq!(answer(store.revive(&one.id, None, at(5)).await), 1);
    for endpoint in [&one, &other] {
        answer(store.delete(&endpoint.id).await);
    }
}
