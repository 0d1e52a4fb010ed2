//! F12: requests that are too large, too deep, too slow or not what they seem, and events just below the limits.

use std::io::Write as _;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use flate2::Compression;
use flate2::write::GzEncoder;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::load::{Load, LoadEvent};
use crate::memory;
use crate::trial::{self, ChaosRun, Scene, Setup, Trial};

/// `MAX_BODY_BYTES`, which is Lambda's limit of a call.
const BODY_LIMIT: usize = pipeline::quota::MAX_PAYLOAD_BYTES;
/// `MAX_EVENT_BYTES` at the maximum that ingest allows, so that its record just fits into Kafka's 1 MB.
const EVENT_LIMIT: usize = 900_000;
/// `BODY_TIMEOUT_MS`.
const BODY_TIMEOUT: Duration = Duration::from_secs(2);
/// A refusal that takes longer is too expensive.
const QUICK: Duration = Duration::from_secs(2);
/// Hostile requests at the same time.
const WIDTH: usize = 4;
/// How much ingest may grow after the first round, which fills the allocator's caches, in kB.
const GROWTH: u64 = 32 * 1024;

/// A request that must be refused.
#[derive(Clone, Debug)]
struct Hostile {
    what: &'static str,
    encoding: Option<&'static str>,
    body: Vec<u8>,
    /// Whether the length is announced; if not, the body is sent in chunks.
    announced: bool,
    /// If set, sends this many bytes at a time, with pauses.
    drip: Option<usize>,
    status: &'static [u16],
    within: Duration,
}

impl Hostile {
    fn new(what: &'static str, body: Vec<u8>, status: &'static [u16]) -> Self {
        Hostile { what, encoding: None, body, announced: true, drip: None, status, within: QUICK }
    }
}

