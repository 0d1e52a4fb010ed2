//! The addresses of the brokers and the security of the connection.

use std::time::Duration;

use settings::Settings;
use strum::{EnumString, VariantNames};

/// Longest wait for one answer of a broker. A function's own deadlines are shorter; this ends requests whose caller has
/// already given up.
pub(crate) const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// How connections are protected.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, EnumString, VariantNames)]
#[strum(serialize_all = "lowercase")]
pub enum Security {
    /// No encryption: the local stack, and networks that are private by other means.
    #[default]
    Plaintext,
    /// TLS, verified against the Mozilla roots compiled into the binary.
    Tls,
    /// TLS and SASL `AWS_MSK_IAM`, with the credentials of the AWS SDK's default chain.
    Iam,
}

/// Where the first connection goes. That broker names the others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Bootstrap {
    /// Comma-separated `host:port`.
    Brokers(String),
    /// The ARN of an MSK cluster, whose brokers are looked up when connecting.
    MskCluster(String),
}

/// A Kafka cluster, as configured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KafkaConfig {
    /// `KAFKA_BROKERS` (comma-separated `host:port`), or else `MSK_CLUSTER_ARN`. No default.
    pub bootstrap: Bootstrap,
    /// `KAFKA_SECURITY`: `plaintext` (default), `tls` or `iam`.
    pub security: Security,
}

impl KafkaConfig {
    /// A plaintext cluster, for the local stack and tests.
    pub fn plaintext(brokers: impl Into<String>) -> Self {
        KafkaConfig { bootstrap: Bootstrap::Brokers(brokers.into()), security: Security::Plaintext }
    }

    /// Reads `KAFKA_BROKERS`, `MSK_CLUSTER_ARN` and `KAFKA_SECURITY`. `None` only after a problem was recorded.
    pub fn from_settings(settings: &mut Settings<'_>) -> Option<Self> {
        let brokers = settings.optional::<String>("KAFKA_BROKERS");
        let cluster = settings.optional::<String>("MSK_CLUSTER_ARN");
        let security = settings.choice("KAFKA_SECURITY", Security::default());
        let bootstrap = brokers.map(Bootstrap::Brokers).or_else(|| cluster.map(Bootstrap::MskCluster));
        if bootstrap.is_none() {
            settings.problem("neither KAFKA_BROKERS nor MSK_CLUSTER_ARN is set");
        }
        Some(KafkaConfig { bootstrap: bootstrap?, security })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn read(variables: &[(&'static str, &'static str)]) -> Result<KafkaConfig, String> {
        let variables: BTreeMap<&str, &str> = variables.iter().copied().collect();
        let mut settings = Settings::new(&variables);
        let config = KafkaConfig::from_settings(&mut settings);
        settings.build(config).map_err(|error| error.to_string())
    }

    #[test]
    fn brokers_win_over_the_cluster() {
        let config = read(&[("KAFKA_BROKERS", "a:1,b:2"), ("MSK_CLUSTER_ARN", "arn"), ("KAFKA_SECURITY", "tls")]);
        let expected = KafkaConfig { bootstrap: Bootstrap::Brokers("a:1,b:2".into()), security: Security::Tls };
        assert_eq!(config.unwrap(), expected);
    }

    #[test]
    fn a_cluster_alone_will_do_and_plaintext_is_the_default() {
        let config = read(&[("MSK_CLUSTER_ARN", "arn")]).unwrap();
        assert_eq!(config.bootstrap, Bootstrap::MskCluster("arn".into()));
        assert_eq!(config.security, Security::Plaintext);
    }

    #[test]
    fn every_problem_is_named() {
        let problems = read(&[("KAFKA_SECURITY", "ssl")]).unwrap_err();
        assert!(problems.contains("KAFKA_BROKERS") && problems.contains("KAFKA_SECURITY=\"ssl\""), "{problems}");
        assert!(problems.contains("plaintext, tls, iam"), "{problems}");
    }
}
