//! The contract of every [`Scorer`].
#![expect(clippy::panic, clippy::expect_used, reason = "a contract suite fails by panicking")]

use std::net::IpAddr;

use event::EventId;
use pipeline::ports::{Score, ScoreRequest, Scorer};

fn request(id: &str, ip: Option<&str>) -> ScoreRequest {
    ScoreRequest {
        event_id: EventId::new(id).expect("a valid id"),
        ip: ip.map(|ip| ip.parse::<IpAddr>().expect("a valid address")),
        user_id: Some("u-1".to_owned()),
    }
}

async fn scores(scorer: &dyn Scorer, requests: &[ScoreRequest]) -> Vec<Score> {
    match scorer.score(requests).await {
        Ok(scores) => scores,
        Err(error) => panic!("scoring {} events: {error}", requests.len()),
    }
}

/// Runs the whole suite.
///
/// # Panics
/// On the first promise that is not kept.
pub async fn suite(scorer: &dyn Scorer) {
    assert!(scores(scorer, &[]).await.is_empty(), "no requests, no scores");
    private_range(scorer).await;
    order_and_repeatability(scorer).await;
}

async fn private_range(scorer: &dyn Scorer) {
    let requests = [
        request("inside", Some("10.0.0.1")),
        request("mapped", Some("::ffff:10.0.0.1")),
        request("outside", Some("203.0.113.10")),
        request("v6", Some("2001:db8::10")),
        request("none", None),
    ];
    let answered: Vec<(String, u8)> = scores(scorer, &requests)
        .await
        .into_iter()
        .map(|score| {
            assert_eq!(
                score.reasons.iter().any(|reason| reason == "private-range"),
                score.risk_score == 100,
                "the private range is named exactly if it matched: {score:?}"
            );
            assert!(!score.rules_version.is_empty(), "every score names the version of its rules");
            (score.event_id.to_string(), score.risk_score)
        })
        .collect();
    let expected = [("inside", 100), ("mapped", 100), ("outside", 0), ("v6", 0), ("none", 0)];
    assert_eq!(answered, expected.map(|(id, score)| (id.to_owned(), score)));
}

/// More requests than any adapter sends in one call, with an id that occurs twice.
async fn order_and_repeatability(scorer: &dyn Scorer) {
    let requests: Vec<ScoreRequest> = (0..2_500)
        .map(|n| request(&format!("e-{}", n % 2_499), Some(if n % 7 == 0 { "10.1.1.1" } else { "198.51.100.1" })))
        .collect();
    let first = scores(scorer, &requests).await;
    assert_eq!(first.len(), requests.len());
    for (score, request) in first.iter().zip(&requests) {
        assert_eq!(score.event_id, request.event_id, "answers are in the order of the requests");
        let expected = if request.ip == requests[0].ip { 100 } else { 0 };
        assert_eq!(score.risk_score, expected);
    }
    assert_eq!(scores(scorer, &requests).await, first, "the same request gets the same score");
}
