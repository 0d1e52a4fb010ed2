//! Finding events: see the migration `V10__search.sql`.

use std::fmt::Write as _;
use std::time::Duration;

use async_trait::async_trait;
use deadpool_postgres::ClientWrapper;
use event::{EventId, TenantId, Timestamp};
use pipeline::DependencyError;
use pipeline::ports::{EventSearch, FoundEvent, SearchPage, SearchPlace, SearchRequest, StoredStatus};
use pipeline::tracked::Event;
use time::{Date, OffsetDateTime};
use tokio_postgres::Row;

use crate::database::{Database, RollbackOnDrop, in_one_round_trip};
use crate::error::PostgresError;
use crate::ledger::{Corrupt, risk_from_row, trace_from_row};
use crate::statement::parameter;
use crate::text::{indexed, storable};

/// A search with a statement that takes longer is given up. Set in the transaction, because a pooler refuses start-up options.
const LONGEST_SEARCH: Duration = Duration::from_secs(3);

/// How many days are looked through at first. Then four times as many, and so on: a plan for all days of a range takes longer
/// than running one for the days in which a page's events nearly always are.
const FIRST_DAYS: i64 = 2;

/// How many of the newest events are looked at one by one. What one event in a hundred has is found among them; what fewer have is
/// in few enough rows of a day to sort them all (docs/adr/0039).
const NEWEST: u32 = 5_000;

/// So that only the partitions of the days that are asked for are planned for.
const PLAN_FOR_DAYS: &str = "SET LOCAL plan_cache_mode = force_custom_plan";

const COLUMNS: &str = "event_id, event_type, status, received_at, occurred_at, user_id, risk_score, risk_reasons, rules_version, trace_id";

/// `$7` and `$8` are the place that the page comes after, if there is one.
const IN_RANGE: &str = "
    received_day BETWEEN $2 AND $3 AND received_at >= $4 AND received_at < $5
    AND ($7 IS NULL OR received_at <= $7) AND ($7 IS NULL OR (received_at, event_id) < ($7, $8))";

const NEWEST_FIRST: &str = "ORDER BY received_at DESC, event_id DESC";

/// [`EventSearch`] on Postgres.
#[derive(Clone, Debug)]
pub struct PostgresEventSearch {
    database: Database,
}

impl PostgresEventSearch {
    pub fn new(database: Database) -> Self {
        PostgresEventSearch { database }
    }

    async fn page(&self, request: &SearchRequest) -> Result<SearchPage, PostgresError> {
        let client = self.database.connection().await?;
        let result = self.database.within(page(&client, self.database.begin_reading(), request)).await;
        self.database.give_back(client, result)
    }
}

#[async_trait]
impl EventSearch for PostgresEventSearch {
    async fn search(&self, request: &SearchRequest) -> Result<Option<SearchPage>, DependencyError> {
        match self.page(request).await {
            Err(error) if error.is_statement_timeout() => Ok(None),
            result => result.map(Some).map_err(|error| error.into_dependency("searching events")),
        }
    }
}

/// What the index has for each event, as the text of an array: a list per row cannot be sent as an array. Events of one tenant
/// follow one another, so its term is made once for all of them.
pub(crate) fn terms_of<'e>(events: impl Iterator<Item = &'e Event<'e>>) -> Vec<String> {
    let mut last: Option<(&TenantId, i64)> = None;
    let terms = |event: &'e Event<'e>| {
        let tenant = match last {
            Some((tenant, term)) if *tenant == event.key.tenant => term,
            _ => tenant_term(&event.key.tenant),
        };
        last = Some((&event.key.tenant, tenant));
        let mut array = format!("{{{}", event::term("type", &event.event_type) ^ tenant);
        let user = event.user_id.as_deref().map(|user| event::term("user_id", user));
        for term in user.iter().chain(&event.facts.terms) {
            // A text can always be written to.
            let _ = write!(array, ",{}", term ^ tenant);
        }
        array.push('}');
        array
    };
    events.map(terms).collect()
}

/// It is in every term of the tenant.
fn tenant_term(tenant: &TenantId) -> i64 {
    event::term("tenant", tenant.as_str())
}

/// What the index must have for an event that is wanted.
fn wanted_terms(request: &SearchRequest) -> Vec<i64> {
    let tenant = tenant_term(&request.tenant);
    let event_type = request.event_type.as_deref().map(|event_type| event::term("type", &indexed(event_type)));
    let user = request.user_id.as_deref().map(|user| event::term("user_id", &storable(user)));
    let dimensions = request.dimensions.iter().map(|(name, value)| event::term(name, value));
    event_type.into_iter().chain(user).chain(dimensions).map(|term| term ^ tenant).collect()
}

/// How a part of the range is looked through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// In the order of time until there are enough.
    Time,
    /// Among the newest events: may find fewer than there are.
    Newest,
    /// By the index of terms; what is found is sorted.
    Terms,
}

impl Way {
    /// What the planner is told. Without statistics it takes the tenant for a small one, and would sort whole days.
    const fn setting(self) -> &'static str {
        match self {
            Way::Time | Way::Newest => "; SET LOCAL enable_sort = off",
            Way::Terms => "",
        }
    }
}

