//! Tests of redrive marks on the embedded DynamoDB: the contract, and failing requests.

use dynamodb::DynamoRedriveMarks;
use event::{Origin, Timestamp};
use pipeline::ports::{BeginVerdict, LetterId, LetterStep, MarkKey, RedriveMarks};
use testkit::contracts::redrive::redrive_marks_contract;

use crate::support::{ACCESS, Fault, start};

const NOW: Timestamp = Timestamp::from_millis(1_000);
const LATER: Timestamp = Timestamp::from_millis(2_000);

fn keys(count: i64) -> Vec<MarkKey> {
    let key = |offset| MarkKey {
        letter: LetterId { origin: Origin::new("raw-events", 0, offset), attempt: 0 },
        step: LetterStep::Send,
    };
    (0..count).map(key).collect()
}

#[tokio::test]
async fn the_contract_holds() {
    let service = start().await;
    redrive_marks_contract(&DynamoRedriveMarks::new(&service.dynamodb, ACCESS)).await;
}

#[tokio::test]
async fn a_step_whose_answer_is_lost_is_the_runs_own() {
    let service = start().await;
    let store = DynamoRedriveMarks::new(&service.dynamodb, ACCESS);
    service.network.disturb("PutItem", 3, Fault::LoseAnswer);
    let verdicts = store.begin(&keys(3), "a", NOW, LATER).await.unwrap();
    assert_eq!(verdicts, vec![BeginVerdict::Ours; 3]);
    assert_eq!(service.network.requests("PutItem"), 6);
}

#[tokio::test]
async fn throttling_and_keys_put_off_are_waited_out() {
    let service = start().await;
    let store = DynamoRedriveMarks::new(&service.dynamodb, ACCESS);
    service.network.disturb("PutItem", 2, Fault::Throttle);
    let done: Vec<_> = keys(5).into_iter().map(|key| (key, None)).collect();
    store.finish(&done, "a", NOW).await.unwrap();
    service.network.disturb("BatchGetItem", 2, Fault::LeaveUnprocessed);
    let found = store.find(&keys(6)).await.unwrap();
    assert_eq!(found.iter().filter(|mark| mark.is_some()).count(), 5);
    service.network.disturb("BatchGetItem", 100, Fault::Throttle);
    assert_eq!(store.find(&keys(1)).await.unwrap_err().tag, "throttled");
}

#[tokio::test]
async fn marks_are_kept_for_ninety_days() {
    let service = start().await;
    let store = DynamoRedriveMarks::new(&service.dynamodb, ACCESS);
    store.begin(&keys(1), "a", NOW, LATER).await.unwrap();
    let client = aws_sdk_dynamodb::Client::new(&service.config);
    let items = client.scan().table_name(ACCESS).send().await.unwrap().items.unwrap();
    assert_eq!(items[0]["pk"].as_s().unwrap(), "redrive#raw-events/0/0");
    assert_eq!(items[0]["expires_at"].as_n().unwrap(), &(1 + 90 * 86_400).to_string());
}
