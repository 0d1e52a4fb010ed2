//! F8: a flood of duplicates.

use nix::sys::signal::Signal;

use crate::load::{Load, LoadEvent};
use crate::trial::{self, ChaosRun, Setup, Trial};

pub async fn flood_of_duplicates(run: &ChaosRun) -> anyhow::Result<Trial> {
    let name = "F8";
    let mut rng = run.rng(name);
    let load = Load { events: run.size(2_000, 20_000), batch: 50, width: 16, rate: 0, copies: 1.0, insists: true };
    let mut requests = load.plan(&mut rng);
    // One event again and again: whole requests of it, at the same time as all others.
    let hot = LoadEvent::made_up(load.events, &mut rng);
    let copies = run.size(2_000, 10_000);
    requests.extend((0..copies / load.batch).map(|_| vec![hot.clone(); load.batch]));
    rng.shuffle(&mut requests);
    let setup = Setup { load: load.clone(), requests: Some(requests), ..Setup::default() };
    trial::run(run, name, setup, async |scene| {
        scene.pause(500..1_500).await;
        Ok(copies + load.events + scene.signal("processor", Signal::SIGKILL))
    })
    .await
}
