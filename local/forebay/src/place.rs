//! Where a pipeline runs, and how it is reached there.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use aws_sdk_lambda::error::{DisplayErrorContext, ProvideErrorMetadata as _, SdkError};
use aws_sdk_lambda::operation::invoke::InvokeError;
use aws_sdk_lambda::primitives::Blob;
use clap::{Args, ValueEnum};
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::Value;
use settings::{ProcessEnvironment, SecretFile, Settings, Variables as _};

use crate::client::AnywhereClient;
use crate::ending::{Ending, Stop};
use crate::function_call::{FunctionFailure, invoke, invoke_url, says_failure};
use crate::session::Session;

/// Longest time that a function of AWS works.
const LONGEST_CALL: Duration = Duration::from_secs(900);

/// Where the pipeline runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Place {
    /// `make run` on this machine.
    Local,
    /// `make stack-up` on this machine.
    Compose,
    /// A cluster; functions are reached through `kubectl port-forward`.
    Kube,
    /// AWS; functions are invoked with the credentials that the AWS SDK finds.
    Aws,
}

impl Place {
    /// Whether the project's folder has the addresses.
    fn has_session(self) -> bool {
        matches!(self, Place::Local | Place::Compose)
    }

    fn how_to_start(self) -> &'static str {
        match self {
            Place::Local => "start it with `make run`, and call forebay in the project's folder",
            Place::Compose => "start it with `make stack-up`, and call forebay in the project's folder",
            Place::Kube => {
                "run `kubectl -n forebay port-forward deployment/maintainer 9000:8080` (or redriver, replayer) beside it, \
                 and set AWS_ENDPOINT_URL_LAMBDA=http://127.0.0.1:9000"
            }
            Place::Aws => "see docs/deploy-aws.md",
        }
    }
}

/// How the pipeline is reached.
#[derive(Debug, Args)]
#[command(next_help_heading = "How the pipeline is reached")]
pub struct Reaching {
    /// Where the pipeline runs.
    #[arg(long, env = "FOREBAY_PLACE", value_enum, default_value = "local", hide_env_values = true, global = true)]
    place: Place,
    /// The address of ingest, and of query unless --query-url names another. Locally the ports of `make run`.
    #[arg(long, env = "FOREBAY_URL", value_name = "URL", hide_env_values = true, global = true)]
    url: Option<String>,
    /// The address of query.
    #[arg(long, env = "FOREBAY_QUERY_URL", value_name = "URL", hide_env_values = true, global = true)]
    query_url: Option<String>,
    /// A file with the API key; without it the key is read from FOREBAY_KEY, or from the file that FOREBAY_KEY_FILE names.
    #[arg(long, value_name = "FILE", global = true)]
    key_file: Option<PathBuf>,
    /// What stands before the names of the functions on AWS, such as `forebay-dev-`.
    #[arg(
        long,
        env = "FOREBAY_FUNCTION_PREFIX",
        value_name = "PREFIX",
        default_value = "",
        hide_env_values = true,
        hide_default_value = true,
        global = true
    )]
    function_prefix: String,
}

/// A pipeline from outside.
#[derive(Debug)]
pub struct ReachedPipeline {
    pub place: Place,
    pub client: AnywhereClient,
    session: Session,
    function_prefix: String,
    ingest: Option<String>,
    query: Option<String>,
    key_file: Option<PathBuf>,
}

impl Reaching {
    /// Makes no call.
    ///
    /// # Errors
    /// If the file of a running stack cannot be read.
    pub fn pipeline(self) -> anyhow::Result<ReachedPipeline> {
        let session = if self.place.has_session() { Session::read()? } else { Session::default() };
        let port = |name: &str, default: &str| {
            let local = self.place.has_session();
            local.then(|| format!("http://127.0.0.1:{}", session.get(name).unwrap_or_else(|| default.to_owned())))
        };
        let given = self.url.as_deref().map(base);
        let ingest = given.clone().or_else(|| port("INGEST_PORT", "8080"));
        let query = self.query_url.as_deref().map(base).or(given).or_else(|| port("QUERY_PORT", "8081"));
        Ok(ReachedPipeline {
            place: self.place,
            client: AnywhereClient::with_tls()?,
            session,
            function_prefix: self.function_prefix,
            ingest,
            query,
            key_file: self.key_file,
        })
    }
}

/// The address before `/events`.
fn base(url: &str) -> String {
    let url = url.trim_end_matches('/');
    url.strip_suffix("/events").unwrap_or(url).to_owned()
}

impl ReachedPipeline {
    /// Where ingest is, without a path.
    ///
    /// # Errors
    /// If nobody has said it.
    pub fn ingest(&self) -> anyhow::Result<&str> {
        self.ingest.as_deref().ok_or_else(|| Stop::wrong_use("say where ingest is: --url or FOREBAY_URL"))
    }

    /// Where query is, without a path.
    ///
    /// # Errors
    /// If nobody has said it.
    pub fn query(&self) -> anyhow::Result<&str> {
        self.query
            .as_deref()
            .ok_or_else(|| Stop::wrong_use("say where query is: --query-url, or --url if both are one"))
    }

    /// The API key. It is never an argument, which every user of the machine could see.
    ///
    /// # Errors
    /// If there is none.
    pub fn key(&self) -> anyhow::Result<SecretString> {
        if let Some(file) = &self.key_file {
            return SecretFile(file.clone()).read().map_err(|error| {
                Stop::wrong_use(format!(
                    "cannot read the API key from {}: {:#}",
                    file.display(),
                    anyhow::Error::from(error)
                ))
            });
        }
        let mut settings = Settings::new(&ProcessEnvironment);
        let key = settings.secret("FOREBAY_KEY");
        settings.build(Some(key)).map_err(|error| Stop::wrong_use(error.to_string()))?.ok_or_else(|| {
            let text = "there is no API key: set FOREBAY_KEY or FOREBAY_KEY_FILE, or give --key-file; \
                        `forebay keys create` makes one";
            Stop::with(Ending::NotAllowed, text)
        })
    }

