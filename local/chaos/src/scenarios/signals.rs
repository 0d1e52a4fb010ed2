//! F2: processes that are stopped, frozen, or killed by their host because a call takes too long.

use std::time::Duration;

use nix::sys::signal::Signal;

use crate::load::Load;
use crate::trial::{self, ChaosRun, FUNCTIONS, Setup, Trial};

/// The host kills the process of a call that takes longer.
const SHORT_TIMEOUT: Duration = Duration::from_secs(3);

pub async fn stopped_and_frozen(run: &ChaosRun) -> anyhow::Result<Trial> {
    let setup = Setup {
        load: Load { events: run.size(6_000, 40_000), ..Load::default() },
        function_timeout: Some(SHORT_TIMEOUT),
        ..Setup::default()
    };
    trial::run(run, "F2", setup, async |scene| {
        let mut faults = 0;
        while scene.loading() {
            scene.pause(100..700).await;
            let function = FUNCTIONS[scene.rng.usize(..FUNCTIONS.len())];
            // The host kills a process that is frozen for longer than the timeout. Ingest has no host; its client waits
            // longer.
            let freeze = scene.rng.choice([50, 400, 1500, 3500]).unwrap_or(50);
            if scene.rng.bool() {
                faults += scene.signal(function, Signal::SIGTERM);
            } else {
                let frozen = scene.stack.processes(function);
                faults += scene.signal(function, Signal::SIGSTOP);
                tokio::time::sleep(Duration::from_millis(freeze)).await;
                if scene.stack.processes(function).iter().any(|pid| frozen.contains(pid)) {
                    scene.signal(function, Signal::SIGCONT);
                }
            }
        }
        Ok(faults)
    })
    .await
}
