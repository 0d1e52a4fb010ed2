//! The proxies between functions and what they depend on (noxious, a port of Toxiproxy).

use anyhow::Context as _;
use noxious::proxy::{ProxyConfig, ProxyRunner, Runner as _, Toxics};
use noxious::signal::{Close, Stop, Stopper};
use noxious::socket::TcpListener;
use noxious::toxic::{StreamDirection, Toxic, ToxicEvent, ToxicEventResult, ToxicKind};
use services::free_port;
use tokio::task::JoinHandle;

/// What happens to connections made from now on. Those that were open are cut.
///
/// Limited bandwidth is missing: noxious 1.0.4 subtracts durations without a check there, and panics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Weather {
    Clear,
    /// Nobody listens.
    Refusing,
    /// Connections are taken and nothing passes, in either direction.
    Silent,
    /// Requests arrive, and no answer comes back: the caller cannot know what was done.
    AnswersLost,
    /// Milliseconds added to every answer, more or less a quarter.
    Slow(u64),
}

impl Weather {
    fn toxics(self) -> Option<Toxics> {
        let toxic = |direction, kind| Toxic { kind, name: format!("{direction}"), toxicity: 1.0, direction };
        let silence = ToxicKind::Timeout { timeout: 600_000 };
        let (upstream, downstream) = match self {
            Weather::Refusing => return None,
            Weather::Clear => (None, None),
            Weather::Silent => (Some(silence), Some(silence)),
            Weather::AnswersLost => (None, Some(silence)),
            Weather::Slow(latency) => (None, Some(ToxicKind::Latency { latency, jitter: latency / 4 })),
        };
        let list = |direction, kind: Option<ToxicKind>| kind.map(|kind| toxic(direction, kind)).into_iter().collect();
        Some(Toxics {
            upstream: list(StreamDirection::Upstream, upstream),
            downstream: list(StreamDirection::Downstream, downstream),
        })
    }
}

/// One proxy, on a port that stays the same.
#[derive(Debug)]
pub struct Proxy {
    /// Where functions come to.
    pub port: u16,
    upstream: u16,
    running: Option<Running>,
}

#[derive(Debug)]
struct Running {
    stopper: Stopper,
    task: JoinHandle<()>,
}

impl Proxy {
    /// Stands before a port of the loopback interface, which need not listen yet.
    ///
    /// # Errors
    /// If no port is free.
    pub async fn start(upstream: u16) -> anyhow::Result<Self> {
        let mut proxy = Proxy { port: free_port()?, upstream, running: None };
        proxy.set(Weather::Clear).await?;
        Ok(proxy)
    }

    /// Cuts what is open, and treats what comes like that.
    ///
    /// # Errors
    /// If somebody took the port meanwhile.
    pub async fn set(&mut self, weather: Weather) -> anyhow::Result<()> {
        if let Some(running) = self.running.take() {
            running.stopper.stop();
            // It ends by itself, and frees the port.
            let _ = running.task.await;
        }
        let Some(toxics) = weather.toxics() else { return Ok(()) };
        let config = ProxyConfig {
            name: self.upstream.to_string(),
            listen: format!("127.0.0.1:{}", self.port),
            upstream: format!("127.0.0.1:{}", self.upstream),
            enabled: true,
            rand_seed: Some(0),
        };
        let listening = ProxyRunner::initialize_proxy::<TcpListener>(config, toxics).await;
        let (listener, info) = listening.with_context(|| format!("port {} for a proxy", self.port))?;
        let (stop, stopper) = Stop::new();
        let (_, closer) = Close::new();
        let (commands, receiver) = bmrng::channel::<ToxicEvent, ToxicEventResult>(1);
        let task = tokio::spawn(async move {
            // Held to the end: a closed channel would end the proxy's own task for commands.
            let _commands = commands;
            if let Err(error) = ProxyRunner::run_proxy(listener, info, receiver, stop, closer).await {
                tracing::warn!(%error, "a proxy ended");
            }
        });
        self.running = Some(Running { stopper, task });
        Ok(())
    }
}
