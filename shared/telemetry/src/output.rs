//! Where the metrics of a process go.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use settings::Settings;
use strum::{EnumString, VariantNames};

use crate::emf::Zeros;
use crate::{StartError, start_emf, start_prometheus};

/// `METRICS`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, EnumString, VariantNames)]
#[strum(serialize_all = "lowercase")]
enum Switch {
    On,
    Off,
    /// On, and on Lambda with the zeros of new series.
    All,
}

const DEFAULT_NAMESPACE: &str = "Forebay";

/// One of the two ways out, or none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    Prometheus(SocketAddr),
    /// On Lambda, where no port can be reached.
    Emf {
        namespace: String,
        zeros: Zeros,
    },
    /// Switched off, or off Lambda without a port.
    Nowhere,
}

impl Output {
    /// - `METRICS`: `on`, `off`, or `all`, which is `on` with the zeros of new series on Lambda; on.
    /// - `OPERATIONS_PORT` of `HTTP_BIND`: where Prometheus asks. It is a port of its own because metrics tell how much traffic
    ///   there is.
    /// - `METRICS_NAMESPACE`: of the metrics on CloudWatch; `Forebay`. Used on Lambda without `OPERATIONS_PORT`.
    pub fn from_settings(settings: &mut Settings<'_>) -> Self {
        let switch = settings.choice("METRICS", Switch::On);
        let bind = settings.or("HTTP_BIND", IpAddr::V4(Ipv4Addr::LOCALHOST));
        let port = settings.optional::<u16>("OPERATIONS_PORT");
        let namespace = settings.or("METRICS_NAMESPACE", DEFAULT_NAMESPACE.to_owned());
        let is_lambda = settings.optional::<String>("AWS_LAMBDA_RUNTIME_API").is_some();
        match (switch, port) {
            (Switch::Off, _) => Output::Nowhere,
            (_, Some(port)) => Output::Prometheus(SocketAddr::new(bind, port)),
            (Switch::On, None) if is_lambda => Output::Emf { namespace, zeros: Zeros::Never },
            (Switch::All, None) if is_lambda => Output::Emf { namespace, zeros: Zeros::OfNewSeries },
            (Switch::On | Switch::All, None) => Output::Nowhere,
        }
    }

    /// Keeps the values of this process from now on, under the label `service`. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// As [`start_prometheus`].
    pub fn start(&self, service: &'static str) -> Result<(), StartError> {
        match self {
            Output::Prometheus(address) => start_prometheus(service, *address)?,
            Output::Emf { namespace, zeros } => start_emf(service, namespace, *zeros),
            Output::Nowhere => {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn output(variables: &[(&'static str, &'static str)]) -> Option<Output> {
        let variables: BTreeMap<_, _> = variables.iter().copied().collect();
        let mut settings = Settings::new(&variables);
        let output = Output::from_settings(&mut settings);
        settings.build(Some(output)).ok()
    }

    #[test]
    fn a_port_comes_before_lambda_and_off_before_both() {
        let (lambda, port) = (("AWS_LAMBDA_RUNTIME_API", "127.0.0.1:9001"), ("OPERATIONS_PORT", "9090"));
        let emf = |namespace: &str| Some(Output::Emf { namespace: namespace.to_owned(), zeros: Zeros::Never });
        assert_eq!(output(&[]), Some(Output::Nowhere));
        assert_eq!(output(&[lambda]), emf("Forebay"));
        assert_eq!(output(&[lambda, ("METRICS_NAMESPACE", "Forebay/blue")]), emf("Forebay/blue"));
        let served = |address: &str| Some(Output::Prometheus(address.parse().unwrap()));
        assert_eq!(output(&[lambda, port]), served("127.0.0.1:9090"));
        assert_eq!(output(&[port, ("HTTP_BIND", "0.0.0.0")]), served("0.0.0.0:9090"));
        assert_eq!(output(&[lambda, port, ("METRICS", "off")]), Some(Output::Nowhere));
        let all = Some(Output::Emf { namespace: "Forebay".to_owned(), zeros: Zeros::OfNewSeries });
        assert_eq!(output(&[lambda, ("METRICS", "all")]), all);
        assert_eq!(output(&[("METRICS", "no")]), None);
    }
}