fn hostile() -> anyhow::Result<Vec<Hostile>> {
    // 1,000 times as large when decompressed.
    let bomb = vec![b' '; 64 * 1024 * 1024];
    let mut gzip = GzEncoder::new(Vec::new(), Compression::best());
    gzip.write_all(&bomb)?;
    let gzip = gzip.finish()?;
    let zstd = zstd::encode_all(&*bomb, 3)?;
    let nested = "[".repeat(100_000) + &"]".repeat(100_000);
    let within = format!(r#"[{{"type":"click","user_id":"u","campaign_id":"c","note":{nested}}}]"#);
    let large = format!("[{}]", LoadEvent::padded("refused", EVENT_LIMIT + 1).json);
    let encoded = |what, encoding, body| Hostile { encoding: Some(encoding), ..Hostile::new(what, body, &[413]) };
    let slow = Hostile::new("slow body", vec![b' '; 100_000], &[408]);
    Ok(vec![
        Hostile::new("6 MB and a byte, announced", vec![b' '; BODY_LIMIT + 1], &[413]),
        Hostile { announced: false, ..Hostile::new("6 MB and a byte, in chunks", vec![b' '; BODY_LIMIT + 1], &[413]) },
        encoded("gzip bomb", "gzip", gzip),
        encoded("zstd bomb", "zstd", zstd),
        Hostile::new("nested 100,000 deep", nested.into_bytes(), &[400]),
        Hostile::new("nested within an event", within.into_bytes(), &[400]),
        Hostile::new("event beyond its limit", large.into_bytes(), &[413]),
        Hostile { drip: Some(100), within: BODY_TIMEOUT + QUICK, ..slow },
    ])
}

impl LoadEvent {
    /// An event of exactly this many bytes.
    fn padded(id: &str, bytes: usize) -> Self {
        let json =
            |note: &str| format!(r#"{{"type":"click","id":"{id}","user_id":"u","campaign_id":"c","note":"{note}"}}"#);
        let room = bytes.saturating_sub(json("").len());
        LoadEvent { id: id.to_owned(), json: json(&"x".repeat(room)) }
    }
}

/// Sends the request as a misbehaving client would; returns the status. A server does not have to read what it refuses,
/// so it is not an error if the rest cannot be sent.
async fn send(address: &str, key: &str, request: &Hostile) -> anyhow::Result<u16> {
    let (mut reader, mut writer) = TcpStream::connect(address).await?.into_split();
    let encoding = request.encoding.map(|encoding| format!("content-encoding: {encoding}\r\n")).unwrap_or_default();
    let length = if request.announced {
        format!("content-length: {}", request.body.len())
    } else {
        "transfer-encoding: chunked".to_owned()
    };
    let head = format!(
        "POST /events/batch HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\nx-api-key: {key}\r\n\
         content-type: application/json\r\n{encoding}{length}\r\n\r\n"
    );
    let request = request.clone();
    let sending = tokio::spawn(async move {
        writer.write_all(head.as_bytes()).await?;
        for piece in request.body.chunks(request.drip.unwrap_or(64 * 1024)) {
            if !request.announced {
                writer.write_all(format!("{:x}\r\n", piece.len()).as_bytes()).await?;
            }
            writer.write_all(piece).await?;
            if !request.announced {
                writer.write_all(b"\r\n").await?;
            }
            if request.drip.is_some() {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
        if !request.announced {
            writer.write_all(b"0\r\n\r\n").await?;
        }
        // Kept open until the answer has arrived.
        anyhow::Ok(writer)
    });
    let mut answer = Vec::new();
    let mut piece = [0; 1024];
    while !answer.windows(4).any(|end| end == b"\r\n\r\n") {
        match reader.read(&mut piece).await {
            Ok(read) if read > 0 => answer.extend_from_slice(&piece[..read]),
            Ok(_) | Err(_) => break,
        }
    }
    sending.abort();
    let line = String::from_utf8_lossy(&answer);
    let status = line.split_whitespace().nth(1).and_then(|status| status.parse().ok());
    status.with_context(|| format!("the answer is not HTTP: {:?}", line.lines().next()))
}

/// Sends every hostile request once, some at a time; returns how many there were.
async fn round(scene: &mut Scene, requests: &[Hostile]) -> anyhow::Result<usize> {
    let address = scene.stack.options.ports.ingest.address().to_string();
    for some in requests.chunks(WIDTH) {
        let mut sending = JoinSet::new();
        for request in some.iter().cloned() {
            let (address, key) = (address.clone(), scene.client.key.clone());
            sending.spawn(async move {
                let started = Instant::now();
                let answer = tokio::time::timeout(2 * request.within, send(&address, &key, &request)).await;
                (request, answer.map_err(anyhow::Error::from).flatten(), started.elapsed())
            });
        }
        while let Some(sent) = sending.join_next().await {
            let (request, answer, took) = sent.context("a sender panicked")?;
            match answer {
                Ok(status) if request.status.contains(&status) && took <= request.within => {}
                Ok(status) => {
                    scene.findings.add("I7", format!("{}: {status} after {} ms", request.what, took.as_millis()));
                }
                Err(error) => scene.findings.add("I7", format!("{}: {error:#}", request.what)),
            }
        }
    }
    Ok(requests.len())
}

pub async fn oversize(run: &ChaosRun) -> anyhow::Result<Trial> {
    let rounds = run.size(4, 20);
    // Events just below the limit, one per request: the pipeline has to accept them all, in batches below 6 MB.
    let mut rng = run.rng("F12 events");
    let load = Load { events: run.size(1_500, 20_000), rate: 200, ..Load::default() };
    let mut requests = load.plan(&mut rng);
    for number in 0..run.size(20, 100) {
        let at = rng.usize(..requests.len());
        requests.insert(at, vec![LoadEvent::padded(&format!("large-{number}"), EVENT_LIMIT - number)]);
    }
    let setup = Setup {
        load,
        requests: Some(requests),
        settings: vec![
            ("MAX_EVENT_BYTES".to_owned(), EVENT_LIMIT.to_string()),
            ("BODY_TIMEOUT_MS".to_owned(), BODY_TIMEOUT.as_millis().to_string()),
        ],
        ..Setup::default()
    };
    trial::run(run, "F12", setup, async |scene| {
        let hostile = hostile()?;
        let mut faults = round(scene, &hostile).await?;
        let resident = |scene: &Scene| scene.stack.processes("ingest").first().copied().and_then(memory::resident);
        let before = resident(scene).context("ingest is not running")?;
        for _ in 1..rounds {
            faults += round(scene, &hostile).await?;
        }
        let after = resident(scene).context("ingest is not running")?;
        scene.findings.notes.push(format!(
            "ingest holds {} MB after the first round and {} MB after {rounds}",
            before / 1024,
            after / 1024
        ));
        if after > before + GROWTH {
            scene.findings.add("I7", format!("ingest grew from {before} to {after} kB"));
        }
        Ok(faults)
    })
    .await
}
