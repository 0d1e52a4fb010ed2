//! The function binaries: their settings, and how they are started.

use std::collections::BTreeSet;
use std::path::PathBuf;

use access::AccessConfig;
use anyhow::Context as _;
use dynamodb::DynamoDb;
use event::TenantId;
pub use forebay::function_call::{invoke, invoke_url};
use host::{FunctionConfig, FunctionElsewhere, Host, HostConfig, HttpFunction, LogTarget, RunningHttpFunction};
use pipeline::ports::{ApiKey, KeyHash, KeyKind, Scope};
use serde_json::{Value, json};
use services::postgres::url_at;
use settings::Settings;
use settings::shared::{StateStore, dedup_store};

use crate::backing::Backing;
use crate::client::JsonClient;
use crate::options::{Options, Port, Routes};
use crate::session::Session;
use crate::watch::RunningWatch;

/// Functions with an entry in the Invoke API.
pub const FUNCTIONS: [&str; 11] = [
    "ingest",
    "scorer",
    "processor",
    "archiver",
    "maintainer",
    "redriver",
    "rescorer",
    "aggregator",
    "notifier",
    "query",
    "replayer",
];

/// Dummy credentials for the embedded services. Real ones come from the environment.
pub const LOCAL_CREDENTIALS: [(&str, &str); 3] =
    [("AWS_ACCESS_KEY_ID", "local"), ("AWS_SECRET_ACCESS_KEY", "local"), ("AWS_REGION", "eu-west-1")];

/// From which the secrets of webhooks are made. A real one comes from the environment.
const LOCAL_WEBHOOK_KEY: &str = "the key of webhooks on a laptop, which is no secret";

/// Which signs the sessions of the console. A real one comes from the environment.
const LOCAL_CONSOLE_KEY: &str = "the key of the console on a laptop, which is no secret";

const DEDUP_TABLE: &str = "dedup";
const ACCESS_TABLE: &str = "access";

/// The environment of every function, with the dependencies reached through `routes`. Each function reads what it
/// needs.
pub fn environment(options: &Options, backing: &Backing, routes: &Routes) -> Vec<(String, String)> {
    let routed = |route: &Option<String>, direct: &str| route.clone().unwrap_or_else(|| direct.to_owned());
    let mut variables: Vec<(String, String)> = Vec::new();
    let mut set = |name: &str, value: &str| variables.push((name.to_owned(), value.to_owned()));
    for (name, value) in LOCAL_CREDENTIALS {
        set(name, value);
    }
    let brokers = routes.kafka.map(|port| format!("127.0.0.1:{port}"));
    set("KAFKA_BROKERS", &routed(&brokers, &backing.brokers));
    set("KAFKA_SECURITY", "plaintext");
    set("DATABASE_URL", &routed(&routes.pooler.or(routes.postgres).map(url_at), &backing.database_url));
    if routes.pooler.is_some() {
        set("DB_POOLER", "transaction");
    }
    if let Some(direct) = &backing.dynamodb_endpoint {
        set("AWS_ENDPOINT_URL_DYNAMODB", &routed(&routes.dynamodb_endpoint, direct));
    }
    set("AWS_ENDPOINT_URL_S3", &routed(&routes.s3_endpoint, &backing.s3_endpoint));
    set("AWS_ENDPOINT_URL_LAMBDA", &format!("http://{}", options.ports.lambda.address()));
    set("ARCHIVE_BUCKET", &options.bucket);
    set("DEDUP_TABLE", DEDUP_TABLE);
    set("ACCESS_TABLE", ACCESS_TABLE);
    set("TOPIC_REPLICATION_FACTOR", "1");
    // The host keeps the series that it reads from their logs.
    set("METRICS", "all");
    set("STREAM", "on");
    set("WEBHOOK_KEY", LOCAL_WEBHOOK_KEY);
    set("CONSOLE", "on");
    set("CONSOLE_KEY", LOCAL_CONSOLE_KEY);
    // The mappings are configured with ReportBatchItemFailures.
    set("BATCH_RESPONSE", "partial");
    for (name, value) in &options.function_settings {
        variables.retain(|(known, _)| known != name);
        variables.push((name.clone(), value.clone()));
    }
    variables
}

/// Maximum number of instances of one function: as many as the processor's mapping calls at once, and at least as many as
/// operators may want to run at the same time. The archiver's two mappings call one each.
pub fn instances(options: &Options) -> usize {
    options.concurrency.get().max(3)
}

/// The folder of this program, where `cargo build` puts those of the functions too. A test is in `deps`, one below.
///
/// # Errors
/// If the system does not say where this program is.
pub fn beside_this_program() -> anyhow::Result<PathBuf> {
    let program = std::env::current_exe()?;
    let folder = program.parent().context("the path of this program has no folder")?;
    Ok(folder.parent().filter(|_| folder.ends_with("deps")).unwrap_or(folder).to_owned())
}

