//! What the demo sends: generated events with known proportions, or the lines of a user's log.

use std::collections::BTreeMap;
use std::io::BufRead as _;
use std::net::Ipv4Addr;
use std::path::Path;

use anyhow::Context as _;
use event::Timestamp;
use forebay::access_log::PageView;
use serde_json::{Value, json};

/// Which API key a batch is sent with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SenderKind {
    /// A browser or device: ingest uses the address of the connection.
    Client,
    /// A server that forwards: each event may have its own `client_ip`.
    Collector,
}

/// The body of one `POST /events/batch`.
#[derive(Clone, Debug)]
pub struct RequestBatch {
    pub sender: SenderKind,
    /// JSON texts of the events.
    pub events: Vec<String>,
}

impl RequestBatch {
    /// The JSON array of the events.
    pub fn body(&self) -> String {
        let mut body = String::with_capacity(self.events.iter().map(|event| event.len() + 1).sum::<usize>() + 2);
        body.push('[');
        for (index, event) in self.events.iter().enumerate() {
            if index > 0 {
                body.push(',');
            }
            body.push_str(event);
        }
        body.push(']');
        body
    }
}

/// Everything to send.
#[derive(Debug, Default)]
pub struct Traffic {
    pub batches: Vec<RequestBatch>,
    /// Records that are written to `raw-events` without ingest, as another producer would do: `(key, value)`.
    pub foreign: Vec<(&'static str, Vec<u8>)>,
    /// Lines of the input that are not events, by problem: how many, and the first line numbers.
    pub bad_lines: BTreeMap<String, BadLines>,
}

#[derive(Debug, Default)]
pub struct BadLines {
    pub count: usize,
    pub first: Vec<usize>,
}

/// How many line numbers are listed for each problem.
const NAMED_LINES: usize = 10;

impl Traffic {
    /// The events of a web server's log, in its order.
    ///
    /// # Errors
    /// If the file cannot be read. Bad lines are not an error.
    pub fn from_access_log(path: &Path, batch_size: usize) -> anyhow::Result<Self> {
        let file = std::fs::File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
        let mut lines = std::io::BufReader::new(file);
        let mut traffic = Traffic::default();
        let mut events = Vec::with_capacity(batch_size);
        let mut line = Vec::new();
        let mut number = 0;
        loop {
            line.clear();
            let read = lines.read_until(b'\n', &mut line).with_context(|| format!("cannot read {}", path.display()))?;
            if read == 0 {
                break;
            }
            number += 1;
            let text = line.trim_ascii_end();
            if text.is_empty() {
                continue;
            }
            match PageView::parse(text) {
                Ok(view) => events.push(serde_json::to_string(&view)?),
                Err(error) => {
                    let bad = traffic.bad_lines.entry(error.to_string()).or_default();
                    bad.count += 1;
                    if bad.first.len() < NAMED_LINES {
                        bad.first.push(number);
                    }
                }
            }
            if events.len() == batch_size {
                traffic
                    .batches
                    .push(RequestBatch { sender: SenderKind::Collector, events: std::mem::take(&mut events) });
            }
        }
        if !events.is_empty() {
            traffic.batches.push(RequestBatch { sender: SenderKind::Collector, events });
        }
        Ok(traffic)
    }

    /// About `count` generated events, the same for the same seed: five types, 5 % sent twice, 2 % from private
    /// addresses, 1 % that violate their schema, one address that sends too much, and five records that are not events.
    pub fn made_up(count: usize, batch_size: usize, seed: u64, now: Timestamp) -> Self {
        let mut maker = Maker { random: fastrand::Rng::with_seed(seed), now, run: now.as_millis(), next: 0 };
        let mut traffic = Traffic::default();
        let mut sent: Vec<String> = Vec::new();
        let mut left = count;
        while left > 0 {
            let mut events = Vec::with_capacity(batch_size.min(left));
            while events.len() < batch_size && left > 0 {
                left -= 1;
                let event = match maker.random.u32(0..100) {
                    0..5 if !sent.is_empty() => sent[maker.random.usize(0..sent.len())].clone(),
                    5 => maker.broken(),
                    _ => maker.event().to_string(),
                };
                sent.push(event.clone());
                events.push(event);
            }
            traffic.batches.push(RequestBatch { sender: SenderKind::Collector, events });
        }
        let flood = (0..ABUSE).map(|_| maker.click(ABUSER.to_string()).to_string()).collect();
        traffic.batches.push(RequestBatch { sender: SenderKind::Collector, events: flood });
        traffic.batches.push(RequestBatch { sender: SenderKind::Client, events: vec![maker.page_view().to_string()] });
        traffic.foreign = vec![
            ("not-json", b"not json".to_vec()),
            ("empty", Vec::new()),
            ("unknown-type", br#"{"type":"unheard_of","id":"1"}"#.to_vec()),
            ("unknown-version", br#"{"envelope":99,"body":{}}"#.to_vec()),
            ("binary", vec![0xff, 0x00, 0xfe]),
        ];
        traffic
    }

    /// Number of events to send over HTTP.
    pub fn len(&self) -> usize {
        self.batches.iter().map(|batch| batch.events.len()).sum()
    }

    pub fn is_empty(&self) -> bool {
        self.batches.is_empty() && self.foreign.is_empty()
    }
}

/// Number of events from the address that sends too much; above the default limit of 100 a minute.
const ABUSE: usize = 250;
/// From TEST-NET-3, which is reserved for documentation.
const ABUSER: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 66);

struct Maker {
    random: fastrand::Rng,
    now: Timestamp,
    /// Part of every id, so that several runs on one kept stack do not produce duplicates.
    run: i64,
    next: u64,
}

impl Maker {
    fn id(&mut self) -> String {
        self.next += 1;
        format!("demo-{}-{}", self.run, self.next)
    }

