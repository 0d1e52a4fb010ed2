//! Reading: how long a client waits for statistics, searches and timelines among many events.

use anyhow::Context as _;
use pipeline::ports::KeyKind;
use stack::stack::Stack;
use statistics::DistinctSubjects;
use tokio_postgres::NoTls;

use crate::figures::Figures;
use crate::load::work_off;
use crate::plan::Plan;

/// `BENCH_SCALE=1000` makes ten millions of them.
const EVENTS: usize = 1_000_000;
const QUESTIONS: usize = 1_000;
const WIDTH: usize = 2;

/// A figure's name, and how one of its questions is made.
type Question = (&'static str, fn() -> String);

/// Every question is about a campaign or user of its own, most often about those with the most events.
const ASKED: [Question; 8] = [
    ("stats_24h", || format!("/campaigns/{}/stats?hours=24", campaign())),
    ("stats_31d", || format!("/campaigns/{}/stats?hours=744", campaign())),
    ("search_newest", || "/events?hours=24".to_owned()),
    ("search_campaign", || format!("/events?hours=744&campaign_id={}", campaign())),
    ("search_user", || format!("/events?hours=744&user_id=u{}", skewed(200_000, 2))),
    ("search_fraud", || "/events?hours=744&status=fraud".to_owned()),
    ("search_rare_pair", || format!("/events?hours=744&campaign_id={}&geo_country=L29&type=click", campaign())),
    ("search_unknown", || format!("/events?hours=744&user_id=nobody-{}", fastrand::u32(..))),
];

fn campaign() -> String {
    format!("c{}", skewed(5_000, 3))
}

/// Below `end`, and the lower the more often.
fn skewed(end: u32, power: i32) -> u32 {
    (f64::from(end) * fastrand::f64().powi(power)) as u32
}

/// Makes the events, and measures the time of each kind of answer.
///
/// # Errors
/// If the events cannot be made, or an answer is not a success.
pub async fn measure(plan: &Plan, stack: &Stack, figures: &mut Figures) -> anyhow::Result<()> {
    make_events(stack.database_url(), plan.scaled(EVENTS)).await?;
    let key = stack.create_key("bench", "bench", KeyKind::Server, 10_000_000).await?;
    let address = stack.query_url().trim_end_matches("/events").to_owned();
    for (name, question) in ASKED {
        // The first run only warms up.
        for run in 0..=plan.runs {
            let questions: Vec<String> = (0..QUESTIONS).map(|_| question()).collect();
            let (client, key, address) = (stack.client.clone(), key.clone(), address.clone());
            let times = work_off(questions, WIDTH, move |question| {
                let (client, key, url) = (client.clone(), key.clone(), format!("{address}{question}"));
                async move {
                    let answer = client.get(&url, &[("x-api-key", &key)]).await?;
                    let body = String::from_utf8_lossy(&answer.body);
                    anyhow::ensure!(answer.status.is_success(), "{url} answered {}: {body}", answer.status);
                    Ok(())
                }
            })
            .await?;
            if run > 0 {
                figures.add_quantiles(&format!("query_{name}"), &times.latencies);
            }
        }
    }
    Ok(())
}

/// In hexadecimal digits.
fn sketch_of(users: i64) -> String {
    let mut sketch = DistinctSubjects::new();
    (0..users).for_each(|user| sketch.add(user));
    sketch.to_bytes().iter().map(|byte| format!("{byte:02x}")).collect()
}

async fn make_events(database_url: &str, events: usize) -> anyhow::Result<()> {
    let script = include_str!("query.sql").replace("$EVENTS", &events.to_string());
    let script = script.replace("$LARGE", &sketch_of(1_000)).replace("$SMALL", &sketch_of(3));
    let (client, connection) = tokio_postgres::connect(database_url, NoTls).await?;
    let connection = tokio::spawn(connection);
    // One by one, because VACUUM cannot run in the transaction that several statements in one message are.
    for statement in script.split(";\n\n") {
        let made = client.batch_execute(statement).await;
        made.with_context(|| format!("cannot make events: {}", statement.lines().next().unwrap_or_default()))?;
    }
    drop(client);
    Ok(connection.await??)
}
