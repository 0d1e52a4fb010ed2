//! Functions that EventBridge invokes on a schedule.

use std::time::Duration;

use event::Timestamp;
use pipeline::clock::{Clock as _, SystemClock};
use serde_json::{Value, json};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior, interval_at};

use crate::client::JsonClient;
use crate::functions::{invoke, invoke_url};

/// A schedule that runs. Dropping it ends it at once.
#[derive(Debug)]
pub struct RunningSchedule {
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<()>,
}

impl RunningSchedule {
    /// Invokes a function every so often, first after one period, with what an EventBridge rule sends. A run that takes
    /// longer than the period delays the next one. A failure is logged, and the next run comes as planned.
    pub fn start(function: &'static str, every: Duration, client: JsonClient, lambda_port: u16) -> Self {
        let (stop, mut stopped) = oneshot::channel();
        let url = invoke_url(lambda_port, function);
        let task = tokio::spawn(async move {
            let mut ticks = interval_at(Instant::now() + every, every);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                let run = async {
                    ticks.tick().await;
                    let event = scheduled_event(function, SystemClock.now()).to_string();
                    if let Err(error) = invoke(&client, &url, event).await {
                        tracing::warn!(function, error = format!("{error:#}"), "a scheduled run failed");
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

    /// Ends the schedule. A run under way goes on without anybody waiting for its answer, as on AWS.
    pub async fn stop(mut self) {
        drop(self.stop.take());
        // It ends by itself; that it panicked has been printed.
        let _ = (&mut self.task).await;
    }
}

impl Drop for RunningSchedule {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// What a rule of EventBridge sends at that time.
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
