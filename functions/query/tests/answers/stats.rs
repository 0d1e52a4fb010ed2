//! Statistics, as a client reads them.

use event::AddressKey;
use statistics::{Cells, Change, Fact, RecordStatus};

use super::*;

/// Records of the campaign `camp456` and others, from an hour before `RECEIVED_AT` on.
fn cells(tenant: &str) -> Cells {
    let mut cells = Cells::default();
    let mut add = |event_type, minute: i64, subject, fields, status| {
        let received_at = Timestamp::from_millis(after(0).as_millis() - 3_600_000 + minute * 60_000);
        let change = Change::Recorded(status);
        let address = Some(AddressKey::of([203, 0, 113, subject as u8].into()));
        let subject = Some(subject);
        cells.add(&Fact { tenant, event_type, received_at, subject, fields: Some(fields), address, change });
    };
    let german = r#"{"campaign_id":"camp456","geo_country":"DE","device_type":"mobile"}"#;
    let french = r#"{"campaign_id":"camp456","geo_country":"FR","device_type":"desktop"}"#;
    for subject in 0..6 {
        add("impression", 0, subject, german, RecordStatus::Valid);
    }
    add("impression", 70, 6, french, RecordStatus::Valid);
    add("click", 5, 1, german, RecordStatus::Valid);
    add("click", 75, 6, french, RecordStatus::Fraud);
    add("click", 75, 6, french, RecordStatus::Duplicate);
    add("click", 76, 7, r#"{"campaign_id":"camp456","geo_country":"DE"}"#, RecordStatus::Blocked);
    add("click", 80, 8, r#"{"campaign_id":"other","geo_country":"FR"}"#, RecordStatus::Unscored);
    add("transaction", 10, 1, r#"{"currency":"EUR","amount":0.1}"#, RecordStatus::Valid);
    add("transaction", 11, 1, r#"{"currency":"EUR","amount":12345678901234567.2}"#, RecordStatus::Valid);
    add("transaction", 12, 2, r#"{"currency":"EUR"}"#, RecordStatus::DeadLettered);
    cells
}

impl Service {
    async fn with_statistics() -> Self {
        let service = Service::start().await;
        service.statistics.add(&cells("acme"));
        service.statistics.complete_until(after(1800));
        service
    }
}

/// From the hour before `RECEIVED_AT` to the hour after it.
const THREE_HOURS: &str = "from=2026-11-20T17:00:00Z&to=2026-11-20T20:00:00Z";

#[tokio::test]
async fn statistics_of_a_campaign() {
    let service = Service::with_statistics().await;
    let path = format!("/campaigns/camp456/stats?{THREE_HOURS}");
    insta::assert_snapshot!("campaign", shown(&service.get(&path).await));
    let path = format!("/campaigns/none/stats?{THREE_HOURS}&interval=day&timezone=Asia/Kathmandu");
    insta::assert_snapshot!("unknown_campaign", shown(&service.get(&path).await));
}

#[tokio::test]
async fn statistics_of_a_value_and_of_everything() {
    let service = Service::with_statistics().await;
    let everything = format!("/stats?{THREE_HOURS}&interval=day");
    insta::assert_snapshot!("everything", shown(&service.get(&everything).await));
    let value = format!("/stats?dimension=currency&value=EUR&{THREE_HOURS}&timezone=Asia/Kolkata");
    insta::assert_snapshot!("value", shown(&service.get(&value).await));
    let values = format!("/stats?dimension=campaign_id&{THREE_HOURS}");
    insta::assert_snapshot!("values", shown(&service.get(&values).await));
}

#[tokio::test]
async fn the_busiest_addresses_are_for_operators() {
    let service = Service::with_statistics().await;
    insta::assert_snapshot!(
        "addresses",
        shown(&service.get_as("operator-key", "/addresses/top?hours=3&limit=2").await)
    );
    let other = service.get_as("only-operate-key", "/addresses/top?tenant=other").await;
    assert_eq!((other.status, &other.body["addresses"]), (StatusCode::OK, &json!([])));
    for key in ["sample-key", "web-key"] {
        assert_eq!(service.get_as(key, "/addresses/top").await.problem(), (403, "api_key_scope"), "{key}");
    }
    assert_eq!(service.get_as("operator-key", "/addresses/top?hours=169").await.problem(), (422, "out_of_bounds"));
    service.statistics.faults.fail(1, ErrorClass::Transient);
    let answer = service.get_as("operator-key", "/addresses/top").await;
    assert_eq!(answer.problem(), (503, "statistics_unavailable"));
}

#[tokio::test]
async fn problems_of_statistics() {
    let service = Service::with_statistics().await;
    for (name, path) in [
        ("problem_hours", "/campaigns/camp456/stats?hours=0"),
        ("problem_number", "/campaigns/camp456/stats?hours=many"),
        ("problem_campaign", "/campaigns/%ff/stats"),
        ("problem_half_a_range", "/stats?from=2026-11-20T17:00:00Z"),
        ("problem_time", "/stats?from=2026-11-20T17:00:00+01:00&to=2026-11-20T17:00:00Z"),
        ("problem_range", "/stats?from=2026-11-20T17:00:00Z&to=2027-11-20T17:00:00Z"),
        ("problem_dimension", "/stats?dimension=user_id&value=u1"),
        ("problem_timezone", "/stats?timezone=Mars/Base"),
        ("problem_limit", "/stats?dimension=unit&limit=101"),
    ] {
        insta::assert_snapshot!(name, shown(&service.get(path).await));
    }
    for (name, class) in [
        ("problem_statistics_down", ErrorClass::Transient),
        ("problem_statistics_overloaded", ErrorClass::Overload),
        ("problem_statistics_unreadable", ErrorClass::Permanent),
    ] {
        service.statistics.faults.fail(1, class);
        insta::assert_snapshot!(name, shown(&service.get("/stats?dimension=unit").await));
    }
}

#[tokio::test]
async fn the_samples_are_answered() {
    let service = Service::with_statistics().await;
    let answer = service.invoke("campaign-stats").await;
    assert_eq!((answer.status, &answer.body["events"]), (StatusCode::OK, &json!(9)));
    assert_eq!(answer.body["range"]["from"], "2026-11-19T19:00:00.000Z", "a day before now, widened to a quarter");
    assert_eq!(answer.body["range"]["to"], "2026-11-20T19:15:00.000Z");
    assert_eq!(answer.body["series"].as_array().unwrap().len(), 25);
    assert_eq!(service.invoke("stats-too-long").await.problem(), (422, "out_of_bounds"));
}

#[tokio::test]
async fn behind_any_gateway_stage_or_domain_statistics_have_their_path() {
    let service = Service::with_statistics().await;
    for case in HTTP_TRIGGERS {
        let with_path = |path: &str| sample("query", case).replace("events/order-1001", path);
        let campaign = service.invoke_with(&with_path("campaigns/camp456/stats")).await;
        assert_eq!((campaign.status, &campaign.body["events"]), (StatusCode::OK, &json!(9)), "{case}");
        let all = service.invoke_with(&with_path("stats")).await;
        assert_eq!((all.status, &all.body["events"]), (StatusCode::OK, &json!(12)), "{case}");
    }
}

#[tokio::test]
async fn only_the_tenant_sees_its_statistics_and_only_with_a_key_that_may_read() {
    let service = Service::with_statistics().await;
    for path in ["/campaigns/camp456/stats", "/stats", "/stats?dimension=campaign_id"] {
        let other = service.get_as("other-key", path).await;
        let is_empty = other.body["events"] == 0 || other.body["values"] == json!([]);
        assert!(other.status == StatusCode::OK && is_empty, "{path}: {other:?}");
        assert_eq!(service.get_as("web-key", path).await.problem(), (403, "api_key_scope"), "{path}");
        assert_eq!(service.get_as("no-such-key", &format!("{path}?hours=x")).await.problem(), (401, "api_key_unknown"));
    }
    let mut refused = 0;
    for _ in 0..70 {
        refused += u32::from(service.get("/stats").await.status == StatusCode::TOO_MANY_REQUESTS);
    }
    assert!(refused >= 10, "{refused}");
    let post = service.send(Request::post("/stats").body(Body::empty()).unwrap()).await;
    assert_eq!(post.problem(), (405, "method_not_allowed"));
}

#[tokio::test]
async fn a_campaign_may_have_any_name() {
    let service = Service::start().await;
    let mut cells = Cells::default();
    let fields = json!({"campaign_id": "a/b \u{e9}\u{0}?&"}).to_string();
    cells.add(&Fact {
        tenant: "acme",
        event_type: "click",
        received_at: after(0),
        subject: None,
        fields: Some(&fields),
        address: None,
        change: Change::Recorded(RecordStatus::Valid),
    });
    service.statistics.add(&cells);
    let encoded = "a%2Fb%20%C3%A9%00%3F%26";
    for path in [format!("/campaigns/{encoded}/stats"), format!("/stats?dimension=campaign_id&value={encoded}")] {
        let answer = service.get(&path).await;
        assert_eq!((answer.status, &answer.body["events"]), (StatusCode::OK, &json!(1)), "{path}");
    }
}
