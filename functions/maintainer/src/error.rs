//! Why a request fails.

use aws::secrets::SecretError;
use kafka::KafkaError;
use lambda::invocation::InvocationError;
use lambda::request::RequestError;
use pipeline::DependencyError;
use pipeline::root_key::RootKeyError;
use postgres::PostgresError;

#[derive(Debug, thiserror::Error)]
pub enum MaintainerError {
    #[error(transparent)]
    Request(#[from] RequestError),
    #[error("not enough time is left to begin the request")]
    OutOfTime,
    #[error("no API key has that hash")]
    UnknownKey,
    #[error("the API key has expired or been revoked; create a new one")]
    DeadKey,
    #[error("the topics cannot be created or checked")]
    Topics(#[source] Box<KafkaError>),
    #[error(transparent)]
    Log(DependencyError),
    #[error("{doing} failed")]
    Database {
        doing: &'static str,
        #[source]
        source: PostgresError,
    },
    #[error("a request to the access table failed")]
    Access(#[source] DependencyError),
    #[error("the claim cannot be read")]
    Claims(#[source] DependencyError),
    #[error("no webhook has that id")]
    UnknownWebhook,
    #[error("the tenant has {most} webhooks already, which is the most; delete one first")]
    TooManyWebhooks { most: u32 },
    #[error(
        "webhooks are not set up here: set WEBHOOK_KEY, from which their secrets are made, for the maintainer and the notifier"
    )]
    NoWebhookKey,
    #[error("WEBHOOK_KEY cannot be read")]
    UnreadableWebhookKey(#[source] SecretError),
    #[error("WEBHOOK_KEY cannot be used")]
    BadWebhookKey(#[source] RootKeyError),
    #[error("a request to the table of webhooks failed")]
    Webhooks(#[source] DependencyError),
    #[error("the operating system returned no random bytes")]
    Random,
    #[error("the response cannot be serialized as JSON")]
    Answer(#[source] serde_json::Error),
}

impl MaintainerError {
    pub(crate) fn topics(source: KafkaError) -> Self {
        MaintainerError::Topics(Box::new(source))
    }

    /// `doing` says what was being done, in words that can be followed by "failed".
    pub(crate) fn database(doing: &'static str) -> impl FnOnce(PostgresError) -> Self {
        move |source| MaintainerError::Database { doing, source }
    }

    pub fn tag(&self) -> &'static str {
        match self {
            MaintainerError::Request(_) => RequestError::TAG,
            MaintainerError::OutOfTime => "out-of-time",
            MaintainerError::UnknownKey => "unknown-key",
            MaintainerError::DeadKey => "dead-key",
            MaintainerError::Topics(_) => "kafka",
            MaintainerError::Database { .. } => "postgres",
            MaintainerError::UnknownWebhook => "unknown-webhook",
            MaintainerError::TooManyWebhooks { .. } => "too-many-webhooks",
            MaintainerError::NoWebhookKey => "no-webhook-key",
            MaintainerError::UnreadableWebhookKey(_) | MaintainerError::BadWebhookKey(_) => "webhook-key",
            MaintainerError::Access(error)
            | MaintainerError::Log(error)
            | MaintainerError::Claims(error)
            | MaintainerError::Webhooks(error) => error.dependency.as_str(),
            MaintainerError::Random => "random",
            MaintainerError::Answer(_) => "answer",
        }
    }
}

impl From<MaintainerError> for InvocationError {
    fn from(error: MaintainerError) -> Self {
        InvocationError::new(error.tag(), &error)
    }
}
