//! Runs event source mappings until SIGTERM or SIGINT, checks their files, or calls a function once.

use std::io::Write as _;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, bail};
use clap::{Parser, Subcommand};
use esm::{FunctionUrl, Functions, LambdaInvoker, Mapping, MappingConfig, UrlInvoker, call};
use kafka::{KafkaClient, KafkaConfig};
use process::health::HealthPort;
use settings::{ProcessEnvironment, Settings};
use telemetry::Output;

/// The Kafka event source mapping of AWS Lambda as a program.
///
/// KAFKA_BROKERS (or MSK_CLUSTER_ARN) and KAFKA_SECURITY say where Kafka is, AWS_ENDPOINT_URL_LAMBDA or FUNCTION_URLS where
/// the functions are.
#[derive(Parser)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    /// Files with one CreateEventSourceMapping request each, in the format of the AWS CLI, or as YAML (.yaml, .yml).
    #[arg(required = true)]
    mappings: Vec<PathBuf>,
    /// Calls at once to each function, over all mappings: 1 for the Runtime Interface Emulator, which takes one at a
    /// time. Without it, each mapping makes as many as it has partitions.
    #[arg(long, env = "CONCURRENCY")]
    concurrency: Option<NonZeroUsize>,
    /// Where one function is, as name=http://host:port/path; several with commas between them. A function without a URL is
    /// called through the Invoke API at AWS_ENDPOINT_URL_LAMBDA.
    #[arg(long = "function-url", env = "FUNCTION_URLS", value_delimiter = ',')]
    function_urls: Vec<FunctionUrl>,
}

#[derive(Subcommand)]
enum Command {
    /// Call a function once and print its answer, without Kafka; exit status 1 if it fails.
    Invoke {
        function: String,
        /// The event, as JSON.
        #[arg(default_value = "{}")]
        event: String,
    },
    /// Check files of mappings, without Kafka and AWS; exit status 1 if one would be refused.
    Validate {
        #[arg(required = true)]
        mappings: Vec<PathBuf>,
    },
}

#[global_allocator]
static ALLOCATOR: process::Allocator = process::Allocator;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    process::health::exit_if_asked();
    let arguments = Arguments::parse();
    match arguments.command {
        Some(Command::Invoke { function, event }) => invoke(&function, event).await,
        Some(Command::Validate { mappings }) => validate(&mappings).await,
        None => run(arguments).await,
    }
}

/// Prints nothing but the answer, so that scripts can read it.
async fn invoke(function: &str, event: String) -> anyhow::Result<()> {
    let mut answer = call(&LambdaInvoker::new(&aws::sdk_config().await), function, event.into()).await?.to_vec();
    answer.push(b'\n');
    Ok(std::io::stdout().write_all(&answer)?)
}

/// Says of each file what is wrong with it, not only of the first.
async fn validate(files: &[PathBuf]) -> anyhow::Result<()> {
    let mut out = std::io::stdout();
    let mut refused = 0;
    for file in files {
        // The brokers of an MSK cluster are looked up when the mapping starts.
        match read_mapping(file, "").await {
            Ok(mapping) => {
                writeln!(out, "{}: ok, {} reads {}", file.display(), mapping.function, mapping.topics.join(", "))?
            }
            Err(error) => {
                refused += 1;
                writeln!(out, "{error:#}")?;
            }
        }
    }
    if refused > 0 {
        bail!("{refused} of {} mappings would be refused", files.len());
    }
    Ok(())
}

async fn read_mapping(file: &Path, brokers: &str) -> anyhow::Result<MappingConfig> {
    let text = tokio::fs::read_to_string(file).await.with_context(|| format!("{}: cannot be read", file.display()))?;
    let is_yaml = file.extension().is_some_and(|extension| extension == "yaml" || extension == "yml");
    let read = if is_yaml { MappingConfig::from_yaml } else { MappingConfig::from_json };
    read(&text, brokers).with_context(|| file.display().to_string())
}

async fn run(arguments: Arguments) -> anyhow::Result<()> {
    process::logs::init("esm");
    let variables = ProcessEnvironment;
    let mut settings = Settings::new(&variables);
    let kafka_config = KafkaConfig::from_settings(&mut settings);
    let health_port = HealthPort::from_settings(&mut settings);
    let metrics = Output::from_settings(&mut settings);
    let kafka_config = settings.build(kafka_config)?;
    metrics.start("esm")?;
    let kafka = KafkaClient::connect(&kafka_config, "esm").await?;
    let mut configs = Vec::with_capacity(arguments.mappings.len());
    for path in &arguments.mappings {
        configs.push(read_mapping(path, kafka.brokers()).await?);
    }
    let sdk = aws::sdk_config().await;
    let lambda = Arc::new(LambdaInvoker::new(&sdk));
    let mut functions = Functions::new(Arc::new(UrlInvoker::new(arguments.function_urls, lambda)?));
    if let Some(concurrency) = arguments.concurrency {
        functions = functions.with_concurrency(concurrency);
    }
    let mut mappings = Vec::with_capacity(configs.len());
    for config in configs {
        mappings.push(Mapping::start(config, &kafka, &functions, &sdk).await?);
    }
    let _health = health_port.open().await?;
    process::stop_signal().await;
    let mut stopping = tokio::task::JoinSet::new();
    for mapping in mappings {
        stopping.spawn(mapping.stop());
    }
    stopping.join_all().await;
    Ok(())
}
