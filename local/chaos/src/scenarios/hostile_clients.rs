//! F21: clients that are slow, that break HTTP, or that read no answers, beside the good ones.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::load::{Load, p99};
use crate::memory;
use crate::trial::{self, ChaosRun, Scene, Setup, Trial};

/// `HEADER_TIMEOUT_MS`, `BODY_TIMEOUT_MS` and `IDLE_TIMEOUT_SEC` of the trial.
const TIMEOUT: Duration = Duration::from_secs(2);
/// How much longer than its limit a connection may stay open: the machine is busy.
const GRACE: Duration = Duration::from_secs(5);
/// Connections with half a head in each round, and unfinished bodies: as many as held 190 MB and 429 MB once.
const HALF_HEADS: usize = 300;
const UNFINISHED_BODIES: usize = 60;
/// Bytes of each unfinished body: a little less than its announced length, which is the limit of a body.
const ANNOUNCED: usize = pipeline::quota::MAX_PAYLOAD_BYTES;
const SENT: usize = 5_000_000;
/// I7: what ingest may hold with all of them, in kB: 64 MiB of bodies in flight, twice while they are put together, and
/// 64 KiB for each connection.
const MEMORY: u64 = 256 * 1024;
/// I7: the good clients' 99th percentile beside them.
const SLOWEST: Duration = Duration::from_secs(5);

/// What a client sends before it waits, and what it may get for that.
#[derive(Clone)]
struct Bad {
    what: &'static str,
    bytes: Vec<u8>,
    /// The statuses of a refusal; 0 is a connection that is closed without an answer.
    status: &'static [u16],
}

fn bad_requests(address: &str) -> Vec<Bad> {
    let request = |head: &str| format!("POST /events HTTP/1.1\r\n{head}\r\n").into_bytes();
    let host = format!("host: {address}\r\n");
    let bad = |what, bytes| Bad { what, bytes, status: &[400, 401, 404, 405, 411, 414, 431, 501, 0] };
    vec![
        bad("no host", request("content-length: 2\r\n")),
        bad("two hosts", request(&format!("{host}host: elsewhere\r\ncontent-length: 2\r\n"))),
        bad("a host that no URL may have", request("host: [::1\r\ncontent-length: 2\r\n")),
        bad(
            "two readings of the length",
            request(&format!("{host}content-length: 2\r\ntransfer-encoding: chunked\r\n")),
        ),
        bad("another transfer coding", request(&format!("{host}transfer-encoding: gzip, chunked\r\n"))),
        bad("a path of 70 kB", format!("GET /{} HTTP/1.1\r\n{host}\r\n", "a".repeat(70_000)).into_bytes()),
        bad("a head of 1 MB", request(&format!("{host}x: {}\r\n", "a".repeat(1_000_000)))),
        bad("no HTTP", vec![0x16, 0x03, 0x01, 0x02, 0x00, b'\r', b'\n', b'\r', b'\n']),
        bad("HTTP/2 without asking", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec()),
    ]
}

/// Sends the bytes, waits until the server closes the connection, and returns the status and how long that took.
async fn provoke(address: &str, bytes: &[u8]) -> anyhow::Result<(u16, Duration)> {
    let started = Instant::now();
    let (mut reader, mut writer) = TcpStream::connect(address).await?.into_split();
    // The server need not read what it refuses.
    let _ = writer.write_all(bytes).await;
    let mut answer = Vec::new();
    let mut piece = [0; 1024];
    while let Ok(read @ 1..) = reader.read(&mut piece).await {
        answer.extend_from_slice(&piece[..read]);
    }
    let line = String::from_utf8_lossy(&answer);
    let status = line.split_whitespace().nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
    Ok((status, started.elapsed()))
}

/// Sends requests without end and reads no answer, until the server gives it up or the time is over.
async fn read_nothing(address: String, key: String) -> anyhow::Result<()> {
    let stream = TcpStream::connect(&address).await?;
    let request = format!("GET /events HTTP/1.1\r\nhost: {address}\r\nx-api-key: {key}\r\n\r\n");
    let (_reader, mut writer) = stream.into_split();
    let _ =
        tokio::time::timeout(2 * TIMEOUT, async { while writer.write_all(request.as_bytes()).await.is_ok() {} }).await;
    Ok(())
}

