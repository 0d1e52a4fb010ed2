//! Starts and stops a mapping.

use std::sync::Arc;

use kafka::{ConsumerOptions, KafkaClient, KafkaError, PublisherOptions};
use telemetry::list::WORKER_HEALTH;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::config::MappingConfig;
use crate::counters::{Counters, MappingStatus};
use crate::destination::{Destinations, FailureDestination, Outlet};
use crate::error::EsmError;
use crate::filter::USUAL_FILTERS;
use crate::functions::Functions;
use crate::lag;
use crate::on_failure::OnFailure;
use crate::poller::Poller;

/// Largest record for a Kafka topic as destination: a document has the whole event of its record, in base64. The topic's own
/// limit (`max.message.bytes`) is what counts.
const MAX_LETTER_BYTES: usize = 64 * 1024 * 1024;

/// Starts mappings.
#[derive(Debug)]
pub struct Mapping;

impl Mapping {
    /// Starts the pollers. Each has its own connections to the cluster of `kafka` and joins the group by itself.
    ///
    /// # Errors
    /// [`EsmError`] if the configuration is refused or a topic does not exist.
    pub async fn start(
        config: MappingConfig,
        kafka: &KafkaClient,
        functions: &Functions,
        destinations: &dyn Destinations,
    ) -> Result<RunningMapping, EsmError> {
        config.validate()?;
        let function = functions.function(&config.function, config.concurrency);
        let config = Arc::new(config);
        let destination = match &config.on_failure {
            Some(to) => {
                let outlet = outlet(to, kafka, destinations)
                    .await
                    .map_err(|source| failed(&config, "opening the on-failure destination", source))?;
                Some(FailureDestination::new(Arc::clone(&config), outlet))
            }
            None => None,
        };
        let counters = Arc::new(Counters::new(&config.group));
        if config.filters.len() > USUAL_FILTERS {
            tracing::warn!(
                group = config.group,
                filters = config.filters.len(),
                "AWS takes so many filters only from an account that has asked for it"
            );
        }
        let (stop, stopping) = watch::channel(false);
        let topics: Vec<&str> = config.topics.iter().map(String::as_str).collect();
        let mut pollers = JoinSet::new();
        for _ in 0..config.pollers {
            let options = ConsumerOptions {
                max_poll_records: config.batch_size,
                ..ConsumerOptions::new(config.group.clone(), &topics, config.starting_position)
            };
            let starting = |source| failed(&config, "starting a poller", source);
            // With its own connections, so that neither another poller nor the lag has to wait for its polls.
            let consumer = kafka.separate().await.map_err(starting)?.consumer(options).await.map_err(starting)?;
            let (config, counters) = (Arc::clone(&config), Arc::clone(&counters));
            let poller =
                Poller::new(config, consumer, function.clone(), destination.clone(), counters, stopping.clone());
            pollers.spawn(poller.run());
        }
        pollers.spawn(lag::watch(kafka.clone(), Arc::clone(&config), stopping));
        tracing::info!(
            function = config.function,
            group = config.group,
            topics = config.topics.join(","),
            pollers = config.pollers,
            concurrency = config.concurrency,
            "event source mapping started"
        );
        WORKER_HEALTH.set(1.0, []);
        Ok(RunningMapping { config, kafka: kafka.clone(), counters, stop, pollers })
    }
}

/// A running mapping. Dropping it stops the pollers at once; records in flight are delivered again.
#[derive(Debug)]
pub struct RunningMapping {
    config: Arc<MappingConfig>,
    kafka: KafkaClient,
    counters: Arc<Counters>,
    stop: watch::Sender<bool>,
    /// And the task that watches their lag.
    pollers: JoinSet<()>,
}

impl RunningMapping {
    pub fn status(&self) -> MappingStatus {
        self.counters.status()
    }

    /// Number of records that are written and not committed, over all topics (AWS: `SumOffsetLag`). A partition without
    /// a commit counts from where the group would start: its oldest record, unless the mapping starts at the end.
    ///
    /// # Errors
    /// [`EsmError::Kafka`] if the brokers do not answer.
    pub async fn lag(&self) -> Result<u64, EsmError> {
        let lags = lag::of_group(&self.kafka, &self.config).await;
        let lags = lags.map_err(|source| failed(&self.config, "reading the lag", source))?;
        Ok(lags.iter().map(|lag| lag.records).sum())
    }

    /// Stops polling, lets invocations in flight finish (up to 20 s), commits, and leaves the group.
    pub async fn stop(mut self) {
        WORKER_HEALTH.set(0.0, []);
        self.stop.send_replace(true);
        while let Some(ended) = self.pollers.join_next().await {
            if let Err(error) = ended {
                tracing::error!(group = self.config.group, %error, "a poller of an event source mapping panicked");
            }
        }
        tracing::info!(function = self.config.function, group = self.config.group, "event source mapping stopped");
    }
}

async fn outlet(to: &OnFailure, kafka: &KafkaClient, destinations: &dyn Destinations) -> Result<Outlet, KafkaError> {
    Ok(match to {
        OnFailure::Bucket(name) => Outlet::Bucket(destinations.bucket(name)),
        OnFailure::Messages(target) => Outlet::Messages(destinations.messages(target)),
        OnFailure::KafkaTopic(topic) => {
            // Now, because a topic that is missing would only be noticed when a record must be given up.
            kafka.topics().watermarks(topic).await?;
            let options = PublisherOptions { max_record_bytes: MAX_LETTER_BYTES, ..PublisherOptions::default() };
            let publisher = kafka.separate().await?.publisher(options).await?;
            // Leaked once for each mapping that starts: records to write have the static name of their topic.
            Outlet::KafkaTopic { name: topic.clone().leak(), publisher: Arc::new(publisher) }
        }
    })
}

fn failed(config: &MappingConfig, doing: &'static str, source: KafkaError) -> EsmError {
    EsmError::Kafka { group: config.group.clone(), doing, source: Box::new(source) }
}
