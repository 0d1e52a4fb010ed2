//! The proxies between the functions and their dependencies (noxious, a port of Toxiproxy).

use anyhow::Context as _;
use noxious::proxy::{ProxyConfig, ProxyRunner, Runner as _, Toxics};
use noxious::signal::{Close, Stop, Stopper};
use noxious::socket::TcpListener;
use noxious::toxic::{StreamDirection, Toxic, ToxicEvent, ToxicEventKind, ToxicEventResult, ToxicKind};
use services::free_port;
use tokio::task::JoinHandle;

/// What happens to new connections. Open connections are closed, unless a variant says otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Weather {
    Clear,
    /// New connections are refused.
    Refusing,
    /// Connections are accepted, and nothing passes in either direction.
    Silent,
    /// Open connections stay open, new ones are accepted, and what the caller sends is lost, as when a peer loses power
    /// or a router forgets the connection.
    HalfOpen,
    /// Requests arrive, but answers are lost: the caller cannot know what was done.
    AnswersLost,
    /// Delay of every answer in milliseconds, plus or minus a quarter.
    Slow(u64),
    /// Bandwidth in kB per second and direction, made of slices with pauses in between: the bandwidth limit of noxious
    /// 1.0.4 subtracts durations without a check and panics.
    Narrow(u64),
}

/// Pause between two slices of a narrow connection.
const SLICE_MILLIS: u64 = 100;

impl Weather {
    fn toxics(self) -> Option<Toxics> {
        let toxic = |direction, kind| Toxic { kind, name: format!("{direction}"), toxicity: 1.0, direction };
        let silence = ToxicKind::Timeout { timeout: 600_000 };
        let (upstream, downstream) = match self {
            Weather::Refusing => return None,
            Weather::Clear => (None, None),
            Weather::HalfOpen => (Some(silence), None),
            Weather::Silent => (Some(silence), Some(silence)),
            Weather::AnswersLost => (None, Some(silence)),
            Weather::Slow(latency) => (None, Some(ToxicKind::Latency { latency, jitter: latency / 4 })),
            Weather::Narrow(rate) => {
                // kB per second equal bytes per millisecond.
                let (average_size, delay) = (rate * SLICE_MILLIS, SLICE_MILLIS * 1_000);
                let slices = ToxicKind::Slicer { average_size, size_variation: 0, delay };
                (Some(slices), Some(slices))
            }
        };
        let list = |direction, kind: Option<ToxicKind>| kind.map(|kind| toxic(direction, kind)).into_iter().collect();
        Some(Toxics {
            upstream: list(StreamDirection::Upstream, upstream),
            downstream: list(StreamDirection::Downstream, downstream),
        })
    }
}

/// One proxy, on a port that stays the same.
pub struct Proxy {
    /// The port that functions connect to.
    pub port: u16,
    upstream: u16,
    running: Option<Running>,
}

struct Running {
    stopper: Stopper,
    task: JoinHandle<()>,
    /// Kept until the end: closing the channel would end the proxy's task for commands.
    commands: bmrng::RequestSender<ToxicEvent, ToxicEventResult>,
}

impl Proxy {
    /// Starts a proxy for a port of the loopback interface. Nothing has to listen on that port yet.
    ///
    /// # Errors
    /// If no port is free.
    pub async fn start(upstream: u16) -> anyhow::Result<Self> {
        let mut proxy = Proxy { port: free_port()?, upstream, running: None };
        proxy.set(Weather::Clear).await?;
        Ok(proxy)
    }

    /// Forwards to another port: the service has moved.
    ///
    /// # Errors
    /// As [`Proxy::set`].
    pub async fn forward_to(&mut self, upstream: u16) -> anyhow::Result<()> {
        self.upstream = upstream;
        self.set(Weather::Clear).await
    }

