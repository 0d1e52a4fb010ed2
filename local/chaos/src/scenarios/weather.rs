//! F3, F6, F7, F15: what stands behind a proxy goes silent, slow or away.

use nix::sys::signal::Signal;

use crate::load::Load;
use crate::proxy::Weather;
use crate::trial::{self, Proxies, Run, Scene, Setup, Trial};

/// Makes weather and clears it again, as long as the load lasts; gives how often.
async fn storms(
    scene: &mut Scene,
    weathers: &[Weather],
    millis: std::ops::Range<u64>,
    set: impl AsyncFn(&mut Proxies, Weather) -> anyhow::Result<()>,
) -> anyhow::Result<usize> {
    let mut faults = 0;
    while scene.loading() {
        scene.pause(500..2000).await;
        let weather = weathers[faults % weathers.len()];
        set(scene.proxies()?, weather).await?;
        faults += 1;
        scene.pause(millis.clone()).await;
        set(scene.proxies()?, Weather::Clear).await?;
    }
    Ok(faults)
}

fn proxied(events: usize) -> Setup {
    Setup { load: Load { events, rate: 300, ..Load::default() }, proxied: true, ..Setup::default() }
}

pub async fn cut_off_from_kafka(run: &Run) -> anyhow::Result<Trial> {
    let longest = run.size(4_000, 30_000);
    trial::run(run, "F3", proxied(run.size(5_000, 40_000)), async |scene| {
        let weathers = [Weather::Silent, Weather::AnswersLost, Weather::Refusing];
        storms(scene, &weathers, 2_000..longest, async |proxies, weather| proxies.kafka.set(weather).await).await
    })
    .await
}

pub async fn dynamodb_failing(run: &Run) -> anyhow::Result<Trial> {
    trial::run(run, "F6", proxied(run.size(4_000, 20_000)), async |scene| {
        let weathers = [Weather::AnswersLost, Weather::Slow(2_000), Weather::Refusing, Weather::Silent];
        storms(scene, &weathers, 1_000..6_000, async |proxies, weather| proxies.dynamodb.set(weather).await).await
    })
    .await
}

pub async fn slow_dependencies(run: &Run) -> anyhow::Result<Trial> {
    trial::run(run, "F7", proxied(run.size(4_000, 20_000)), async |scene| {
        let weathers = [Weather::Slow(100), Weather::Slow(1_000), Weather::Slow(5_000)];
        storms(scene, &weathers, 2_000..6_000, async |proxies, weather| {
            proxies.postgres.set(weather).await?;
            proxies.kafka.set(weather).await
        })
        .await
    })
    .await
}

pub async fn s3_failing(run: &Run) -> anyhow::Result<Trial> {
    trial::run(run, "F15", proxied(run.size(5_000, 20_000)), async |scene| {
        let mut faults = 0;
        while scene.loading() {
            scene.pause(300..1_500).await;
            let weather = [Weather::AnswersLost, Weather::Refusing, Weather::Silent][faults % 3];
            scene.proxies()?.s3.set(weather).await?;
            scene.pause(300..3_000).await;
            if scene.rng.bool() {
                scene.signal("archiver", Signal::SIGKILL);
            }
            scene.proxies()?.s3.set(Weather::Clear).await?;
            faults += 1;
        }
        Ok(faults)
    })
    .await
}
