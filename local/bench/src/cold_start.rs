//! What a new instance costs: the time to its first poll, the time to its first answer, and its memory after that.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use host::{FunctionConfig, Host, HostConfig, LogTarget};
use stack::functions::{FUNCTIONS, invoke, invoke_url};
use stack::stack::Stack;
use stack::usage::resident_memory;

use crate::figures::Figures;
use crate::plan::Plan;

/// The samples, relative to the project's folder.
const SAMPLES: &str = "events";

/// A sample that goes through what the function connects to.
fn sample(function: &str) -> &'static str {
    match function {
        "ingest" => "single-transaction",
        "query" => "known-event",
        "scorer" => "batch",
        "redriver" => "list",
        "replayer" => "dry-run",
        "rescorer" | "aggregator" => "schedule",
        "maintainer" => "maintain",
        _ => "valid-batch",
    }
}

/// Measures every function, with all that it connects to on this machine.
///
/// # Errors
/// If a function does not start, or answers with an error.
pub async fn measure(plan: &Plan, stack: &Stack, figures: &mut Figures) -> anyhow::Result<()> {
    for function in FUNCTIONS {
        let path = Path::new(SAMPLES).join(function).join(sample(function)).with_extension("json");
        let event = std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        // The first run only brings the program into the system's cache.
        for run in 0..=plan.runs {
            let started = ColdStart::of(stack, function, &event).await?;
            if run > 0 {
                let milliseconds = |time: Duration| time.as_secs_f64() * 1000.0;
                figures.add(format!("{function}_first_poll"), "ms", milliseconds(started.first_poll));
                figures.add(format!("{function}_first_answer"), "ms", milliseconds(started.first_answer));
                figures.add(format!("{function}_resident"), "MB", started.resident as f64 / 1e6);
            }
        }
    }
    Ok(())
}

/// Both times count from the start of the process.
struct ColdStart {
    first_poll: Duration,
    first_answer: Duration,
    /// In bytes, after the first answer.
    resident: u64,
}

impl ColdStart {
    async fn of(stack: &Stack, function: &str, event: &str) -> anyhow::Result<Self> {
        let mut config = FunctionConfig::new(function, stack.options.binaries.join(function));
        config.env = stack.session.variables();
        config.log = LogTarget::File(stack.options.logs.join(format!("{function}-cold-start.log")));
        let listen = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let host = Host::start(HostConfig { listen, functions: vec![config], elsewhere: Default::default() }).await?;
        let url = invoke_url(&host.endpoint(), function);
        let called = Instant::now();
        invoke(&stack.client, &url, event.to_owned()).await.with_context(|| format!("{function} failed"))?;
        let first_answer = called.elapsed();
        let instance = host.instances(function).into_iter().next().context("the instance ended")?;
        let first_poll = instance.first_poll_us.map(Duration::from_micros).context("the instance never polled")?;
        let resident = resident_memory(instance.pid).context("the instance ended")?;
        host.stop().await;
        Ok(ColdStart { first_poll, first_answer, resident })
    }
}