    /// Changes the weather for new connections, and closes the open ones unless the weather keeps them.
    ///
    /// # Errors
    /// If another process has taken the port.
    pub async fn set(&mut self, weather: Weather) -> anyhow::Result<()> {
        if let (Weather::HalfOpen, Some(running), Some(toxics)) = (weather, &self.running, weather.toxics()) {
            for toxic in toxics.upstream {
                let event = ToxicEvent { proxy_name: self.upstream.to_string(), kind: ToxicEventKind::AddToxic(toxic) };
                running.commands.send_receive(event).await??;
            }
            return Ok(());
        }
        if let Some(Running { stopper, task, commands }) = self.running.take() {
            stopper.stop();
            // The task ends by itself and frees the port.
            let _ = task.await;
            drop(commands);
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
        let (listener, info) = listening.with_context(|| format!("cannot listen on port {} for a proxy", self.port))?;
        let (stop, stopper) = Stop::new();
        let (_, closer) = Close::new();
        let (commands, receiver) = bmrng::channel::<ToxicEvent, ToxicEventResult>(1);
        let task = tokio::spawn(async move {
            if let Err(error) = ProxyRunner::run_proxy(listener, info, receiver, stop, closer).await {
                tracing::warn!(%error, "a proxy of the fault suite ended");
            }
        });
        self.running = Some(Running { stopper, task, commands });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpStream;
    use tokio::time::timeout;

    use super::*;

    /// Sends back what it gets.
    async fn echo() -> u16 {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let (mut read, mut write) = stream.into_split();
                    tokio::io::copy(&mut read, &mut write).await
                });
            }
        });
        port
    }

    /// Sends and waits for all of it to come back.
    async fn exchange(stream: &mut TcpStream, bytes: usize) -> std::io::Result<()> {
        stream.write_all(&vec![1; bytes]).await?;
        stream.read_exact(&mut vec![0; bytes]).await.map(drop)
    }

    #[tokio::test]
    async fn a_narrow_connection_passes_everything_slowly() {
        let mut proxy = Proxy::start(echo().await).await.unwrap();
        proxy.set(Weather::Narrow(10)).await.unwrap();
        let mut stream = TcpStream::connect(("127.0.0.1", proxy.port)).await.unwrap();
        let began = Instant::now();
        exchange(&mut stream, 5_000).await.unwrap();
        assert!(began.elapsed() > Duration::from_millis(500), "{:?}", began.elapsed());
    }

    #[tokio::test]
    async fn half_open_connections_stay_open_and_silent() {
        let mut proxy = Proxy::start(echo().await).await.unwrap();
        let mut old = TcpStream::connect(("127.0.0.1", proxy.port)).await.unwrap();
        exchange(&mut old, 10).await.unwrap();
        proxy.set(Weather::HalfOpen).await.unwrap();
        let mut new = TcpStream::connect(("127.0.0.1", proxy.port)).await.unwrap();
        for stream in [&mut old, &mut new] {
            timeout(Duration::from_millis(300), exchange(stream, 10)).await.unwrap_err();
        }
        proxy.set(Weather::Clear).await.unwrap();
        assert!(matches!(timeout(Duration::from_secs(5), old.read(&mut [0])).await.unwrap(), Ok(0) | Err(_)), "cut");
        let mut next = TcpStream::connect(("127.0.0.1", proxy.port)).await.unwrap();
        exchange(&mut next, 10).await.unwrap();
    }

    #[tokio::test]
    async fn a_proxy_follows_its_service() {
        let (first, second) = (echo().await, echo().await);
        let mut proxy = Proxy::start(first).await.unwrap();
        let mut old = TcpStream::connect(("127.0.0.1", proxy.port)).await.unwrap();
        exchange(&mut old, 10).await.unwrap();
        proxy.forward_to(second).await.unwrap();
        assert!(exchange(&mut old, 10).await.is_err());
        let mut new = TcpStream::connect(("127.0.0.1", proxy.port)).await.unwrap();
        exchange(&mut new, 10).await.unwrap();
    }
}
