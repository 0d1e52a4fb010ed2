//! Runs the objects contract on its fake, and tests the fake's faults.

use bytes::Bytes;
use pipeline::ErrorClass;
use pipeline::ports::{ObjectStore as _, PutResult};
use testkit::contracts::objects::objects_contract;
use testkit::fakes::objects::FakeObjects;

#[tokio::test]
async fn the_fake_keeps_the_contract() {
    objects_contract(&FakeObjects::default(), "contract/").await;
}

#[tokio::test]
async fn a_lost_answer_is_already_there_when_repeated_and_a_failure_leaves_nothing() {
    let store = FakeObjects::default();
    let put = async || store.put_new("key", Bytes::from_static(b"body")).await;

    store.faults.fail(1, ErrorClass::Overload);
    assert_eq!(put().await.unwrap_err().class, ErrorClass::Overload);
    assert_eq!(store.keys(), Vec::<String>::new());

    store.faults.lose_answer(1, ErrorClass::Transient);
    assert_eq!(put().await.unwrap_err().class, ErrorClass::Transient);
    assert_eq!(put().await.unwrap(), PutResult::AlreadyThere);
    assert_eq!(store.puts(), 3);
}

#[tokio::test]
async fn refused_keys_fail_until_accepted() {
    let store = FakeObjects::default();
    store.refuse("hour=05");
    assert!(store.put_new("raw/hour=05/a", Bytes::new()).await.is_err());
    assert_eq!(store.put_new("raw/hour=06/a", Bytes::new()).await.unwrap(), PutResult::Created);
    store.accept_all();
    assert_eq!(store.put_new("raw/hour=05/a", Bytes::new()).await.unwrap(), PutResult::Created);
}
