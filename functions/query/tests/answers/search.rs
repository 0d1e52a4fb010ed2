//! Pages of events, as a client reads them.

use super::*;

impl Service {
    async fn store_clicks(&self, first_offset: i64, ids: &[&str], user_id: &'static str, json: &str) {
        for (offset, id) in (first_offset..).zip(ids) {
            let received_at = after(offset.unsigned_abs());
            let sample = event(&TenantId::new("acme").unwrap(), id, json, received_at);
            let event = Event { user_id: Some(user_id.into()), ..sample };
            let risk = RiskScore { score: 7, reasons: vec!["new-user".into()], rules_version: "1".into() };
            self.record(offset, stored(position(offset), event, valid(Some(risk)))).await;
        }
    }
}

const HOUR: &str = "from=2026-11-20T18:00:00Z&to=2026-11-20T19:00:00Z";

#[tokio::test]
async fn a_page_of_events() {
    let service = Service::start().await;
    service.store_clicks(0, &["first", "second", "third"], "u-1", r#"{"campaign_id":"camp456"}"#).await;
    service.store_clicks(10, &["other"], "u-2", r#"{"campaign_id":"other"}"#).await;
    let path = format!("/events?campaign_id=camp456&user_id=u-1&status=valid&type=click&limit=2&{HOUR}");
    let page = service.get(&path).await;
    insta::assert_snapshot!("search", shown(&page));
    let next = page.body["next"].as_str().unwrap();
    let last = service.get(&format!("{path}&next={next}")).await;
    insta::assert_snapshot!("search_last", shown(&last));
    let nobody = service.get("/events/?user_id=nobody&hours=2").await;
    insta::assert_snapshot!("search_nothing", shown(&nobody));
}

#[tokio::test]
async fn a_sample_finds_the_events_of_a_campaign() {
    let service = Service::start().await;
    service.store_clicks(0, &["first"], "u-1", r#"{"campaign_id":"camp456"}"#).await;
    let answer = service.invoke("campaign-events").await;
    assert_eq!((answer.status, &answer.body["events"][0]["id"]), (StatusCode::OK, &json!("first")));
    service.store_clicks(1, &["second"], "u-1", r#"{"campaign_id":"other"}"#).await;
    assert_eq!(service.invoke("campaign-events").await.body["events"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn pages_lead_from_one_to_the_next_while_time_goes_on() {
    let service = Service::start().await;
    let ids: Vec<String> = (0..10).map(|number| format!("id-{number}")).collect();
    let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
    service.store_clicks(0, &ids, "u-1", "{}").await;
    let mut path = "/events?limit=3".to_owned();
    let mut found = Vec::new();
    loop {
        let page = service.get(&path).await;
        let events = page.body["events"].as_array().unwrap();
        found.extend(events.iter().map(|event| event["id"].as_str().unwrap().to_owned()));
        // Only the place is sent, and the range comes with it.
        let Some(next) = page.body["next"].as_str() else { break };
        path = format!("/events?limit=3&next={next}");
    }
    assert_eq!(found, ids.iter().rev().copied().collect::<Vec<_>>());
}

#[tokio::test]
async fn problems_of_searches() {
    let service = Service::start().await;
    for (name, path) in [
        ("problem_search_parameter", "/events?campaign=camp456"),
        ("problem_search_status", "/events?status=duplicate"),
        ("problem_search_twice", "/events?user_id=a&user_id=b"),
        ("problem_search_limit", "/events?limit=1000"),
        ("problem_search_next", "/events?next=x"),
        ("problem_search_range", "/events?from=2026-01-01T00:00:00Z&to=2026-12-01T00:00:00Z"),
    ] {
        insta::assert_snapshot!(name, shown(&service.get(path).await));
    }
    service.search.give_up();
    insta::assert_snapshot!("problem_search_too_wide", shown(&service.get("/events").await));
    service.search.faults.fail(1, ErrorClass::Transient);
    let answer = service.get("/events").await;
    assert_eq!(answer.problem(), (503, "history_unavailable"));
}
