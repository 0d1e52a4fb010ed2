//! The addresses of the brokers and the security of the connection.

use std::path::PathBuf;
use std::time::Duration;

use settings::{SecretSource, Settings};
use strum::{EnumString, VariantNames};

/// Longest wait for one answer of a broker. A function's own deadlines are shorter; this ends requests whose caller has
/// already given up.
pub(crate) const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// How connections are protected.
#[derive(Clone, Debug)]
pub enum Security {
    /// No encryption: the local stack, and networks that are private by other means.
    Plaintext,
    Tls(TlsFiles),
    /// SASL with a name and a password, over TLS only: PLAIN sends the password itself.
    Sasl(SaslLogin, TlsFiles),
    /// SASL `AWS_MSK_IAM` over TLS, with the credentials of the AWS SDK's default chain.
    Iam(TlsFiles),
}

impl Security {
    /// The value of `KAFKA_SECURITY`.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Security::Plaintext => "plaintext",
            Security::Tls(_) => "tls",
            Security::Sasl(..) => "sasl",
            Security::Iam(_) => "iam",
        }
    }
}

/// The values of `KAFKA_SECURITY`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, EnumString, VariantNames)]
#[strum(serialize_all = "lowercase")]
enum Protocol {
    Plaintext,
    Tls,
    Sasl,
    Iam,
}

/// What both sides of a TLS connection prove themselves with. The files are PEM and are read again while the process
/// runs, so renewed certificates are used.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsFiles {
    /// `KAFKA_CA_FILE`: the only certificate authorities that are trusted. Without it these are the Mozilla roots
    /// compiled into the binary.
    pub ca: Option<PathBuf>,
    /// For brokers that ask their clients for a certificate.
    pub client: Option<ClientCertificate>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientCertificate {
    /// `KAFKA_CLIENT_CERT_FILE`: the certificate, followed by those of its issuers that the broker does not know.
    pub certificate: PathBuf,
    /// `KAFKA_CLIENT_KEY_FILE`: its private key, not encrypted.
    pub key: PathBuf,
}

/// `KAFKA_SASL_MECHANISM`, in the spelling of its registry (RFC 4616, RFC 7677).
#[derive(Clone, Copy, Debug, PartialEq, Eq, EnumString, VariantNames)]
pub enum SaslMechanism {
    #[strum(serialize = "PLAIN")]
    Plain,
    #[strum(serialize = "SCRAM-SHA-256")]
    ScramSha256,
    #[strum(serialize = "SCRAM-SHA-512")]
    ScramSha512,
}

#[derive(Clone, Debug)]
pub struct SaslLogin {
    pub mechanism: SaslMechanism,
    /// `KAFKA_SASL_USERNAME`.
    pub username: String,
    /// `KAFKA_SASL_PASSWORD`, the file of `KAFKA_SASL_PASSWORD_FILE`, or the secret of
    /// `KAFKA_SASL_PASSWORD_SECRET_ARN`.
    pub password: SecretSource,
}

/// How batches are compressed, on the way to the broker and in its log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, EnumString, VariantNames)]
#[strum(serialize_all = "lowercase")]
pub enum Compression {
    None,
    /// The only one that Azure Event Hubs takes.
    Gzip,
    #[default]
    Lz4,
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
#[derive(Clone, Debug)]
pub struct KafkaConfig {
    /// `KAFKA_BROKERS` (comma-separated `host:port`), or else `MSK_CLUSTER_ARN`. No default.
    pub bootstrap: Bootstrap,
    /// `KAFKA_SECURITY`: `plaintext` (default), `tls`, `sasl` or `iam`.
    pub security: Security,
    /// `KAFKA_COMPRESSION`: `lz4` (default), `gzip` or `none`.
    pub compression: Compression,
}

impl KafkaConfig {
    /// A plaintext cluster, for the local stack and tests.
    pub fn plaintext(brokers: impl Into<String>) -> Self {
        KafkaConfig {
            bootstrap: Bootstrap::Brokers(brokers.into()),
            security: Security::Plaintext,
            compression: Compression::default(),
        }
    }