    /// Calls a function with an event, and waits for its answer.
    ///
    /// # Errors
    /// If there is no answer, or the function failed or refused.
    pub async fn call(&self, function: &str, event: &Value) -> anyhow::Result<Value> {
        match self.place {
            Place::Aws => self.call_on_aws(function, event).await,
            Place::Local | Place::Compose | Place::Kube => self.call_by_http(function, event).await,
        }
    }

    /// Where the Invoke API is, in a place without AWS.
    ///
    /// # Errors
    /// If nobody has said it.
    fn invoke_api(&self) -> anyhow::Result<String> {
        let endpoint = self.session.get("AWS_ENDPOINT_URL_LAMBDA");
        endpoint.map(|endpoint| endpoint.trim_end_matches('/').to_owned()).ok_or_else(|| {
            Stop::wrong_use(format!(
                "nobody has said where functions are called (AWS_ENDPOINT_URL_LAMBDA): {}",
                self.place.how_to_start()
            ))
        })
    }

    async fn call_by_http(&self, function: &str, event: &Value) -> anyhow::Result<Value> {
        let url = invoke_url(&self.invoke_api()?, function);
        match invoke(&self.client, &url, event.to_string()).await {
            Ok(answer) => Ok(answer),
            Err(error) => Err(match error.downcast::<FunctionFailure>() {
                Ok(failure) => failed(function, &failure),
                Err(error) => error.context(format!("{function} cannot be called: {}", self.place.how_to_start())),
            }),
        }
    }

    async fn call_on_aws(&self, function: &str, event: &Value) -> anyhow::Result<Value> {
        let client = invoke::patient_client(&aws::sdk_config().await, LONGEST_CALL);
        let name = format!("{}{function}", self.function_prefix);
        let payload = Blob::new(event.to_string());
        let answer = client.invoke().function_name(&name).payload(payload).send().await;
        let answer = answer.map_err(|error| not_called(&name, &error))?;
        let body = answer.payload.map(Blob::into_inner).unwrap_or_default();
        if answer.function_error.is_some() || says_failure(&body) {
            return Err(failed(function, &FunctionFailure::new(&body)));
        }
        serde_json::from_slice(&body).with_context(|| format!("the answer of {function} is not JSON"))
    }
}

/// What a function says of a request that it does not carry out. Everything else is a failure.
const REFUSALS: [&str; 6] =
    ["bad-request", "unknown-key", "dead-key", "unknown-webhook", "too-many-webhooks", "no-webhook-key"];

fn failed(function: &str, failure: &FunctionFailure) -> anyhow::Error {
    match failure.error_type() {
        Some(kind) if REFUSALS.contains(&kind.as_str()) => {
            Stop::with(Ending::Refused, format!("{function} refuses: {}", failure.message()))
        }
        Some(kind) => anyhow::anyhow!("{function} failed with {kind}: {}", failure.message()),
        None => anyhow::anyhow!("{function} failed: {}", failure.message()),
    }
}

/// Why AWS did not call a function.
fn not_called(name: &str, error: &SdkError<InvokeError>) -> anyhow::Error {
    let code = error.code().unwrap_or_default();
    let chain = DisplayErrorContext(error).to_string();
    match code {
        "ResourceNotFoundException" => Stop::wrong_use(format!(
            "AWS has no function {name}: --function-prefix says what stands before the names, AWS_REGION where they are"
        )),
        "AccessDeniedException" => Stop::with(
            Ending::NotAllowed,
            format!("the AWS credentials may not call {name}: they need lambda:InvokeFunction on it"),
        ),
        "UnrecognizedClientException" | "ExpiredTokenException" | "InvalidSignatureException" => Stop::with(
            Ending::NotAllowed,
            format!("AWS refuses the credentials ({code}): sign in again, and check the clock"),
        ),
        "" if chain.contains("credentials") => {
            Stop::with(Ending::NotAllowed, "there are no AWS credentials: sign in, or set AWS_PROFILE")
        }
        _ => anyhow::anyhow!("{name} cannot be called: {chain}"),
    }
}

/// The header of the API key.
pub fn key_header(key: &SecretString) -> [(&'static str, &str); 1] {
    [("x-api-key", key.expose_secret())]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_may_be_that_of_the_events() {
        for url in ["https://a.example", "https://a.example/", "https://a.example/events", "https://a.example/events/"]
        {
            assert_eq!(base(url), "https://a.example");
        }
        assert_eq!(base("https://a.example/dev/events"), "https://a.example/dev");
    }

    #[test]
    fn a_refusal_is_told_from_a_failure() {
        let of = |body: &str| {
            let error = failed("maintainer", &FunctionFailure::new(body.as_bytes()));
            (Ending::of(&error), error.to_string())
        };
        assert_eq!(
            of(r#"{"errorType":"bad-request","errorMessage":"field \"address\": invalid"}"#),
            (Ending::Refused, "maintainer refuses: field \"address\": invalid".to_owned())
        );
        assert_eq!(
            of(r#"{"errorType":"postgres","errorMessage":"no connection"}"#),
            (Ending::Failed, "maintainer failed with postgres: no connection".to_owned())
        );
        assert_eq!(
            of("Task timed out after 3.00 seconds"),
            (Ending::Failed, "maintainer failed: Task timed out after 3.00 seconds".to_owned())
        );
    }
}
