//! Invokes functions on a schedule, as EventBridge does.

use std::num::NonZeroU64;
use std::str::FromStr;
use std::time::Duration;

use anyhow::Context as _;
use event::Timestamp;
use pipeline::clock::{Clock as _, SystemClock};
use serde_json::{Value, json};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior, interval_at};

use crate::client::JsonClient;
use crate::functions::{invoke, invoke_url};

/// Which function is invoked, and how often.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Schedule {
    pub function: String,
    pub every: Duration,
}

/// `rescorer=60`: once every minute.
impl FromStr for Schedule {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Self> {
        let refused = || format!("{text:?} is not a schedule: write name=seconds");
        let (function, seconds) = text.split_once('=').with_context(refused)?;
        let seconds: NonZeroU64 = seconds.parse().with_context(refused)?;
        anyhow::ensure!(!function.is_empty(), refused());
        Ok(Schedule { function: function.to_owned(), every: Duration::from_secs(seconds.get()) })
    }
}

/// A running schedule. Dropping it stops it at once.
#[derive(Debug)]
pub struct RunningSchedule {
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<()>,
}

impl RunningSchedule {
    /// Invokes a function once every period, starting after the first period, with the event of an EventBridge rule. A
    /// run that takes longer than the period delays the next one. A failure is logged, and the schedule continues.
    pub fn start(schedule: Schedule, client: JsonClient, endpoint: &str) -> Self {
        let (stop, mut stopped) = oneshot::channel();
        let Schedule { function, every } = schedule;
        let url = invoke_url(endpoint, &function);
        let task = tokio::spawn(async move {
            let mut ticks = interval_at(Instant::now() + every, every);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                let run = async {
                    ticks.tick().await;
                    let event = scheduled_event(&function, SystemClock.now()).to_string();
                    if let Err(error) = invoke(&client, &url, event).await {
                        tracing::warn!(function, error = format!("{error:#}"), "a scheduled invocation failed");
                    }
                };
                tokio::select! {
                    _ = &mut stopped => return,
                    () = run => {}
                }
            }
        });
        RunningSchedule { stop: Some(stop), task }
    }

    /// Stops the schedule. A running invocation continues without a caller, as on AWS.
    pub async fn stop(mut self) {
        drop(self.stop.take());
        // The task ends by itself. If it panicked, that has been printed already.
        let _ = (&mut self.task).await;
    }
}

impl Drop for RunningSchedule {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The event that an EventBridge rule sends at that time.
fn scheduled_event(function: &str, at: Timestamp) -> Value {
    json!({
        "version": "0",
        "id": format!("{function}-{}", at.as_millis()),
        "detail-type": "Scheduled Event",
        "source": "aws.events",
        "account": "000000000000",
        "time": at,
        "region": "local",
        "resources": [format!("arn:aws:events:local:000000000000:rule/{function}")],
        "detail": {},
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_schedule_has_a_function_and_a_period() {
        let schedule: Schedule = "rescorer=60".parse().unwrap();
        assert_eq!(schedule, Schedule { function: "rescorer".to_owned(), every: Duration::from_secs(60) });
        for text in ["rescorer", "=60", "rescorer=", "rescorer=0", "rescorer=a minute"] {
            let error = text.parse::<Schedule>().unwrap_err().to_string();
            assert_eq!(error, format!("{text:?} is not a schedule: write name=seconds"));
        }
    }

    #[test]
    fn an_event_of_a_schedule_has_the_fields_of_the_sample() {
        let sample = include_str!("../../../events/rescorer/schedule.json");
        let sample: Value = serde_json::from_str(sample).unwrap();
        let event = scheduled_event("rescorer", Timestamp::EPOCH);
        let names = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
        assert_eq!(names(&event), names(&sample));
        assert_eq!((&event["source"], &event["detail-type"]), (&sample["source"], &sample["detail-type"]));
        assert_eq!(event["time"], "1970-01-01T00:00:00.000Z");
    }
}
