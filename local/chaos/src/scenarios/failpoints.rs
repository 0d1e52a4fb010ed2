//! F1: every process is killed at every failpoint.

use std::cell::RefCell;

use crate::load::Load;
use crate::trial::{self, ChaosRun, Setup, Trial};

/// Every failpoint, and the range of passes at which its process dies. Ingest passes its failpoints with each request,
/// so it survives more passes under a larger load: starting a process costs the client more time than the load. The
/// archiver gets few, large batches and writes up to one object per partition, status (3) and hour (2, when the hour
/// changes) for each of them: with fewer passes no batch would ever finish.
/// The aggregator passes its own twice in a run that counts anything, and starts anew after each death.
const FAILPOINTS: [(&str, u32, u32); 17] = [
    ("ingest::decided", 4, 10),
    ("ingest::produced", 4, 10),
    ("processor::read", 1, 2),
    ("processor::claimed", 1, 2),
    ("processor::limited", 1, 2),
    ("processor::scored", 1, 2),
    ("postgres::in-transaction", 1, 2),
    ("postgres::committed", 1, 2),
    ("processor::stored", 1, 2),
    ("processor::published", 1, 2),
    ("archiver::packed", 1, 2),
    ("archiver::writing", 13, 16),
    ("archiver::written", 1, 2),
    ("postgres::aggregating", 1, 1),
    ("postgres::aggregated", 1, 1),
    (NOTIFIED, 1, 2),
    (RENOTIFIED, 1, 1),
];

/// First attempts at webhooks were made.
const NOTIFIED: &str = "notifier::sent";
/// Later ones were: there are none unless the receiver refuses the first.
const RENOTIFIED: &str = "notifier::resent";

/// How long a load lasts: enough for some batches of each mapping.
const SECONDS: usize = 5;
/// Trials at the same time. Each spends more time waiting than working.
const SIDE_BY_SIDE: usize = 3;

pub async fn killed_at_failpoints(run: &ChaosRun) -> anyhow::Result<Vec<Trial>> {
    let chosen = |point: &str| run.point.as_deref().is_none_or(|wanted| point.contains(wanted));
    let rounds = 0..run.size(1, 20);
    let plan = rounds.flat_map(|round| FAILPOINTS.into_iter().map(move |failpoint| (round, failpoint)));
    let open = RefCell::new(plan.filter(|(_, (point, _, _))| chosen(point)));
    let work = async || {
        let mut trials = Vec::new();
        loop {
            let next = open.borrow_mut().next();
            let Some((round, failpoint)) = next else { return anyhow::Ok(trials) };
            trials.push(killed_at(run, round, failpoint).await?);
        }
    };
    let trials = futures::future::try_join_all((0..SIDE_BY_SIDE).map(|_| work())).await?;
    Ok(trials.into_iter().flatten().collect())
}

async fn killed_at(run: &ChaosRun, round: usize, (point, from, to): (&str, u32, u32)) -> anyhow::Result<Trial> {
    let name = format!("F1 {point} {round}");
    let events = run.size(300, 2000);
    let requests = if point.starts_with("ingest::") { run.size(1, 8) } else { 1 };
    let passes = requests * run.rng(&name).u32(from..=to);
    let setup = Setup {
        load: Load { events, rate: events / SECONDS, batch: 5, ..Load::default() },
        settings: vec![
            ("FAILPOINTS".to_owned(), format!("{point}={passes}*off->return")),
            ("TOPIC_PARTITIONS".to_owned(), "2".to_owned()),
        ],
        ends_count: true,
        webhook: match point {
            NOTIFIED => Some(204),
            RENOTIFIED => Some(503),
            _ => None,
        },
        ..Setup::default()
    };
    trial::run(run, &name, setup, async |scene| Ok(scene.count_ends(|| scene.loading()).await)).await
}