    /// Spread widely enough that only the abuser exceeds the limit; 2 % are private, which the scorer takes for fraud.
    fn address(&mut self) -> String {
        let mut byte = || self.random.u8(..);
        let (a, b, c) = (byte(), byte(), byte());
        if self.random.u32(0..50) == 0 { format!("10.{a}.{b}.{c}") } else { format!("198.{}.{b}.{c}", 18 + a % 2) }
    }

    fn event(&mut self) -> Value {
        match self.random.u32(0..20) {
            0..5 => self.transaction(),
            5..8 => self.sensor(),
            8..12 => {
                let ip = self.address();
                self.click(ip)
            }
            12..15 => self.impression(),
            _ => self.page_view_from_anywhere(),
        }
    }

    fn transaction(&mut self) -> Value {
        json!({
            "type": "transaction", "id": self.id(), "timestamp": self.now, "client_ip": self.address(),
            "user_id": format!("user-{}", self.random.u32(0..5000)),
            "amount": f64::from(self.random.u32(100..100_000)) / 100.0, "currency": "EUR",
            "metadata": {"channel": "web"},
        })
    }

    fn sensor(&mut self) -> Value {
        json!({
            "type": "sensor", "id": self.id(), "timestamp": self.now, "client_ip": self.address(),
            "device_id": format!("device-{}", self.random.u32(0..500)),
            "reading": f64::from(self.random.u32(0..400)) / 10.0, "unit": "celsius", "location": "hall-7",
        })
    }

    fn click(&mut self, client_ip: String) -> Value {
        json!({
            "type": "click", "id": self.id(), "timestamp": self.now, "client_ip": client_ip,
            "user_id": format!("user-{}", self.random.u32(0..5000)),
            "campaign_id": format!("campaign-{}", self.random.u32(0..20)), "geo_country": "DE", "device_type": "mobile",
        })
    }

    fn impression(&mut self) -> Value {
        let client_ip = self.address();
        let mut impression = self.click(client_ip);
        impression["type"] = json!("impression");
        impression
    }

    fn page_view_from_anywhere(&mut self) -> Value {
        let client_ip = self.address();
        let mut view = self.page_view();
        view["client_ip"] = json!(client_ip);
        view
    }

    fn page_view(&mut self) -> Value {
        json!({
            "type": "page_view", "id": self.id(), "timestamp": self.now, "method": "GET",
            "path": format!("/articles/{}", self.random.u32(0..900)), "status": 200,
            "bytes": self.random.u32(400..90_000), "user_agent": "Mozilla/5.0 (X11; Linux x86_64)",
        })
    }

    /// A transaction whose amount is a string, which violates the schema.
    fn broken(&mut self) -> String {
        let mut transaction = self.transaction();
        transaction["amount"] = json!("a lot");
        transaction.to_string()
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn bad_lines_are_counted_and_named() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        let good = r#"192.0.2.1 - - [17/May/2015:10:05:03 +0000] "GET / HTTP/1.1" 200 1 "-" "curl""#;
        write!(file, "{good}\nnonsense\n\n{good}\r\nmore nonsense").unwrap();
        let traffic = Traffic::from_access_log(file.path(), 1).unwrap();
        assert_eq!(traffic.len(), 2);
        assert_eq!(traffic.batches[0].events, traffic.batches[1].events, "line ends are not part of an event");
        let bad = &traffic.bad_lines["not in the combined log format"];
        assert_eq!((bad.count, bad.first.as_slice()), (2, &[2, 5][..]));
    }

    #[test]
    fn the_same_seed_makes_the_same_events() {
        let make = |seed| -> Vec<String> {
            let traffic = Traffic::made_up(50, 20, seed, Timestamp::EPOCH);
            traffic.batches.iter().map(RequestBatch::body).collect()
        };
        assert_eq!(make(1), make(1));
        assert_ne!(make(1), make(2));
        assert!(make(1).iter().all(|body| serde_json::from_str::<Vec<Value>>(body).is_ok()));
    }
}