fn statement(way: Way, request: &SearchRequest, terms: &[i64]) -> String {
    let events = match way {
        Way::Time => format!("SELECT {COLUMNS} FROM events WHERE tenant || '' = $1 AND {IN_RANGE}"),
        Way::Newest => format!(
            "WITH newest AS MATERIALIZED (
                SELECT {COLUMNS}, terms FROM events WHERE tenant || '' = $1 AND {IN_RANGE} {NEWEST_FIRST} LIMIT {NEWEST}
            ) SELECT * FROM newest WHERE true"
        ),
        // The tenant is in each term. The condition is one that no index can serve, so that the planner cannot read all events
        // of the tenant in place of those that have the terms.
        Way::Terms => format!("SELECT {COLUMNS} FROM events WHERE tenant IS NOT DISTINCT FROM $1 AND {IN_RANGE}"),
    };
    let has_terms = if terms.is_empty() { "" } else { "AND terms @> $9" };
    let has_status = match request.status {
        None => "",
        Some(StoredStatus::Valid) => "AND status = 'valid' AND risk_score IS NOT NULL",
        Some(StoredStatus::Fraud) => "AND status = 'fraud'",
        Some(StoredStatus::Unscored) => "AND risk_score IS NULL",
    };
    format!("{events} {has_terms} {has_status} {NEWEST_FIRST} LIMIT $6")
}

async fn page(client: &ClientWrapper, begin: &str, request: &SearchRequest) -> Result<SearchPage, PostgresError> {
    let terms = wanted_terms(request);
    let begin = format!("{begin}; SET LOCAL statement_timeout = {}; {PLAN_FOR_DAYS}", LONGEST_SEARCH.as_millis());
    let find = async |way: Way, days, limit| find(client, &begin, way, request, &terms, days, limit).await;
    // One more than is returned, to find out whether there are more.
    let wanted = request.limit + 1;
    let mut events = Vec::new();
    for (number, days) in spans(request).enumerate() {
        let left = wanted - events.len();
        if terms.is_empty() {
            events.extend(find(Way::Time, days, left).await?);
        } else {
            // What a user has sent is in few rows.
            let may_be_frequent = number == 0 && request.user_id.is_none();
            let among_newest = if may_be_frequent { find(Way::Newest, days, left).await? } else { Vec::new() };
            events.extend(if among_newest.len() < left { find(Way::Terms, days, left).await? } else { among_newest });
        }
        if events.len() >= wanted {
            break;
        }
    }
    let has_more = events.len() > request.limit;
    events.truncate(request.limit);
    Ok(SearchPage { events, has_more })
}

/// The days to look through, the last first.
fn spans(request: &SearchRequest) -> impl Iterator<Item = (Date, Date)> {
    let day = |at: Timestamp| at.to_utc().date();
    let newest = request.after.as_ref().map_or(request.to, |after| after.received_at.min(request.to));
    let (first, mut last) = (day(request.from), Some(day(newest)));
    let mut length = FIRST_DAYS;
    std::iter::from_fn(move || {
        let end = last.filter(|last| *last >= first)?;
        let start = end.checked_sub(time::Duration::days(length - 1)).map_or(first, |start| start.max(first));
        last = start.previous_day();
        length = length.saturating_mul(4);
        Some((start, end))
    })
}

async fn find(
    client: &ClientWrapper,
    begin: &str,
    way: Way,
    request: &SearchRequest,
    terms: &Vec<i64>,
    (first_day, last_day): (Date, Date),
    limit: usize,
) -> Result<Vec<FoundEvent>, PostgresError> {
    let tenant = request.tenant.as_str();
    let (from, to) = (request.from.to_utc(), request.to.to_utc());
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let after_time = request.after.as_ref().map(|after| after.received_at.to_utc());
    let after_id = request.after.as_ref().map(|after| after.id.as_str());
    // Not every statement uses the last one.
    let parameters = [
        parameter(&tenant),
        parameter(&first_day),
        parameter(&last_day),
        parameter(&from),
        parameter(&to),
        parameter(&limit),
        parameter(&after_time),
        parameter(&after_id),
        parameter(terms),
    ];
    let (begin, statement) = (format!("{begin}{}", way.setting()), statement(way, request, terms));
    let transaction = RollbackOnDrop::new(client);
    in_one_round_trip!(
        _begun = client.batch_execute(&begin),
        rows = client.query_typed(&statement, &parameters),
        _committed = client.batch_execute("COMMIT"),
    );
    transaction.finish();
    rows.iter().map(found_from_row).collect()
}

fn found_from_row(row: &Row) -> Result<FoundEvent, PostgresError> {
    let corrupt = |column| Corrupt("events").column(column);
    let id = EventId::new(row.try_get("event_id")?).map_err(|_| corrupt("event_id"))?;
    Ok(FoundEvent {
        place: SearchPlace { received_at: row.try_get::<_, OffsetDateTime>("received_at")?.into(), id },
        event_type: row.try_get("event_type")?,
        outcome: row.try_get::<_, &str>("status")?.parse().map_err(|_| corrupt("status"))?,
        occurred_at: row.try_get::<_, Option<OffsetDateTime>>("occurred_at")?.map(Timestamp::from),
        user_id: row.try_get("user_id")?,
        risk: risk_from_row(row)?,
        trace_id: trace_from_row(row, "events")?,
    })
}
