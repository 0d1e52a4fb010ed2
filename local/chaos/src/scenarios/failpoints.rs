//! F1: every process killed at every failpoint.

use crate::load::Load;
use crate::trial::{self, Run, Scene, Setup, Trial};

/// Every failpoint, and from which to which pass its process dies. The archiver sees few, large batches, and writes up
/// to one object per partition, status (3) and hour (2, at the turn) in each: with fewer passes than that no batch would
/// ever get through.
const FAILPOINTS: [(&str, u32, u32); 13] = [
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
    ("archiver::writing", 13, 24),
    ("archiver::written", 1, 2),
];

/// How long a load lasts: for some batches of each mapping.
const SECONDS: usize = 5;

pub async fn killed_at_failpoints(run: &Run) -> anyhow::Result<Vec<Trial>> {
    let mut trials = Vec::new();
    for round in 0..run.size(1, 20) {
        let chosen = |point: &str| run.point.as_deref().is_none_or(|wanted| point.contains(wanted));
        for (point, from, to) in FAILPOINTS.into_iter().filter(|(point, _, _)| chosen(point)) {
            let name = format!("F1 {point} {round}");
            let events = run.size(300, 2000);
            let passes = run.rng(&name).u32(from..=to);
            let setup = Setup {
                load: Load { events, rate: events / SECONDS, batch: 5, ..Load::default() },
                settings: vec![
                    ("FAILPOINTS".to_owned(), format!("{point}={passes}*off->return")),
                    ("TOPIC_PARTITIONS".to_owned(), "2".to_owned()),
                ],
                ends_count: true,
                ..Setup::default()
            };
            let look_on = async |scene: &mut Scene| Ok(scene.count_ends(|| scene.loading()).await);
            trials.push(trial::run(run, &name, setup, look_on).await?);
        }
    }
    Ok(trials)
}
