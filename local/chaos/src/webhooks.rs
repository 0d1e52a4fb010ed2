//! I10: a webhook's receiver is told of every outcome that it asks for, whatever happened.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use serde::Deserialize;
use serde_json::json;
use services::https_receiver::{HttpsReceiver, ReceiverAnswer};
use stack::options::Options;
use stack::stack::Stack;

use crate::evidence::{self, Evidence};
use crate::verdict::TrialFindings;

/// How often the notifier sends again what failed, so that faults meet it at work.
const EVERY: Duration = Duration::from_millis(500);

/// Something that is told of every stored event, and answers with `status` until the load has ended.
pub struct Listener {
    receiver: HttpsReceiver,
}

impl Listener {
    /// # Errors
    /// If the receiver does not start.
    pub async fn start(status: u16) -> anyhow::Result<Self> {
        let receiver = HttpsReceiver::start().await?;
        receiver.answer(ReceiverAnswer::status(status));
        Ok(Listener { receiver })
    }

    /// The options of a stack that can tell it.
    pub fn known_to(&self, options: Options) -> Options {
        Options { notify_every: Some(EVERY), ..options.telling(&self.receiver) }
    }

    /// # Errors
    /// If the maintainer refuses.
    pub async fn subscribe(&self, stack: &Stack, tenant: &str) -> anyhow::Result<()> {
        let request = json!({
            "action": "create-webhook", "by": "chaos", "tenant": tenant, "url": self.receiver.url(),
            "outcomes": ["valid", "fraud"],
        });
        stack.invoke("maintainer", request).await.map(drop)
    }

    /// Lets the notifier send what is left, at most for as long as `patience`, and compares what the receiver got with what is stored.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn check(
        &self,
        stack: &Stack,
        evidence: &Evidence,
        patience: Duration,
        findings: &mut TrialFindings,
    ) -> anyhow::Result<()> {
        self.receiver.answer(ReceiverAnswer::status(204));
        let stored: BTreeSet<&str> = evidence.rows.iter().map(|row| row.event_id.as_str()).collect();
        let database = evidence::connect(stack.database_url()).await?;
        let began = Instant::now();
        loop {
            let told = self.told(findings);
            let missing = stored.iter().filter(|id| !told.contains(**id)).count();
            if missing == 0 {
                return Ok(());
            }
            if began.elapsed() > patience {
                findings.add("I10", format!("a webhook was not told of {missing} of {} stored events", stored.len()));
                return Ok(());
            }
            // The waits between attempts are hours; a failpoint may end some runs.
            let make_due = "UPDATE webhook_deliveries SET due_at = now() - interval '1 second'";
            database.execute(make_due, &[]).await?;
            let _ = stack.invoke("notifier", json!({"action": "retry"})).await;
            tokio::time::sleep(EVERY).await;
        }
    }

    /// The ids of the events that the receiver was told of. The same message must always say the same.
    fn told(&self, findings: &mut TrialFindings) -> BTreeSet<String> {
        #[derive(Deserialize)]
        struct Told {
            data: ToldEvent,
        }
        #[derive(Deserialize)]
        struct ToldEvent {
            id: String,
        }
        let mut bodies = BTreeMap::new();
        let mut told = BTreeSet::new();
        for request in self.receiver.received() {
            let id = request.header("webhook-id").to_owned();
            match serde_json::from_slice::<Told>(&request.body) {
                Ok(Told { data }) => _ = told.insert(data.id),
                Err(error) => findings.add("I10", format!("a webhook's body cannot be read: {error}")),
            }
            let first = bodies.entry(id.clone()).or_insert_with(|| request.body.clone());
            if *first != request.body {
                findings.add("I10", format!("the message {id} was sent with two bodies"));
            }
        }
        told
    }
}
