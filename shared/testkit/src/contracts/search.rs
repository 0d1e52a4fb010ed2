//! The contract of every [`EventSearch`].
#![expect(clippy::panic, clippy::expect_used, reason = "a contract suite fails by panicking")]

use std::time::Duration;

use event::{EventId, TenantId, Timestamp};
use pipeline::ports::{EventSearch, EventStore, RiskScore, SearchPage, SearchPlace, SearchRequest, StoredStatus};
use pipeline::tracked::{Decided, Event, Tracked};
use pipeline::{Outcome, Position};

use super::{answer, unique};
use crate::events::{event, stored, valid};

const DAY: Duration = Duration::from_secs(24 * 3600);

/// Runs the suite on a search of the events in `store`. Tenants and topics are new in every run.
pub async fn search_contract(search: &dyn EventSearch, store: &dyn EventStore) {
    Case::new(search, store, "whole").an_event_is_found_whole_and_by_its_own_tenant().await;
    Case::new(search, store, "conditions").every_condition_that_is_set_must_be_met().await;
    Case::new(search, store, "odd").values_are_data().await;
    Case::new(search, store, "range").the_range_has_its_start_and_not_its_end().await;
    Case::new(search, store, "instant").pages_have_each_of_a_thousand_events_of_one_instant_once().await;
    Case::new(search, store, "days").pages_go_on_across_days_while_events_arrive().await;
}

struct Case<'a> {
    search: &'a dyn EventSearch,
    store: &'a dyn EventStore,
    topic: String,
    tenant: TenantId,
    noon: Timestamp,
}

impl<'a> Case<'a> {
    fn new(search: &'a dyn EventSearch, store: &'a dyn EventStore, name: &str) -> Self {
        let unique = unique(name);
        let noon = Timestamp::parse("2026-11-20T12:00:00Z").expect("an instant");
        Case { search, store, tenant: TenantId::new(&unique).expect("a tenant"), topic: unique, noon }
    }

