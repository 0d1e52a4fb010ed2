//! The way out where a Prometheus server can reach the process.

use std::net::SocketAddr;

use metrics::{Recorder as _, Unit as FacadeUnit};
use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder};

use crate::definition::{Kind, Unit};
use crate::{SERVICE, list};

/// Why a process cannot offer its metrics.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("cannot offer metrics at {address}")]
    Listen {
        address: SocketAddr,
        #[source]
        source: BuildError,
    },
    #[error("this process has chosen where its metrics go already")]
    Chosen,
}

/// Serves the values at `address` from now on, and describes every metric of the list.
pub(crate) fn start(service: &'static str, address: SocketAddr) -> Result<(), StartError> {
    let failed = |source| StartError::Listen { address, source };
    let mut builder = PrometheusBuilder::new().with_http_listener(address).add_global_label(SERVICE, service);
    for metric in list::ALL {
        if let Some(buckets) = metric.buckets {
            let name = Matcher::Full(metric.name.to_owned());
            builder = builder.set_buckets_for_metric(name, buckets.bounds()).map_err(failed)?;
        }
    }
    let (recorder, listener) = builder.build().map_err(failed)?;
    for metric in list::ALL {
        let (name, unit, meaning) = (metric.name.into(), Some(unit(metric.unit)), metric.meaning.trim().into());
        match metric.kind {
            Kind::Counter => recorder.describe_counter(name, unit, meaning),
            Kind::Gauge => recorder.describe_gauge(name, unit, meaning),
            Kind::Histogram => recorder.describe_histogram(name, unit, meaning),
        }
    }
    metrics::set_global_recorder(recorder).map_err(|_| StartError::Chosen)?;
    tokio::spawn(listener);
    Ok(())
}

const fn unit(unit: Unit) -> FacadeUnit {
    match unit {
        Unit::Count | Unit::None => FacadeUnit::Count,
        Unit::Seconds => FacadeUnit::Seconds,
        Unit::Bytes => FacadeUnit::Bytes,
    }
}