/// One round of every kind at the same time; returns the number of clients.
async fn round(scene: &mut Scene) -> anyhow::Result<usize> {
    let address = scene.stack.options.ports.ingest.address().to_string();
    let key = scene.client.key.clone();
    let mut clients = JoinSet::new();
    let mut start = |bad: Bad, within: Duration| {
        let address = address.clone();
        clients.spawn(async move {
            let ended = tokio::time::timeout(within, provoke(&address, &bad.bytes)).await;
            match ended {
                Ok(Ok((status, _))) if bad.status.contains(&status) => None,
                // The cap on connections.
                Ok(Ok((503, _)) | Err(_)) => None,
                Ok(Ok((status, took))) => Some(format!("{}: {status} after {} ms", bad.what, took.as_millis())),
                Err(_) => Some(format!("{}: still open after {} ms", bad.what, within.as_millis())),
            }
        });
    };
    for _ in 0..HALF_HEADS {
        let half = format!("POST /events HTTP/1.1\r\nhost: {address}\r\nx-api-key: {key}\r\n").into_bytes();
        start(Bad { what: "half a head", bytes: half, status: &[408, 0] }, TIMEOUT + GRACE);
    }
    for _ in 0..UNFINISHED_BODIES {
        let head = format!(
            "POST /events/batch HTTP/1.1\r\nhost: {address}\r\nx-api-key: {key}\r\ncontent-type: application/json\r\n\
             content-length: {ANNOUNCED}\r\n\r\n"
        );
        let bytes = [head.into_bytes(), vec![b' '; SENT]].concat();
        // Idle after the answer: the client has not sent what it announced.
        start(Bad { what: "an unfinished body", bytes, status: &[408, 413, 503, 0] }, 2 * TIMEOUT + GRACE);
    }
    let requests = bad_requests(&address);
    for bad in requests.iter().cycle().take(10 * requests.len()) {
        start(bad.clone(), TIMEOUT + GRACE);
    }
    for _ in 0..20 {
        let (address, key) = (address.clone(), key.clone());
        clients.spawn(async move { read_nothing(address, key).await.err().map(|error| format!("{error:#}")) });
    }
    let number = clients.len();
    while let Some(ended) = clients.join_next().await {
        if let Some(problem) = ended.context("a client panicked")? {
            scene.findings.add("I7", problem);
        }
    }
    Ok(number)
}

pub async fn hostile_clients(run: &ChaosRun) -> anyhow::Result<Trial> {
    let millis = TIMEOUT.as_millis().to_string();
    let setup = Setup {
        load: Load { events: run.size(3_000, 30_000), rate: 200, ..Load::default() },
        settings: vec![
            ("HEADER_TIMEOUT_MS".to_owned(), millis.clone()),
            ("BODY_TIMEOUT_MS".to_owned(), millis),
            ("IDLE_TIMEOUT_SEC".to_owned(), TIMEOUT.as_secs().to_string()),
        ],
        ..Setup::default()
    };
    let mut trial = trial::run(run, "F21", setup, async |scene| {
        let ingest = scene.stack.processes("ingest");
        let mut faults = 0;
        while scene.loading() {
            faults += round(scene).await?;
        }
        if scene.stack.processes("ingest") != ingest {
            scene.findings.add("I7", "ingest ended".to_owned());
        }
        let resident = ingest.first().copied().and_then(memory::resident).context("ingest is not running")?;
        scene.findings.notes.push(format!("{faults} hostile clients; ingest then holds {} MB", resident / 1024));
        Ok(faults)
    })
    .await?;
    let peak = trial.memory.get("ingest").copied().unwrap_or_default();
    if peak > MEMORY {
        trial
            .findings
            .add("I7", format!("ingest took {peak} kB beside {HALF_HEADS} half heads and {UNFINISHED_BODIES} bodies"));
    }
    let slowest = p99(trial.seen.latencies.iter().copied());
    if slowest > SLOWEST {
        trial.findings.add("I7", format!("the good clients' p99 was {} ms", slowest.as_millis()));
    }
    Ok(trial)
}
