//! The contract of the reader without a group.

use std::collections::BTreeMap;

use pipeline::ports::TopicSource;
use services::kafka::EmbeddedKafka;
use testkit::contracts::publisher::Broker;
use testkit::contracts::redrive::topic_source_contract;

use crate::cluster::{Cluster, unique};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_reader_keeps_the_contract() {
    let broker = EmbeddedKafka::start().await.unwrap();
    for cluster in &Cluster::all(&broker).await {
        topic_source_contract(cluster, &cluster.client).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_missing_topic_and_a_lost_broker_are_transient() {
    let broker = EmbeddedKafka::start().await.unwrap();
    let cluster = Cluster::at(broker.brokers()).await;
    let missing = cluster.client.open(unique(), &BTreeMap::new()).await;
    assert!(missing.is_err_and(|error| error.is_retryable()));

    let topic = cluster.new_topic(1).await;
    drop(broker);
    let away = cluster.client.open(topic, &BTreeMap::new()).await;
    assert!(away.is_err_and(|error| error.is_retryable()));
}
