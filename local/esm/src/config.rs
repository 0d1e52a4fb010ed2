//! The configuration of a mapping. Its file has the format of the AWS API's `CreateEventSourceMapping` request, so that
//! the same file works here and with `aws lambda create-event-source-mapping --cli-input-json`.

use std::num::NonZeroUsize;
use std::ops::RangeInclusive;
use std::time::Duration;

use ::event::Timestamp;
use kafka::StartingPosition;
use serde::Deserialize;

use crate::error::EsmError;
use crate::filter::RecordFilters;
use crate::on_failure::OnFailure;

/// AWS's maximum batch size.
const MAX_BATCH_SIZE: usize = 10_000;
/// AWS's maximum batching window.
const MAX_WINDOW: Duration = Duration::from_secs(300);
/// AWS's maximum number of pollers of one mapping.
const MAX_POLLERS: usize = 2000;

/// AWS's maximum number of retries.
const MAX_RETRIES: i64 = 10_000;
/// What AWS makes of endless retries when there is an on-failure destination.
const RETRIES_WITH_DESTINATION: u32 = 10;
/// AWS's bounds of a record's age, in seconds.
const RECORD_AGE_SEC: RangeInclusive<i64> = 60..=604_800;

/// The source of the records, as named in the event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EventSource {
    /// An MSK cluster, by its ARN.
    Msk {
        arn: String,
    },
    SelfManaged,
}

/// AWS has two ways of running pollers. Only the second supports retry controls and partial answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PollerMode {
    OnDemand,
    Provisioned,
}

/// An event source mapping.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MappingConfig {
    /// Name or ARN.
    pub function: String,
    pub topics: Vec<String>,
    /// The consumer group; each mapping needs its own. Committed offsets override the starting position.
    pub group: String,
    pub starting_position: StartingPosition,
    /// Maximum number of records of one invocation: 1 to 10,000.
    pub batch_size: usize,
    /// Maximum time for a batch to fill, from its first record on; at most 300 s. AWS accepts whole seconds and uses
    /// 500 ms by default.
    pub window: Duration,
    pub mode: PollerMode,
    /// Members of the group. More members than partitions are useless. AWS varies the number; here it is fixed.
    pub pollers: usize,
    /// Maximum number of invocations at once, over all pollers. Without it the partitions are the limit: each is in at
    /// most one invocation. A request to AWS has no such field.
    pub concurrency: Option<NonZeroUsize>,
    /// Which records the function gets. The others are committed without it.
    pub filters: RecordFilters,
    /// `ReportBatchItemFailures`: the function names the records that must be sent again.
    pub partial_answers: bool,
    /// `BisectBatchOnFunctionError`: a batch of several records with which the function fails is split in two. Provisioned
    /// mode only.
    pub bisect: bool,
    /// How often a batch is sent again after a function error; `None` is without a limit. Provisioned mode only.
    pub retries: Option<u32>,
    /// A batch whose oldest record is older is not sent again after a function error. Provisioned mode only.
    pub record_age: Option<Duration>,
    /// Where records go that are given up. With a destination, endless retries are ten, as on AWS.
    pub on_failure: Option<OnFailure>,
    pub source: EventSource,
    /// The brokers, as named in the event: comma-separated `host:port`.
    pub bootstrap_servers: String,
}

impl MappingConfig {
    /// A mapping with AWS's defaults: on demand, from the oldest record, 100 records or 500 ms, one poller, as
    /// many invocations at once as partitions.
    pub fn new(function: impl Into<String>, topic: impl Into<String>, group: impl Into<String>) -> Self {
        MappingConfig {
            function: function.into(),
            topics: vec![topic.into()],
            group: group.into(),
            starting_position: StartingPosition::TrimHorizon,
            batch_size: 100,
            window: Duration::from_millis(500),
            mode: PollerMode::OnDemand,
            pollers: 1,
            concurrency: None,
            filters: RecordFilters::default(),
            partial_answers: false,
            bisect: false,
            retries: None,
            record_age: None,
            on_failure: None,
            source: EventSource::SelfManaged,
            bootstrap_servers: String::new(),
        }
    }

    /// Reads a `CreateEventSourceMapping` request. `brokers` are the addresses of Kafka, which a request for MSK does
    /// not contain.
    ///
    /// # Errors
    /// [`EsmError::Config`] for anything that AWS would refuse, and for a field that is not supported here: silently
    /// ignoring a retry limit would be worse than refusing it.
    pub fn from_json(text: &str, brokers: &str) -> Result<Self, EsmError> {
        let request: CreateMappingRequest = serde_json::from_str(text).map_err(|error| EsmError::Config {
            reason: format!("not a usable CreateEventSourceMapping request: {error}"),
        })?;
        request.into_config(brokers)
    }

