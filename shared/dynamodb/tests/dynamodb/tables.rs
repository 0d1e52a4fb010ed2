//! Tests of the tables and their TTL, and of a start while the service is down.

use std::sync::Arc;
use std::time::Duration;

use dynamodb::{DynamoClaims, DynamoDb, tables};
use event::Timestamp;
use pipeline::ports::{ClaimStore, ClaimVerdict};
use services::dynamodb::EmbeddedDynamoDb;

use crate::support::{ACCESS, DEDUP, claims, config, start};

#[tokio::test]
async fn making_them_again_or_together_changes_nothing() {
    let service = start().await;
    let ensure = || tables::ensure(&service.dynamodb, "dedup-2", "access-2");
    let (a, b, c) = tokio::join!(ensure(), ensure(), ensure());
    for result in [a, b, c, tables::ensure(&service.dynamodb, DEDUP, ACCESS).await] {
        result.unwrap();
    }
    let client = aws_sdk_dynamodb::Client::new(&service.config);
    for table in [DEDUP, ACCESS, "dedup-2", "access-2"] {
        let answer = client.describe_time_to_live().table_name(table).send().await.unwrap();
        let ttl = answer.time_to_live_description.unwrap();
        assert_eq!(ttl.time_to_live_status.unwrap().as_str(), "ENABLED", "{table}");
        assert_eq!(ttl.attribute_name.unwrap(), "expires_at", "{table}");
    }
}

#[tokio::test]
async fn a_service_that_is_down_does_not_stop_the_start() {
    let service = start().await;
    let nobody = service.config.to_builder().endpoint_url("http://127.0.0.1:1").build();
    let dynamodb = DynamoDb::connect(&nobody).await;
    let error = tables::ensure(&dynamodb, DEDUP, ACCESS).await.unwrap_err();
    assert_eq!(error.tag(), "unreachable");
}

#[tokio::test]
async fn a_database_in_a_file_is_there_again_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let claim = claims(1, 0);
    for verdict in [ClaimVerdict::New, ClaimVerdict::Own] {
        let server = EmbeddedDynamoDb::start(None, Some(folder.path().join("dynamodb.sqlite"))).await.unwrap();
        let dynamodb = DynamoDb::connect(&config(&server.endpoint(), Arc::default())).await;
        tables::ensure(&dynamodb, DEDUP, ACCESS).await.unwrap();
        let store = DynamoClaims::new(&dynamodb, DEDUP, Duration::from_secs(60));
        assert_eq!(store.claim(&claim, Timestamp::EPOCH).await.unwrap(), [verdict]);
    }
}

#[tokio::test]
async fn a_taken_port_is_told() {
    let server = EmbeddedDynamoDb::start(None, None).await.unwrap();
    let port = server.endpoint().rsplit(':').next().unwrap().parse().unwrap();
    let error = EmbeddedDynamoDb::start(Some(port), None).await.unwrap_err();
    assert!(error.to_string().contains(&port.to_string()), "{error}");
    drop(server);
    EmbeddedDynamoDb::start(Some(port), None).await.expect("the port is free again");
}
