//! Runs the stand-in of one AWS service until SIGTERM or SIGINT, for a container of its own.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::{Parser, ValueEnum};
use services::dynamodb::EmbeddedDynamoDb;
use services::s3::EmbeddedS3;
use settings::{ProcessEnvironment, Settings, SettingsError, Variables};

/// A stand-in for a service of AWS, on this machine.
#[derive(Parser)]
struct Arguments {
    service: Service,
}

#[derive(Clone, Copy, ValueEnum)]
enum Service {
    /// DynamoDB, in a file of SQLite.
    Dynamodb,
    /// S3 with one bucket, in a folder.
    S3,
}

struct Config {
    /// `HTTP_BIND` and `PORT`.
    address: SocketAddr,
    /// `DATA_FOLDER`: where the state is; created if it is missing.
    data: PathBuf,
    /// `ARCHIVE_BUCKET`: the bucket of S3; `forebay-archive` unless set.
    bucket: String,
}

impl Config {
    fn from_variables(variables: &dyn Variables) -> Result<Self, SettingsError> {
        let mut settings = Settings::new(variables);
        let port = settings.required::<u16>("PORT");
        let bind = settings.or("HTTP_BIND", IpAddr::V4(Ipv4Addr::LOCALHOST));
        let data = settings.required("DATA_FOLDER");
        let bucket = settings.or("ARCHIVE_BUCKET", "forebay-archive".to_owned());
        let config = port.zip(data).map(|(port, data)| Config { address: SocketAddr::new(bind, port), data, bucket });
        settings.build(config)
    }
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    process::health::exit_if_asked();
    let arguments = Arguments::parse();
    process::logs::init("services");
    let Config { address, data, bucket } = Config::from_variables(&ProcessEnvironment)?;
    create(&data)?;
    match arguments.service {
        Service::Dynamodb => {
            let service = EmbeddedDynamoDb::start_at(address, Some(data.join("dynamodb.sqlite"))).await?;
            run(service, address).await;
        }
        Service::S3 => run(EmbeddedS3::start_at(address, data, &bucket).await?, address).await,
    }
    Ok(())
}

/// Keeps the service until the process is asked to stop.
async fn run<S>(service: S, address: SocketAddr) {
    tracing::info!(%address, "the stand-in listens");
    process::stop_signal().await;
    drop(service);
}

fn create(folder: &Path) -> anyhow::Result<()> {
    std::fs::create_dir_all(folder).with_context(|| format!("cannot create the folder {}", folder.display()))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn the_address_and_the_folder_are_settings() {
        let variables = BTreeMap::from([("PORT", "8014"), ("HTTP_BIND", "0.0.0.0"), ("DATA_FOLDER", "/data")]);
        let config = Config::from_variables(&variables).unwrap();
        assert_eq!((config.address.to_string().as_str(), config.data.as_path()), ("0.0.0.0:8014", Path::new("/data")));
        assert_eq!(config.bucket, "forebay-archive");
        let error = Config::from_variables(&BTreeMap::new()).err().unwrap().to_string();
        assert!(error.contains("PORT") && error.contains("DATA_FOLDER"), "{error}");
    }
}
