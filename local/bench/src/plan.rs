//! What to measure, where, and how often.

use std::path::PathBuf;

use settings::{Settings, SettingsError, Variables};
use stack::options::{KafkaChoice, Options};
use strum::{EnumIter, EnumString, IntoEnumIterator as _, VariantNames};

/// A part of the benchmark.
#[derive(Clone, Copy, Debug, PartialEq, Eq, EnumIter, EnumString, VariantNames)]
#[strum(serialize_all = "kebab-case")]
pub enum Part {
    Ingest,
    Processor,
    Archiver,
    Chain,
    Latency,
    ColdStart,
    Query,
}

/// Another program in place of our ingest, measured by the same load.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Where to POST: a JSON array of events, and single events.
    pub url: String,
    pub pid: u32,
}

#[derive(Clone, Debug)]
pub struct Plan {
    /// `BENCH`: comma-separated; all if absent.
    pub parts: Vec<Part>,
    /// `BENCH_RUNS`: runs of each measurement; default 5.
    pub runs: usize,
    /// `BENCH_SCALE`: the amount of load in percent; default 100. Less is for a quick look.
    pub scale: usize,
    /// `TARGET_URL` and `TARGET_PID`.
    pub target: Option<Target>,
}

impl Plan {
    /// # Errors
    /// [`SettingsError`] lists every malformed variable.
    pub fn from_variables(variables: &dyn Variables) -> Result<Self, SettingsError> {
        let mut settings = Settings::new(variables);
        let mut parts: Vec<Part> = settings.choices("BENCH");
        if parts.is_empty() {
            parts = Part::iter().collect();
        }
        let target = match (settings.optional("TARGET_URL"), settings.optional("TARGET_PID")) {
            (Some(url), Some(pid)) => Some(Target { url, pid }),
            (None, None) => None,
            (Some(_), None) | (None, Some(_)) => {
                settings.problem("TARGET_URL and TARGET_PID go together");
                None
            }
        };
        if target.is_some() && parts != [Part::Ingest] {
            settings.problem("with TARGET_URL only BENCH=ingest can be measured");
        }
        let runs: usize = settings.or("BENCH_RUNS", 5);
        let scale: usize = settings.or("BENCH_SCALE", 100);
        if runs == 0 || scale == 0 {
            settings.problem("BENCH_RUNS and BENCH_SCALE must be at least 1");
        }
        settings.build(Some(Plan { parts, runs, scale, target }))
    }

    /// So many, scaled.
    pub fn scaled(&self, count: usize) -> usize {
        (count * self.scale / 100).max(1)
    }

    /// A stack at documented default settings, but without the limits of addresses and of questions, because all load comes
    /// from few addresses and keys; on Apache Kafka, with no mapping started.
    ///
    /// # Errors
    /// [`SettingsError`] lists every malformed variable.
    pub fn stack_options(variables: &dyn Variables, binaries: PathBuf) -> Result<Options, SettingsError> {
        let mut options = Options::for_one_run(variables, binaries)?
            .with_default("IP_RATE_LIMIT_PER_MIN", "0")
            .with_default("QUERY_RATE_LIMIT_PER_MIN", "10000000")
            .with_default("LOG_LEVEL", "info");
        if options.kafka == KafkaChoice::Embedded {
            options.kafka = KafkaChoice::Apache;
        }
        options.mappings = false;
        options.rescore_every = None;
        options.aggregate_every = None;
        Ok(options)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn plan(variables: &[(&'static str, &'static str)]) -> Result<Plan, String> {
        let variables: BTreeMap<&str, &str> = variables.iter().copied().collect();
        Plan::from_variables(&variables).map_err(|error| error.to_string())
    }

    #[test]
    fn parts_are_chosen_by_name() {
        assert_eq!(plan(&[]).unwrap().parts.len(), 7);
        assert_eq!(plan(&[("BENCH", "cold-start, ingest")]).unwrap().parts, [Part::ColdStart, Part::Ingest]);
        assert!(plan(&[("BENCH", "chains")]).unwrap_err().contains("must be one of ingest, processor, archiver"));
        assert!(plan(&[("BENCH_RUNS", "0")]).is_err());
    }

    #[test]
    fn another_program_takes_the_load_of_ingest_only() {
        let url = ("TARGET_URL", "http://127.0.0.1:8000/batch");
        let with = |parts| plan(&[url, ("TARGET_PID", "7"), ("BENCH", parts)]);
        assert_eq!(with("ingest").unwrap().target.unwrap().pid, 7);
        assert!(with("ingest,chain").unwrap_err().contains("only BENCH=ingest"));
        assert!(plan(&[url]).unwrap_err().contains("go together"));
    }
}
