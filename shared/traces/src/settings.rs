//! Where spans go, and how many.

use std::str::FromStr;

use ::settings::Settings;
use sha2::{Digest as _, Sha256};
use strum::{EnumString, VariantNames};

use crate::span::Attribute;

/// `TRACES`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, EnumString, VariantNames)]
#[strum(serialize_all = "lowercase")]
enum Switch {
    Off,
    Otlp,
    Xray,
}

const DEFAULT_ENDPOINT: &str = "http://localhost:4318/v1/traces";
const DEFAULT_SHARE: Share = Share(0.01);

/// Where the spans of a process go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Destination {
    /// A collector takes them at this URL.
    Collector(String),
    /// X-Ray of the region that the credentials are for.
    XRay,
}

/// How the id of a user is written into spans.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, EnumString, VariantNames)]
#[strum(serialize_all = "lowercase")]
pub enum UserIdForm {
    #[default]
    None,
    /// The first 16 digits of its SHA-256: two spans of one user can be told to be of one, and no more.
    Hashed,
    Raw,
}

impl UserIdForm {
    pub(crate) fn attribute(self, id: &str) -> Option<Attribute> {
        // Source: OpenTelemetry semantic conventions, registry of attributes, `user.id` and `user.hash`.
        match self {
            UserIdForm::None => None,
            UserIdForm::Hashed => {
                let digest = Sha256::digest(id.as_bytes());
                let hash = digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect::<String>();
                Some(Attribute::text("user.hash", hash))
            }
            UserIdForm::Raw => Some(Attribute::text("user.id", id.to_owned())),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Share(f64);

impl FromStr for Share {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.parse() {
            Ok(share) if (0.0..=1.0).contains(&share) => Ok(Share(share)),
            Ok(_) | Err(_) => Err("it must be a number from 0 to 1"),
        }
    }
}

/// What is sent, and where to.
#[derive(Clone, Debug, PartialEq)]
pub struct TraceSettings {
    /// `None` sends nothing.
    pub destination: Option<Destination>,
    /// The share of new traces that are kept, 0 to 1.
    pub share: f64,
    pub user_id: UserIdForm,
}

impl TraceSettings {
    /// - `TRACES`: `off`, `otlp` (to a collector) or `xray`; off.
    /// - `OTEL_EXPORTER_OTLP_TRACES_ENDPOINT`: the collector's whole URL; `http://localhost:4318/v1/traces`.
    /// - `OTEL_TRACES_SAMPLER_ARG`: the share of new traces that are kept, 0 to 1; 0.01.
    /// - `TRACE_USER_ID`: `none`, `hashed` or `raw`; none.
    ///
    /// The names with `OTEL` are those of OpenTelemetry's specification of SDK environment variables.
    pub fn from_settings(settings: &mut Settings<'_>) -> Self {
        let switch = settings.choice("TRACES", Switch::Off);
        let endpoint = settings.or("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", DEFAULT_ENDPOINT.to_owned());
        let Share(share) = settings.or("OTEL_TRACES_SAMPLER_ARG", DEFAULT_SHARE);
        let user_id = settings.choice("TRACE_USER_ID", UserIdForm::default());
        if !(endpoint.starts_with("http://") || endpoint.starts_with("https://")) {
            settings.problem("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT must be a URL that begins with http:// or https://");
        }
        let destination = match switch {
            Switch::Off => None,
            Switch::Otlp => Some(Destination::Collector(endpoint)),
            Switch::Xray => Some(Destination::XRay),
        };
        TraceSettings { destination, share, user_id }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn read(variables: &[(&'static str, &'static str)]) -> Result<TraceSettings, String> {
        let variables: BTreeMap<_, _> = variables.iter().copied().collect();
        let mut settings = Settings::new(&variables);
        let read = TraceSettings::from_settings(&mut settings);
        settings.build(Some(read)).map_err(|error| error.problems.join("; "))
    }

    #[test]
    fn nothing_is_sent_unless_asked_for() {
        let off = TraceSettings { destination: None, share: 0.01, user_id: UserIdForm::None };
        assert_eq!(read(&[]), Ok(off.clone()));
        let endpoint = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://collector:4318/v1/traces");
        assert_eq!(read(&[endpoint]), Ok(off));
        let destination = |variables: &[(&'static str, &'static str)]| read(variables).unwrap().destination;
        let collector = |url: &str| Some(Destination::Collector(url.to_owned()));
        assert_eq!(destination(&[("TRACES", "otlp")]), collector("http://localhost:4318/v1/traces"));
        assert_eq!(destination(&[("TRACES", "otlp"), endpoint]), collector(endpoint.1));
        assert_eq!(destination(&[("TRACES", "xray"), endpoint]), Some(Destination::XRay));
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (name, value) in [
            ("TRACES", "on"),
            ("OTEL_TRACES_SAMPLER_ARG", "1.5"),
            ("OTEL_TRACES_SAMPLER_ARG", "NaN"),
            ("TRACE_USER_ID", "md5"),
            ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "collector:4318"),
        ] {
            let pair = [(name, value)];
            assert!(read(&pair).unwrap_err().contains(name), "{name}={value}");
        }
    }

    #[test]
    fn a_user_is_named_as_far_as_asked_for() {
        assert_eq!(UserIdForm::None.attribute("ada"), None);
        assert_eq!(UserIdForm::Raw.attribute("ada"), Some(Attribute::text("user.id", "ada")));
        let hashed = UserIdForm::Hashed.attribute("ada");
        assert_eq!(hashed, UserIdForm::Hashed.attribute("ada"));
        assert_ne!(hashed, UserIdForm::Hashed.attribute("bob"));
        assert!(!format!("{hashed:?}").contains("ada"));
    }
}