    /// Reads the same request as YAML, with the same names.
    ///
    /// # Errors
    /// As [`MappingConfig::from_json`]. An unknown field, or a value of another type, is shown with its line.
    pub fn from_yaml(text: &str, brokers: &str) -> Result<Self, EsmError> {
        let request: CreateMappingRequest = serde_saphyr::from_str(text).map_err(|error| EsmError::Config {
            // One line, which has the place: logs have no room for a picture of it.
            reason: format!("not a usable CreateEventSourceMapping request: {}", error.without_snippet()),
        })?;
        request.into_config(brokers)
    }

    /// # Errors
    /// [`EsmError::Config`] names the first value that AWS would refuse.
    pub fn validate(&self) -> Result<(), EsmError> {
        let refuse = |reason: &str| Err(EsmError::Config { reason: reason.to_owned() });
        if self.function.is_empty() || self.group.is_empty() {
            return refuse("function and consumer group must be given");
        }
        if self.topics.is_empty() {
            return refuse("at least one topic must be given");
        }
        if !(1..=MAX_BATCH_SIZE).contains(&self.batch_size) {
            return refuse("the batch size must be 1 to 10,000");
        }
        if self.window > MAX_WINDOW {
            return refuse("the batching window must be at most 300 s");
        }
        if !(1..=MAX_POLLERS).contains(&self.pollers) {
            return refuse("the number of pollers must be 1 to 2,000");
        }
        if self.partial_answers && self.mode == PollerMode::OnDemand {
            return refuse("ReportBatchItemFailures needs provisioned mode (ProvisionedPollerConfig)");
        }
        if self.bisect && self.mode == PollerMode::OnDemand {
            return refuse("BisectBatchOnFunctionError needs provisioned mode (ProvisionedPollerConfig)");
        }
        if (self.retries.is_some() || self.record_age.is_some()) && self.mode == PollerMode::OnDemand {
            return refuse(
                "MaximumRetryAttempts and MaximumRecordAgeInSeconds need provisioned mode (ProvisionedPollerConfig)",
            );
        }
        if let Some(OnFailure::KafkaTopic(topic)) = &self.on_failure {
            if self.mode == PollerMode::OnDemand {
                return refuse(
                    "a Kafka topic as on-failure destination needs provisioned mode (ProvisionedPollerConfig)",
                );
            }
            if self.topics.contains(topic) {
                return refuse("the on-failure destination may not be a topic that the mapping reads");
            }
        }
        Ok(())
    }