    fn event(&self, id: &str, received_at: Timestamp, json: &str) -> Event<'static> {
        event(&self.tenant, id, json, received_at)
    }

    async fn store_decided(&self, first_offset: i64, events: Vec<(Event<'static>, Decided)>) {
        let records: Vec<Tracked<'static, Decided>> = (first_offset..)
            .zip(events)
            .map(|(offset, (event, decided))| stored(Position::new(self.topic.as_str(), 0, offset), event, decided))
            .collect();
        answer(self.store.record(&records, self.noon).await);
    }

    async fn store(&self, first_offset: i64, events: Vec<Event<'static>>) {
        let scored = || valid(Some(risk(0)));
        self.store_decided(first_offset, events.into_iter().map(|event| (event, scored())).collect()).await;
    }

    /// All events of two days around noon.
    fn request(&self) -> SearchRequest {
        SearchRequest {
            tenant: self.tenant.clone(),
            event_type: None,
            status: None,
            user_id: None,
            dimensions: Vec::new(),
            from: Timestamp::from_millis(self.noon.as_millis() - 86_400_000),
            to: self.noon.plus(DAY),
            after: None,
            limit: 10,
        }
    }

    async fn page(&self, request: &SearchRequest) -> SearchPage {
        answer(self.search.search(request).await).expect("a search over few events is not given up")
    }

    async fn ids(&self, request: SearchRequest) -> Vec<String> {
        ids(&self.page(&request).await)
    }

    async fn an_event_is_found_whole_and_by_its_own_tenant(&self) {
        let bare = Event { occurred_at: None, user_id: None, ..self.event("bare", self.noon, "{}") };
        let fraud = Decided { outcome: Outcome::Fraud, risk: Some(risk(90)) };
        let whole = self.event("whole", self.noon.plus(Duration::from_millis(1)), "{}");
        self.store_decided(0, vec![(bare, valid(None)), (whole.clone(), fraud)]).await;
        let page = self.page(&self.request()).await;
        let [first, second] = &page.events[..] else { panic!("{page:?}") };
        assert_eq!(first.place, SearchPlace { received_at: whole.received_at, id: whole.key.id });
        assert_eq!((first.event_type.as_str(), first.outcome), ("click", Outcome::Fraud));
        assert_eq!((first.occurred_at, first.user_id.as_deref()), (whole.occurred_at, whole.user_id.as_deref()));
        assert_eq!(first.risk, Some(risk(90)));
        assert_eq!((second.occurred_at, &second.user_id, &second.risk), (None, &None, &None));
        assert_eq!((second.outcome, page.has_more), (Outcome::Valid, false));
        let stranger = TenantId::new(&format!("not-{}", self.tenant.as_str())).expect("a tenant");
        assert_eq!(self.page(&SearchRequest { tenant: stranger, ..self.request() }).await, SearchPage::default());
    }

    async fn every_condition_that_is_set_must_be_met(&self) {
        let event = |id: &str, after, json| self.event(id, self.noon.plus(Duration::from_secs(after)), json);
        let german = r#"{"campaign_id":"c1","geo_country":"DE"}"#;
        let events = vec![
            (event("german", 0, german), valid(Some(risk(0)))),
            (event("french", 1, r#"{"campaign_id":"c1","geo_country":"FR"}"#), valid(None)),
            (event("other", 2, r#"{"campaign_id":"c2","geo_country":"DE"}"#), valid(Some(risk(0)))),
            (Event { user_id: Some("u-2".into()), ..event("second-user", 3, german) }, valid(Some(risk(1)))),
            (
                Event { event_type: "impression".into(), ..event("seen", 4, german) },
                Decided { outcome: Outcome::Fraud, risk: Some(risk(90)) },
            ),
        ];
        self.store_decided(0, events).await;
        let all = || self.request();
        let with = |dimensions: &[(&'static str, &str)]| {
            dimensions.iter().map(|(name, value)| (*name, (*value).to_owned())).collect::<Vec<_>>()
        };
        let campaign = || with(&[("campaign_id", "c1")]);
        for (request, expected) in [
            (all(), "seen second-user other french german"),
            (SearchRequest { dimensions: campaign(), ..all() }, "seen second-user french german"),
            (SearchRequest { dimensions: with(&[("campaign_id", "c1"), ("geo_country", "FR")]), ..all() }, "french"),
            (SearchRequest { dimensions: with(&[("campaign_id", "DE")]), ..all() }, ""),
            (SearchRequest { event_type: Some("impression".into()), ..all() }, "seen"),
            (SearchRequest { event_type: Some("nothing".into()), ..all() }, ""),
            (SearchRequest { user_id: Some("u-2".into()), ..all() }, "second-user"),
            (SearchRequest { user_id: Some("u-1".into()), dimensions: campaign(), ..all() }, "seen french german"),
            (SearchRequest { status: Some(StoredStatus::Fraud), ..all() }, "seen"),
            (SearchRequest { status: Some(StoredStatus::Unscored), ..all() }, "french"),
            (SearchRequest { status: Some(StoredStatus::Valid), ..all() }, "second-user other german"),
            (
                SearchRequest {
                    event_type: Some("click".into()),
                    status: Some(StoredStatus::Valid),
                    user_id: Some("u-1".into()),
                    dimensions: campaign(),
                    ..all()
                },
                "german",
            ),
        ] {
            assert_eq!(self.ids(request.clone()).await.join(" "), expected, "{request:?}");
        }
    }

    async fn values_are_data(&self) {
        let odd = r#"{"campaign_id":"' OR 1=1 --%_\\\u0000","geo_country":""}"#;
        let user = || Some("' OR '' = '".to_owned());
        self.store(0, vec![Event { user_id: user().map(Into::into), ..self.event("odd", self.noon, odd) }]).await;
        let value = "' OR 1=1 --%_\\\0".to_owned();
        let found = SearchRequest { dimensions: vec![("campaign_id", value)], user_id: user(), ..self.request() };
        assert_eq!(self.ids(found).await, ["odd"]);
        let empty = SearchRequest { dimensions: vec![("geo_country", String::new())], ..self.request() };
        assert_eq!(self.ids(empty).await, ["odd"]);
        let absent = SearchRequest { user_id: Some("\0".into()), ..self.request() };
        assert_eq!(self.ids(absent).await, [""; 0]);
    }

    async fn the_range_has_its_start_and_not_its_end(&self) {
        let at = |ms| self.noon.plus(Duration::from_millis(ms));
        self.store(0, (0..3).map(|ms| self.event(&format!("at-{ms}"), at(ms), "{}")).collect()).await;
        let between = |from, to| SearchRequest { from, to, ..self.request() };
        assert_eq!(self.ids(between(at(0), at(2))).await, ["at-1", "at-0"]);
        assert_eq!(self.ids(between(at(2), at(3))).await, ["at-2"]);
        let after = SearchPlace { received_at: at(1), id: EventId::new("at-1").expect("an id") };
        assert_eq!(self.ids(SearchRequest { after: Some(after), ..between(at(0), at(3)) }).await, ["at-0"]);
    }

    async fn pages_have_each_of_a_thousand_events_of_one_instant_once(&self) {
        let ids: Vec<String> = (0..1_000).map(|number| format!("id-{number:03}")).collect();
        self.store(0, ids.iter().map(|id| self.event(id, self.noon, "{}")).collect()).await;
        let found = self.all_pages(7, async |_page| {}).await;
        assert_eq!(found, ids.into_iter().rev().collect::<Vec<_>>());
    }

    async fn pages_go_on_across_days_while_events_arrive(&self) {
        let from = self.request().from;
        let at = |hour: u32| from.plus(Duration::from_secs(3600) * hour);
        let early: Vec<_> = (0..48).map(|hour| self.event(&format!("hour-{hour:02}"), at(hour), "{}")).collect();
        self.store(0, early).await;
        // What comes while a reader turns pages is newer than the page, and never shifts those that follow.
        let found = self
            .all_pages(10, async |page| {
                let newest = Timestamp::from_millis(self.noon.plus(DAY).as_millis() - 1 - page);
                self.store(48 + page, vec![self.event(&format!("late-{page}"), newest, "{}")]).await;
            })
            .await;
        assert_eq!(found, (0..48).rev().map(|hour| format!("hour-{hour:02}")).collect::<Vec<_>>());
    }

    /// The ids of all pages, one after the other; `between` runs after each page.
    async fn all_pages(&self, limit: usize, between: impl AsyncFn(i64)) -> Vec<String> {
        let mut request = SearchRequest { limit, ..self.request() };
        let mut found = Vec::new();
        for number in 0.. {
            let page = self.page(&request).await;
            assert!(page.events.len() <= limit && (page.events.len() == limit || !page.has_more), "{page:?}");
            found.extend(ids(&page));
            request.after = page.events.last().map(|event| event.place.clone());
            if !page.has_more {
                break;
            }
            between(number).await;
        }
        found
    }
}

fn risk(score: u8) -> RiskScore {
    RiskScore { score, reasons: Vec::new(), rules_version: "1".into() }
}

fn ids(page: &SearchPage) -> Vec<String> {
    page.events.iter().map(|event| event.place.id.as_str().to_owned()).collect()
}
