//! Measures how fast claims are, in batches of PartiQL and with one `PutItem` each. Run it with
//! `cargo test -p dynamodb --release --test dynamodb -- --ignored --nocapture rate`.

use std::time::{Duration, Instant};

use aws_sdk_dynamodb::types::AttributeValue;
use dynamodb::DynamoClaims;
use event::Timestamp;
use futures::stream::{self, StreamExt, TryStreamExt};
use pipeline::ports::{Claim, ClaimStore, ClaimVerdict};

use crate::support::{DEDUP, Service, claims, start};

const CLAIMS: i64 = 20_000;
const CLAIMS_PER_CALL: usize = 1_000;
const CONCURRENT_PUTS: usize = 64;
const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_000);

#[tokio::test(flavor = "multi_thread")]
#[ignore = "a measurement: it takes seconds and asserts no rate"]
async fn rate_of_batches_and_of_single_puts() {
    let service = start().await;
    let store = DynamoClaims::new(&service.dynamodb, DEDUP, Duration::from_secs(60));
    let claims = claims(CLAIMS, 0);
    let mut seconds = Vec::new();
    for expected in [ClaimVerdict::New, ClaimVerdict::Own] {
        let begin = Instant::now();
        for call in claims.chunks(CLAIMS_PER_CALL) {
            assert!(store.claim(call, NOW).await.unwrap().iter().all(|verdict| *verdict == expected));
        }
        seconds.push(begin.elapsed().as_secs_f64());
    }
    seconds.push(single_puts(&start().await, &claims).await);
    for (what, seconds) in ["new, in batches", "own, in batches and read", "new, one put each"].iter().zip(&seconds) {
        println!("{what}: {:.0} claims/s", CLAIMS as f64 / seconds);
    }
    println!("batches to puts: {:.1}", seconds[2] / seconds[0]);
}

async fn single_puts(service: &Service, claims: &[Claim]) -> f64 {
    let client = aws_sdk_dynamodb::Client::new(&service.config);
    let put = |claim: &Claim| {
        client
            .put_item()
            .table_name(DEDUP)
            .item("pk", AttributeValue::S(claim.key.to_string()))
            .item("owner", AttributeValue::S(claim.origin.to_string()))
            .item("payload_hash", AttributeValue::B(claim.payload_hash.0.to_vec().into()))
            .item("expires_at", AttributeValue::N("1800000060".into()))
            .condition_expression("attribute_not_exists(pk)")
            .send()
    };
    let begin = Instant::now();
    let puts: Vec<_> = claims.iter().map(put).collect();
    stream::iter(puts).buffer_unordered(CONCURRENT_PUTS).try_for_each(|_| std::future::ready(Ok(()))).await.unwrap();
    begin.elapsed().as_secs_f64()
}