    /// How often a batch is sent again after a function error.
    pub(crate) fn max_retries(&self) -> Option<u32> {
        let capped = self.on_failure.as_ref().map(|_| RETRIES_WITH_DESTINATION);
        self.retries.or(capped)
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct CreateMappingRequest {
    function_name: String,
    topics: Vec<String>,
    starting_position: RequestPosition,
    /// Seconds since the epoch, as in the AWS CLI.
    starting_position_timestamp: Option<f64>,
    batch_size: Option<usize>,
    maximum_batching_window_in_seconds: Option<u64>,
    #[serde(default)]
    function_response_types: Vec<ResponseType>,
    event_source_arn: Option<String>,
    self_managed_event_source: Option<SelfManagedSource>,
    amazon_managed_kafka_event_source_config: Option<GroupConfig>,
    self_managed_kafka_event_source_config: Option<GroupConfig>,
    provisioned_poller_config: Option<PollerConfig>,
    /// −1 is without a limit, here and in the next field.
    maximum_retry_attempts: Option<i64>,
    maximum_record_age_in_seconds: Option<i64>,
    destination_config: Option<DestinationConfig>,
    bisect_batch_on_function_error: Option<bool>,
    #[serde(default)]
    filter_criteria: FilterCriteria,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct FilterCriteria {
    #[serde(default)]
    filters: Vec<Filter>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct Filter {
    pattern: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct DestinationConfig {
    on_failure: Option<DestinationField>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct DestinationField {
    destination: Option<String>,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
enum RequestPosition {
    TrimHorizon,
    Latest,
    AtTimestamp,
}

#[derive(Deserialize)]
enum ResponseType {
    ReportBatchItemFailures,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct SelfManagedSource {
    endpoints: Endpoints,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Endpoints {
    #[serde(rename = "KAFKA_BOOTSTRAP_SERVERS")]
    kafka_bootstrap_servers: Vec<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct GroupConfig {
    consumer_group_id: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct PollerConfig {
    minimum_pollers: Option<usize>,
    /// Accepted, so that a file for AWS can be used; here the number stays at the minimum.
    #[serde(rename = "MaximumPollers")]
    _maximum_pollers: Option<usize>,
}

impl CreateMappingRequest {
    fn into_config(self, brokers: &str) -> Result<MappingConfig, EsmError> {
        let refuse = |reason: &str| EsmError::Config { reason: reason.to_owned() };
        let (source, bootstrap_servers, group) = match (self.event_source_arn, self.self_managed_event_source) {
            (Some(arn), None) => {
                (EventSource::Msk { arn }, brokers.to_owned(), self.amazon_managed_kafka_event_source_config)
            }
            (None, Some(source)) => (
                EventSource::SelfManaged,
                source.endpoints.kafka_bootstrap_servers.join(","),
                self.self_managed_kafka_event_source_config,
            ),
            (Some(_), Some(_)) | (None, None) => {
                return Err(refuse("one of EventSourceArn and SelfManagedEventSource must be given"));
            }
        };
        // AWS falls back to the mapping's UUID, which would not survive a restart here.
        let group = group.ok_or_else(|| refuse("ConsumerGroupId must be given"))?.consumer_group_id;
        let starting_position = match (self.starting_position, self.starting_position_timestamp) {
            (RequestPosition::TrimHorizon, None) => StartingPosition::TrimHorizon,
            (RequestPosition::Latest, None) => StartingPosition::Latest,
            (RequestPosition::AtTimestamp, Some(seconds)) => {
                let since_epoch = Duration::try_from_secs_f64(seconds)
                    .map_err(|_| refuse("StartingPositionTimestamp must be seconds since the epoch"))?;
                StartingPosition::AtTimestamp(Timestamp::from_millis(0).plus(since_epoch))
            }
            (RequestPosition::AtTimestamp, None)
            | (RequestPosition::TrimHorizon | RequestPosition::Latest, Some(_)) => {
                return Err(refuse("StartingPositionTimestamp must be given with AT_TIMESTAMP, and only with it"));
            }
        };
        let retries = match self.maximum_retry_attempts {
            None | Some(-1) => None,
            Some(retries) if (0..=MAX_RETRIES).contains(&retries) => u32::try_from(retries).ok(),
            Some(_) => return Err(refuse("MaximumRetryAttempts must be -1 or 0 to 10,000")),
        };
        let record_age = match self.maximum_record_age_in_seconds {
            None | Some(-1) => None,
            Some(seconds) if RECORD_AGE_SEC.contains(&seconds) => u64::try_from(seconds).ok().map(Duration::from_secs),
            Some(_) => return Err(refuse("MaximumRecordAgeInSeconds must be -1 or 60 to 604,800")),
        };
        let destination =
            self.destination_config.and_then(|config| config.on_failure).and_then(|on_failure| on_failure.destination);
        let on_failure = destination
            .map(|text| OnFailure::parse(&text))
            .transpose()
            .map_err(|reason| EsmError::Config { reason })?;
        let defaults = MappingConfig::new("", "", "");
        let partial_answers =
            self.function_response_types.iter().any(|kind| matches!(kind, ResponseType::ReportBatchItemFailures));
        let config = MappingConfig {
            function: self.function_name,
            topics: self.topics,
            group,
            starting_position,
            batch_size: self.batch_size.unwrap_or(defaults.batch_size),
            window: self.maximum_batching_window_in_seconds.map_or(defaults.window, Duration::from_secs),
            mode: if self.provisioned_poller_config.is_some() { PollerMode::Provisioned } else { PollerMode::OnDemand },
            pollers: self.provisioned_poller_config.and_then(|config| config.minimum_pollers).unwrap_or(1),
            concurrency: defaults.concurrency,
            filters: RecordFilters::parse(self.filter_criteria.filters.iter().map(|filter| &*filter.pattern))?,
            partial_answers,
            bisect: self.bisect_batch_on_function_error.unwrap_or(false),
            retries,
            record_age,
            on_failure,
            source,
            bootstrap_servers,
        };
        config.validate()?;
        Ok(config)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MSK: &str = r#"{
        "FunctionName": "processor",
        "EventSourceArn": "arn:aws:kafka:eu-west-1:000000000000:cluster/forebay/1",
        "Topics": ["raw-events"],
        "StartingPosition": "TRIM_HORIZON",
        "BatchSize": 500,
        "MaximumBatchingWindowInSeconds": 0,
        "FunctionResponseTypes": ["ReportBatchItemFailures"],
        "AmazonManagedKafkaEventSourceConfig": {"ConsumerGroupId": "processor"},
        "ProvisionedPollerConfig": {"MinimumPollers": 2, "MaximumPollers": 2}
    }"#;

    #[test]
    fn reads_the_request_of_the_aws_api() {
        let config = MappingConfig::from_json(MSK, "b-1:9098,b-2:9098").unwrap();
        let expected = MappingConfig {
            batch_size: 500,
            window: Duration::ZERO,
            mode: PollerMode::Provisioned,
            pollers: 2,
            partial_answers: true,
            source: EventSource::Msk { arn: "arn:aws:kafka:eu-west-1:000000000000:cluster/forebay/1".into() },
            bootstrap_servers: "b-1:9098,b-2:9098".into(),
            ..MappingConfig::new("processor", "raw-events", "processor")
        };
        assert_eq!(config, expected);
    }

    const YAML: &str = "\
FunctionName: processor
EventSourceArn: arn:aws:kafka:eu-west-1:000000000000:cluster/forebay/1
Topics: [raw-events]
StartingPosition: TRIM_HORIZON
BatchSize: 500
MaximumBatchingWindowInSeconds: 0
FunctionResponseTypes:
  - ReportBatchItemFailures
AmazonManagedKafkaEventSourceConfig: {ConsumerGroupId: processor}
ProvisionedPollerConfig:
  MinimumPollers: 2
  MaximumPollers: 2 # as many as partitions
";

    #[test]
    fn yaml_says_the_same() {
        assert_eq!(MappingConfig::from_yaml(YAML, "b").unwrap(), MappingConfig::from_json(MSK, "b").unwrap());
        // A pattern is a text, which a block takes as it is.
        let pattern = "FilterCriteria:\n  Filters:\n    - Pattern: |\n        {\"value\": [\"x\"]}\n";
        let filtered = MappingConfig::from_yaml(&format!("{YAML}{pattern}"), "b").unwrap();
        assert_eq!(filtered.filters, RecordFilters::parse([r#"{"value":["x"]}"#]).unwrap());
    }

    #[test]
    fn an_error_in_yaml_points_at_its_line() {
        for (old, new, expected) in [
            ("BatchSize: 500", "BatchSizes: 500", ["BatchSizes", "line 5"]),
            ("BatchSize: 500", "BatchSize: many", ["invalid u64", "line 5"]),
            ("  MinimumPollers: 2", "  MinimumPollers: 2\n  MinimumPollers: 3", ["MinimumPollers", "line 12"]),
            ("Topics: [raw-events]", "Topics: [raw-events", ["", "line 4"]),
        ] {
            let text = YAML.replace(old, new);
            assert_ne!(text, YAML, "{old}");
            let error = MappingConfig::from_yaml(&text, "").unwrap_err().to_string();
            assert!(expected.iter().all(|part| error.contains(part)), "{new}: {error}");
        }
    }

    #[test]
    fn a_self_managed_cluster_names_its_brokers_and_may_start_at_a_time() {
        let text = r#"{"FunctionName": "f", "Topics": ["t"], "StartingPosition": "AT_TIMESTAMP",
            "StartingPositionTimestamp": 1700000000.5,
            "SelfManagedEventSource": {"Endpoints": {"KAFKA_BOOTSTRAP_SERVERS": ["a:1", "b:2"]}},
            "SelfManagedKafkaEventSourceConfig": {"ConsumerGroupId": "g"}}"#;
        let config = MappingConfig::from_json(text, "elsewhere:9092").unwrap();
        let expected = MappingConfig {
            starting_position: StartingPosition::AtTimestamp(Timestamp::from_millis(1_700_000_000_500)),
            bootstrap_servers: "a:1,b:2".into(),
            ..MappingConfig::new("f", "t", "g")
        };
        assert_eq!(config, expected);
    }

    #[test]
    fn refuses_what_aws_refuses_and_what_is_not_supported() {
        let cases = [
            ("\"BatchSize\": 500", "\"BatchSize\": 10001", "1 to 10,000"),
            ("\"BatchSize\": 500", "\"BatchSize\": 0", "1 to 10,000"),
            ("Seconds\": 0", "Seconds\": 301", "at most 300 s"),
            ("\"MinimumPollers\": 2", "\"MinimumPollers\": 0", "pollers"),
            ("\"BatchSize\": 500", "\"MaximumRetryAttempts\": 10001", "0 to 10,000"),
            ("\"BatchSize\": 500", "\"MaximumRecordAgeInSeconds\": 59", "60 to 604,800"),
            ("\"BatchSize\": 500", "\"TumblingWindowInSeconds\": 1", "TumblingWindowInSeconds"),
            (
                "\"BatchSize\": 500",
                r#""DestinationConfig": {"OnFailure": {"Destination": "arn:aws:sqs:eu-west-1:000000000000:q.fifo"}}"#,
                "FIFO",
            ),
            (
                "\"BatchSize\": 500",
                r#""DestinationConfig": {"OnFailure": {"Destination": "kafka://raw-events"}}"#,
                "a topic that the mapping reads",
            ),
            (
                "\"BatchSize\": 500",
                r#""FilterCriteria": {"Filters": [{"Pattern": "{\"value\":[\"x\"]}"}, {"Pattern": "{\"key\":[\"x\"]}"}]}"#,
                "filter 2: key: Kafka records can be filtered by \"value\" only",
            ),
            ("\"BatchSize\": 500", r#""FilterCriteria": {"Filters": [{}]}"#, "Pattern"),
            ("\"TRIM_HORIZON\"", "\"AT_TIMESTAMP\"", "StartingPositionTimestamp"),
            ("\"Topics\": [\"raw-events\"]", "\"Topics\": []", "topic"),
            (
                "\"ProvisionedPollerConfig\": {\"MinimumPollers\": 2, \"MaximumPollers\": 2}",
                "\"BatchSize\": 1",
                "duplicate",
            ),
        ];
        for (old, new, expected) in cases {
            let text = MSK.replace(old, new);
            assert_ne!(text, MSK, "{old}");
            let error = MappingConfig::from_json(&text, "").unwrap_err().to_string();
            assert!(error.contains(expected), "{new}: {error}");
        }
    }

    #[test]
    fn filters_are_read_and_an_empty_object_removes_them() {
        let read = |criteria: &str| {
            let text = MSK.replace("\"BatchSize\": 500", &format!("\"FilterCriteria\": {criteria}"));
            MappingConfig::from_json(&text, "").unwrap().filters
        };
        let filters = read(r#"{"Filters": [{"Pattern": "{\"value\":[\"x\"]}"}]}"#);
        assert_eq!(filters, RecordFilters::parse([r#"{"value":["x"]}"#]).unwrap());
        assert_eq!(read("{}"), RecordFilters::default());
    }

    #[test]
    fn partial_answers_and_limits_of_retries_need_provisioned_mode() {
        let plain = MappingConfig::new("f", "t", "g");
        let partial_answers = MappingConfig { partial_answers: true, ..plain.clone() };
        let bisect = MappingConfig { bisect: true, ..plain.clone() };
        let retries = MappingConfig { retries: Some(3), ..plain.clone() };
        let topic = MappingConfig { on_failure: Some(OnFailure::KafkaTopic("other".into())), ..plain.clone() };
        let record_age = MappingConfig { record_age: Some(Duration::from_secs(60)), ..plain };
        for config in [partial_answers, bisect, retries, topic, record_age] {
            assert!(config.validate().unwrap_err().to_string().contains("provisioned mode"));
            MappingConfig { mode: PollerMode::Provisioned, ..config }.validate().unwrap();
        }
    }

    #[test]
    fn endless_retries_are_ten_with_a_destination() {
        let read = |fields: &str| {
            let text = MSK.replace("\"BatchSize\": 500", fields);
            assert_ne!(text, MSK);
            MappingConfig::from_json(&text, "").unwrap()
        };
        let destination = r#""DestinationConfig": {"OnFailure": {"Destination": "arn:aws-cn:s3:::given-up"}}"#;
        assert!(read("\"BisectBatchOnFunctionError\": true").bisect);
        let endless = read("\"MaximumRetryAttempts\": -1, \"MaximumRecordAgeInSeconds\": -1");
        assert_eq!((endless.max_retries(), endless.record_age, &endless.on_failure), (None, None, &None));
        let capped = read(destination);
        assert_eq!((capped.max_retries(), capped.on_failure), (Some(10), Some(OnFailure::Bucket("given-up".into()))));
        let stated = read(&format!("{destination}, \"MaximumRetryAttempts\": 0, \"MaximumRecordAgeInSeconds\": 60"));
        assert_eq!((stated.max_retries(), stated.record_age), (Some(0), Some(Duration::from_secs(60))));
    }
}