    /// Reads `KAFKA_BROKERS`, `MSK_CLUSTER_ARN`, `KAFKA_COMPRESSION`, and `KAFKA_SECURITY` with the settings that
    /// belong to it. A setting that has no effect with the chosen security is a problem: whoever set it expects more
    /// protection than there is. `None` only after a problem was recorded.
    pub fn from_settings(settings: &mut Settings<'_>) -> Option<Self> {
        let brokers = settings.optional::<String>("KAFKA_BROKERS");
        let cluster = settings.optional::<String>("MSK_CLUSTER_ARN");
        let bootstrap = brokers.map(Bootstrap::Brokers).or_else(|| cluster.map(Bootstrap::MskCluster));
        if bootstrap.is_none() {
            settings.problem("neither KAFKA_BROKERS nor MSK_CLUSTER_ARN is set");
        }
        let compression = settings.choice("KAFKA_COMPRESSION", Compression::default());
        let protocol = settings.choice("KAFKA_SECURITY", Protocol::Plaintext);
        let tls = tls_files(settings, protocol);
        let login = sasl_login(settings, protocol);
        let security = match protocol {
            Protocol::Plaintext => Security::Plaintext,
            Protocol::Tls => Security::Tls(tls),
            Protocol::Sasl => Security::Sasl(login?, tls),
            Protocol::Iam => Security::Iam(tls),
        };
        Some(KafkaConfig { bootstrap: bootstrap?, security, compression })
    }
}

fn tls_files(settings: &mut Settings<'_>, protocol: Protocol) -> TlsFiles {
    let ca = settings.optional::<PathBuf>("KAFKA_CA_FILE");
    let certificate = settings.optional::<PathBuf>("KAFKA_CLIENT_CERT_FILE");
    let key = settings.optional::<PathBuf>("KAFKA_CLIENT_KEY_FILE");
    let files = [("KAFKA_CA_FILE", &ca), ("KAFKA_CLIENT_CERT_FILE", &certificate), ("KAFKA_CLIENT_KEY_FILE", &key)];
    if protocol == Protocol::Plaintext {
        for (name, _) in files.into_iter().filter(|(_, file)| file.is_some()) {
            settings.problem(format!("{name} is set, but KAFKA_SECURITY=plaintext does not encrypt"));
        }
    }
    if certificate.is_some() != key.is_some() {
        settings.problem("KAFKA_CLIENT_CERT_FILE and KAFKA_CLIENT_KEY_FILE need each other; only one is set");
    }
    let client = certificate.zip(key).map(|(certificate, key)| ClientCertificate { certificate, key });
    TlsFiles { ca, client }
}

/// `None` unless the login is complete.
fn sasl_login(settings: &mut Settings<'_>, protocol: Protocol) -> Option<SaslLogin> {
    let mechanism = settings.optional_choice::<SaslMechanism>("KAFKA_SASL_MECHANISM");
    let username = settings.optional::<String>("KAFKA_SASL_USERNAME");
    let password = settings.secret_source("KAFKA_SASL_PASSWORD");
    let parts = [
        ("KAFKA_SASL_MECHANISM", mechanism.is_some()),
        ("KAFKA_SASL_USERNAME", username.is_some()),
        ("KAFKA_SASL_PASSWORD", password.is_some()),
    ];
    for (name, is_set) in parts {
        if protocol == Protocol::Sasl && !is_set {
            settings.problem(format!("KAFKA_SECURITY=sasl needs {name}, which is not set or not usable"));
        }
        if protocol != Protocol::Sasl && is_set {
            settings.problem(format!("{name} is set, but only KAFKA_SECURITY=sasl uses it"));
        }
    }
    Some(SaslLogin { mechanism: mechanism?, username: username?, password: password? })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use secrecy::ExposeSecret as _;

    use super::*;

    const BROKERS: (&str, &str) = ("KAFKA_BROKERS", "a:1,b:2");

    fn read(variables: &[(&'static str, &'static str)]) -> Result<KafkaConfig, Vec<String>> {
        let variables: BTreeMap<&str, &str> = variables.iter().copied().collect();
        let mut settings = Settings::new(&variables);
        let config = KafkaConfig::from_settings(&mut settings);
        settings.build(config).map_err(|error| error.problems)
    }

    #[test]
    fn brokers_win_over_the_cluster() {
        let config = read(&[BROKERS, ("MSK_CLUSTER_ARN", "arn"), ("KAFKA_SECURITY", "tls")]).unwrap();
        assert_eq!(config.bootstrap, Bootstrap::Brokers("a:1,b:2".into()));
        assert!(matches!(config.security, Security::Tls(files) if files == TlsFiles::default()));
    }

    #[test]
    fn a_cluster_alone_will_do_and_plaintext_is_the_default() {
        let config = read(&[("MSK_CLUSTER_ARN", "arn")]).unwrap();
        assert_eq!(config.bootstrap, Bootstrap::MskCluster("arn".into()));
        assert!(matches!(config.security, Security::Plaintext));
    }

    #[test]
    fn every_problem_is_named() {
        let problems = read(&[("KAFKA_SECURITY", "ssl")]).unwrap_err().join("; ");
        assert!(problems.contains("KAFKA_BROKERS") && problems.contains("KAFKA_SECURITY=\"ssl\""), "{problems}");
        assert!(problems.contains("plaintext, tls, sasl, iam"), "{problems}");
    }

    #[test]
    fn a_login_goes_over_tls() {
        for (name, mechanism) in [
            ("PLAIN", SaslMechanism::Plain),
            ("SCRAM-SHA-256", SaslMechanism::ScramSha256),
            ("SCRAM-SHA-512", SaslMechanism::ScramSha512),
        ] {
            let config = read(&[
                BROKERS,
                ("KAFKA_SECURITY", "sasl"),
                ("KAFKA_SASL_MECHANISM", name),
                ("KAFKA_SASL_USERNAME", "forebay"),
                ("KAFKA_SASL_PASSWORD", "s3cret"),
                ("KAFKA_CA_FILE", "/ca.pem"),
                ("KAFKA_CLIENT_CERT_FILE", "/cert.pem"),
                ("KAFKA_CLIENT_KEY_FILE", "/key.pem"),
            ])
            .unwrap();
            assert!(!format!("{config:?}").contains("s3cret"), "{config:?}");
            let Security::Sasl(login, files) = config.security else { panic!("{config:?}") };
            assert_eq!((login.mechanism, login.username.as_str()), (mechanism, "forebay"));
            let SecretSource::Value(password) = &login.password else { panic!("{login:?}") };
            assert_eq!(password.expose_secret(), "s3cret");
            let client = ClientCertificate { certificate: "/cert.pem".into(), key: "/key.pem".into() };
            assert_eq!(files, TlsFiles { ca: Some("/ca.pem".into()), client: Some(client) });
        }
    }

    #[test]
    fn a_login_that_is_incomplete_or_of_no_effect_is_refused() {
        let problems = read(&[BROKERS, ("KAFKA_SECURITY", "sasl"), ("KAFKA_SASL_MECHANISM", "GSSAPI")]).unwrap_err();
        assert!(problems[0].contains("must be one of PLAIN, SCRAM-SHA-256, SCRAM-SHA-512"), "{problems:?}");
        for (problem, name) in problems[1..].iter().zip(["MECHANISM", "USERNAME", "PASSWORD"]) {
            assert!(problem.starts_with(&format!("KAFKA_SECURITY=sasl needs KAFKA_SASL_{name},")), "{problem}");
        }
        assert_eq!(problems.len(), 4, "{problems:?}");

        for security in ["plaintext", "tls", "iam"] {
            let login = [("KAFKA_SASL_USERNAME", "forebay"), ("KAFKA_SASL_PASSWORD", "s3cret")];
            let problems = read(&[&[BROKERS, ("KAFKA_SECURITY", security)], &login[..]].concat()).unwrap_err();
            assert_eq!(problems.len(), 2, "{problems:?}");
            assert!(problems.iter().all(|problem| problem.contains("only KAFKA_SECURITY=sasl")), "{problems:?}");
        }
    }

    #[test]
    fn files_that_protect_nothing_are_refused() {
        let files = [
            ("KAFKA_CA_FILE", "/ca.pem"),
            ("KAFKA_CLIENT_CERT_FILE", "/cert.pem"),
            ("KAFKA_CLIENT_KEY_FILE", "/key.pem"),
        ];
        let problems = read(&[&[BROKERS], &files[..]].concat()).unwrap_err();
        for ((name, _), problem) in files.iter().zip(&problems) {
            assert_eq!(*problem, format!("{name} is set, but KAFKA_SECURITY=plaintext does not encrypt"));
        }
        for half in &files[1..] {
            let problems = read(&[BROKERS, ("KAFKA_SECURITY", "tls"), *half]).unwrap_err();
            assert!(problems[0].contains("need each other"), "{problems:?}");
        }
        for security in ["tls", "iam"] {
            read(&[&[BROKERS, ("KAFKA_SECURITY", security)], &files[..]].concat()).unwrap();
        }
    }
}