fn program(options: &Options, name: &str) -> anyhow::Result<PathBuf> {
    let program = options.binaries.join(name);
    anyhow::ensure!(
        program.exists(),
        "{} does not exist: build it with `cargo build --workspace --bins`",
        program.display()
    );
    Ok(program)
}

/// Starts the Invoke API; instances start with their first invocation. Calls to what is watched go to `watch`.
///
/// # Errors
/// If a binary is missing or the port is taken.
pub async fn start_host(
    options: &Options,
    environment: &[(String, String)],
    watch: Option<&RunningWatch>,
) -> anyhow::Result<Host> {
    let (watched, hosted): (Vec<&str>, Vec<&str>) =
        FUNCTIONS.into_iter().partition(|name| watch.is_some_and(|watch| watch.functions.contains(name)));
    let functions = hosted
        .into_iter()
        .map(|name| {
            let mut config = FunctionConfig::new(name, program(options, name)?);
            config.env = environment.to_vec();
            config.concurrency = instances(options);
            config.timeout = options.function_timeout;
            config.log = LogTarget::File(options.logs.join(format!("{name}.log")));
            Ok(config)
        })
        .collect::<anyhow::Result<Vec<_>>>()?;
    let elsewhere = watched
        .into_iter()
        .filter_map(|name| {
            let url = invoke_url(&format!("http://{}", watch?.address), name).parse().ok()?;
            Some((name.to_owned(), FunctionElsewhere { url, one_at_a_time: false }))
        })
        .collect();
    Host::start(HostConfig { listen: options.ports.lambda.address(), functions, elsewhere })
        .await
        .context("the Lambda host did not start")
}

/// Starts a function as an HTTP server on its own ports, as in Kubernetes.
///
/// # Errors
/// If the binary is missing, or it does not become healthy.
pub async fn start_http(
    name: &str,
    port: Port,
    metrics: Port,
    options: &Options,
    environment: &[(String, String)],
) -> anyhow::Result<RunningHttpFunction> {
    let metrics = metrics.fixed().map(|port| ("OPERATIONS_PORT".to_owned(), port.to_string()));
    let function = HttpFunction {
        name: name.to_owned(),
        program: program(options, name)?,
        env: environment.iter().cloned().chain(metrics).collect(),
        port: port.number,
        log: LogTarget::File(options.logs.join(format!("{name}-http.log"))),
    };
    RunningHttpFunction::start(function).await.with_context(|| format!("{name} did not start as an HTTP server"))
}

/// The API key of the samples under `events/ingest/`.
const SAMPLE_KEY: &[u8] = b"sample-key";

/// Does what Terraform and the maintainer's first run do on AWS: makes the tables of DynamoDB if anything is kept there,
/// lets the maintainer make the rest, and adds the API key of the samples. Returns the maintainer's answer.
///
/// # Errors
/// If DynamoDB, the maintainer or the store of keys refuses.
pub async fn prepare(session: &Session) -> anyhow::Result<Value> {
    let mut settings = Settings::new(session);
    let (access, claims) = (AccessConfig::from_settings(&mut settings), dedup_store(&mut settings));
    let access = settings.build(access)?;
    let sdk = session.aws("AWS_ENDPOINT_URL_DYNAMODB").await;
    if claims == StateStore::Dynamodb || matches!(access, AccessConfig::Dynamodb { .. }) {
        dynamodb::tables::ensure(&DynamoDb::connect(&sdk).await, DEDUP_TABLE, ACCESS_TABLE).await?;
    }
    let maintain = json!({"action": "maintain"}).to_string();
    let maintained = call(session, "maintainer", maintain).await.context("the maintainer failed")?;
    let sample = ApiKey {
        hash: KeyHash::of(SAMPLE_KEY),
        tenant: TenantId::new("samples")?,
        name: "events/ingest".to_owned(),
        kind: KeyKind::Server,
        scopes: BTreeSet::from([Scope::Write, Scope::Read]),
        rate_limit_per_min: None,
        burst: None,
        expires_at: None,
        revoked: false,
    };
    access.connect(&sdk).await?.keys().put(&sample).await?;
    Ok(maintained)
}

/// Invokes a function of a running deployment with an event's JSON text.
///
/// # Errors
/// As [`invoke`], and if the session does not say where functions are.
pub async fn call(session: &Session, function: &str, event: String) -> anyhow::Result<Value> {
    invoke(&JsonClient::default(), &invoke_url(&session.require("AWS_ENDPOINT_URL_LAMBDA")?, function), event).await
}
