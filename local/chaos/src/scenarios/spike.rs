//! F9: a tenfold spike after an idle time, with cold processes, and more events than the key may send.

use std::time::Duration;

use nix::sys::signal::Signal;
use pipeline::ports::KeyKind;

use crate::load::{Client, Load, LoadEvent, p99};
use crate::trial::{self, ChaosRun, FUNCTIONS, Setup, TENANT, Trial};

/// Events per second before the spike.
const USUAL: usize = 100;
const SPIKE: usize = 10 * USUAL;
/// I7: p99 of the accepted requests. Ingest waits up to 5 s for Kafka.
const ACCEPTED_WITHIN: Duration = Duration::from_secs(5);

pub async fn tenfold_spike(run: &ChaosRun) -> anyhow::Result<Trial> {
    let usual = Load { events: USUAL * run.size(5, 30), rate: USUAL, ..Load::default() };
    let seconds = run.size(10, 60);
    let first_of_spike = usual.events;
    trial::run(run, "F9", Setup { load: usual, ..Setup::default() }, async |scene| {
        while scene.loading() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let mut faults = 0;
        // Every process ends with its connections, so the first requests need new ones.
        for function in FUNCTIONS.into_iter().filter(|function| *function != "ingest") {
            faults += scene.signal(function, Signal::SIGTERM);
        }
        tokio::time::sleep(Duration::from_secs(run.size(5, 60))).await;

        let sent = SPIKE * seconds;
        // Less than is sent, so that some requests are refused whatever minutes they fall into.
        let limit = u32::try_from(sent / 3)?;
        let key = scene.stack.create_key(TENANT, "spike", KeyKind::Server, limit).await?;
        let client = Client { key, ..scene.client.clone() };
        let spike = Load { events: sent, width: 64, rate: SPIKE, copies: 0.0, insists: false, ..Load::default() };
        let events: Vec<LoadEvent> =
            (0..sent).map(|number| LoadEvent::made_up(first_of_spike + number, &mut scene.rng)).collect();
        let requests = events.chunks(spike.batch).map(<[LoadEvent]>::to_vec).collect();
        let seen = client.send(&spike, requests).await?;

        let slow = p99(seen.latencies.iter().copied());
        let (taken, all) = (seen.latencies.len(), seen.requests);
        scene.findings.notes.push(format!(
            "{all} requests at {SPIKE} events/s: {taken} accepted with p99 {} ms, {} refused with a time to retry, \
             {} failed otherwise",
            slow.as_millis(),
            seen.busy,
            all - taken - seen.busy,
        ));
        if taken == 0 || slow > ACCEPTED_WITHIN {
            scene.findings.add("I7", format!("{taken} requests were accepted, with p99 {} ms", slow.as_millis()));
        }
        if seen.busy == 0 {
            scene.findings.add("--", "no request was refused, so the load was not a spike");
        }
        if seen.busy != all - taken {
            scene.findings.add(
                "I7",
                format!("{} requests were neither accepted nor refused with a time to retry", all - taken - seen.busy),
            );
        }
        if seen.without_retry_after > 0 {
            scene.findings.add("I7", format!("{} busy answers without Retry-After", seen.without_retry_after));
        }
        Ok(faults + seen.requests)
    })
    .await
}
