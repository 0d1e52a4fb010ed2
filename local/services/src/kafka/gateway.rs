//! What stands between clients and krafka's in-process broker.
//!
//! That broker answers a `Fetch` with everything from the wanted offset to the end of the log, whatever limits the
//! request names: reading a backlog takes quadratic time, and beyond 100 MB its client refuses the answer and never
//! gets on. It has no `CreatePartitions`, and remembers every request. So the gateway answers `Fetch` itself, from the
//! same log and within the limits, and `CreatePartitions`; it forgets requests now and then, and passes everything
//! else on as it came.
//!
//! Transactions are not served: Forebay writes none, and a fetch reports none as open or aborted.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::{Buf, BufMut as _, Bytes, BytesMut, TryGetError};
use krafka::error::ErrorCode;
use krafka::testing::{ApiKey, ClusterState, FakeBroker, PartitionState};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::Instant;

/// The only versions answered here: the newest without the compact encoding of KIP-482.
const FETCH_VERSION: i16 = 11;
const CREATE_PARTITIONS_VERSION: i16 = 1;

/// Largest request that is taken, as the in-process broker has it.
const MAX_REQUEST_BYTES: usize = 64 * 1024 * 1024;

/// After how many requests the in-process broker's memory of them is cleared. Each request looks through it.
const FORGET_AFTER: u64 = 256;

pub(super) struct Gateway {
    broker: Arc<FakeBroker>,
    /// Where the in-process broker listens.
    upstream: SocketAddr,
    /// Told after each append.
    appended: Notify,
    served: AtomicU64,
}

impl Gateway {
    /// Makes `broker` known to its clients by that port of the loopback interface.
    pub(super) fn new(broker: Arc<FakeBroker>, port: u16) -> anyhow::Result<Self> {
        let upstream = broker.broker_addr(0).ok_or_else(|| anyhow::anyhow!("the in-process broker has no address"))?;
        broker.set_api_versions(ApiKey::Fetch, FETCH_VERSION, FETCH_VERSION);
        broker.set_api_versions(ApiKey::CreatePartitions, CREATE_PARTITIONS_VERSION, CREATE_PARTITIONS_VERSION);
        broker.with_state(|state| {
            for node in &mut state.brokers {
                node.host = Ipv4Addr::LOCALHOST.to_string();
                node.port = i32::from(port);
            }
        });
        Ok(Gateway { broker, upstream, appended: Notify::new(), served: AtomicU64::new(0) })
    }

    /// Serves until it is dropped.
    pub(super) async fn serve(self: Arc<Self>, listener: TcpListener) {
        let mut connections = JoinSet::new();
        loop {
            match listener.accept().await {
                Ok((client, _)) => {
                    let gateway = Arc::clone(&self);
                    connections.spawn(async move {
                        if let Err(error) = gateway.serve_connection(client).await {
                            tracing::debug!(%error, "a connection to the embedded Kafka ended");
                        }
                    });
                }
                // Out of file descriptors, usually: others will be freed.
                Err(error) => {
                    tracing::warn!(%error, "the embedded Kafka could not accept a connection");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
            while connections.try_join_next().is_some() {}
        }
    }

    /// Answers the requests of a connection in turn, as brokers do.
    async fn serve_connection(&self, mut client: TcpStream) -> io::Result<()> {
        client.set_nodelay(true)?;
        let mut upstream = TcpStream::connect(self.upstream).await?;
        upstream.set_nodelay(true)?;
        while let Some(request) = read_frame(&mut client).await? {
            let header = Header::parse(&mut request.slice(4..)).map_err(malformed)?;
            if header.api_key == ApiKey::Fetch.to_i16() {
                let fetch = FetchRequest::parse(&mut request.slice(4 + header.bytes..)).map_err(malformed)?;
                client.write_all(&self.fetch(&header, &fetch).await).await?;
            } else if header.api_key == ApiKey::CreatePartitions.to_i16() {
                let answer = self.create_partitions(&header, &mut request.slice(4 + header.bytes..));
                client.write_all(&answer.map_err(malformed)?).await?;
            } else {
                upstream.write_all(&request).await?;
                let Some(answer) = read_frame(&mut upstream).await? else { return Ok(()) };
                if header.api_key == ApiKey::Produce.to_i16() {
                    self.appended.notify_waiters();
                }
                client.write_all(&answer).await?;
                self.forget();
            }
        }
        Ok(())
    }

    async fn fetch(&self, header: &Header, request: &FetchRequest) -> Bytes {
        let deadline = Instant::now() + request.max_wait;
        loop {
            // Registered before the log is read, so that an append in between is not missed.
            let appended = self.appended.notified();
            tokio::pin!(appended);
            appended.as_mut().enable();
            let answers = self.broker.with_state(|state| request.read(state));
            let bytes: usize = answers.iter().map(FetchAnswer::bytes).sum();
            let failed = answers.iter().any(|answer| answer.error != ErrorCode::None);
            if failed || bytes >= request.min_bytes || Instant::now() >= deadline {
                return request.encode(header, &answers, bytes);
            }
            // At the deadline it goes round once more, and then answers with what there is.
            let _ = tokio::time::timeout_at(deadline, appended).await;
        }
    }

    fn create_partitions(&self, header: &Header, body: &mut Bytes) -> Result<Bytes, TryGetError> {
        let count = body.try_get_i32()?;
        let mut topics = Vec::new();
        for _ in 0..count {
            let (name, partitions) = (string(body)?, body.try_get_i32()?);
            // Which brokers get the replicas; there is one.
            for _ in 0..body.try_get_i32()? {
                for _ in 0..body.try_get_i32()? {
                    body.try_get_i32()?;
                }
            }
            topics.push((name, partitions));
        }
        let mut out = header.answer(0);
        out.put_i32(0); // throttle_time_ms
        out.put_i32(count);
        for (name, partitions) in topics {
            let error = self.broker.with_state(|state| {
                if !state.topics.contains_key(&name) {
                    ErrorCode::UnknownTopicOrPartition
                } else if state.add_partitions(&name, partitions) == 0 {
                    ErrorCode::InvalidPartitions
                } else {
                    ErrorCode::None
                }
            });
            put_string(&mut out, &name);
            out.put_i16(error.to_i16());
            out.put_i16(-1); // error_message: none
        }
        Ok(framed(out))
    }

    fn forget(&self) {
        if self.served.fetch_add(1, Ordering::Relaxed).is_multiple_of(FORGET_AFTER) {
            self.broker.clear_requests();
            self.broker.with_state(|state| {
                state.list_offsets_lookups.clear();
                state.leave_group_members.clear();
                state.consumer_group_heartbeats.clear();
            });
        }
    }
}

struct Header {
    api_key: i16,
    correlation_id: i32,
    /// Its length, for a version without tagged fields.
    bytes: usize,
}

impl Header {
    fn parse(frame: &mut Bytes) -> Result<Self, TryGetError> {
        let before = frame.len();
        let api_key = frame.try_get_i16()?;
        let _version = frame.try_get_i16()?;
        let correlation_id = frame.try_get_i32()?;
        let client_id = frame.try_get_i16()?;
        skip(frame, usize::try_from(client_id).unwrap_or(0))?;
        Ok(Header { api_key, correlation_id, bytes: before - frame.len() })
    }

    /// The start of the answer, with room for so many bytes; [`framed`] makes it whole.
    fn answer(&self, room: usize) -> BytesMut {
        let mut out = BytesMut::with_capacity(room + 64);
        out.put_i32(0);
        out.put_i32(self.correlation_id);
        out
    }
}

struct FetchRequest {
    max_wait: Duration,
    min_bytes: usize,
    max_bytes: usize,
    topics: Vec<(String, Vec<FetchPartition>)>,
}

struct FetchPartition {
    partition: i32,
    leader_epoch: i32,
    offset: i64,
    max_bytes: usize,
}

impl FetchRequest {
    fn parse(body: &mut Bytes) -> Result<Self, TryGetError> {
        let _replica_id = body.try_get_i32()?;
        let max_wait = Duration::from_millis(u64::try_from(body.try_get_i32()?).unwrap_or(0));
        let min_bytes = size(body.try_get_i32()?);
        let max_bytes = size(body.try_get_i32()?);
        // Isolation level, session and its epoch: there are no transactions, and the answer opens no session, so every
        // request is whole.
        skip(body, 1 + 4 + 4)?;
        let mut topics = Vec::new();
        for _ in 0..body.try_get_i32()? {
            let name = string(body)?;
            let mut partitions = Vec::new();
            for _ in 0..body.try_get_i32()? {
                let (partition, leader_epoch, offset) = (body.try_get_i32()?, body.try_get_i32()?, body.try_get_i64()?);
                let _log_start_offset = body.try_get_i64()?;
                let max_bytes = size(body.try_get_i32()?);
                partitions.push(FetchPartition { partition, leader_epoch, offset, max_bytes });
            }
            topics.push((name, partitions));
        }
        Ok(FetchRequest { max_wait, min_bytes, max_bytes, topics })
    }

    /// One answer per partition, in order. Within the limits, but for the first batch of all, which is given whatever
    /// its size, so that every reader gets on (KIP-74).
    fn read(&self, state: &ClusterState) -> Vec<FetchAnswer> {
        let mut left = self.max_bytes;
        let mut first = true;
        let mut answers = Vec::new();
        for (name, partitions) in &self.topics {
            for wanted in partitions {
                let Some(partition) = state.partition(name, wanted.partition) else {
                    answers.push(FetchAnswer::failed(ErrorCode::UnknownTopicOrPartition, None));
                    continue;
                };
                if let Some(error) = wanted.error(partition) {
                    answers.push(FetchAnswer::failed(error, Some(partition)));
                    continue;
                }
                let mut room = left.min(wanted.max_bytes);
                let mut batches = Vec::new();
                let start = partition.log.partition_point(|batch| base_offset(batch) <= wanted.offset);
                if wanted.offset < partition.next_offset {
                    for batch in partition.log.iter().skip(start.saturating_sub(1)) {
                        if batch.len() > room && !first {
                            break;
                        }
                        first = false;
                        room = room.saturating_sub(batch.len());
                        left = left.saturating_sub(batch.len());
                        batches.push(batch.clone());
                    }
                }
                answers.push(FetchAnswer { batches, ..FetchAnswer::failed(ErrorCode::None, Some(partition)) });
            }
        }
        answers
    }

    fn encode(&self, header: &Header, answers: &[FetchAnswer], bytes: usize) -> Bytes {
        let mut out = header.answer(bytes + answers.len() * 64);
        out.put_i32(0); // throttle_time_ms
        out.put_i16(ErrorCode::None.to_i16());
        out.put_i32(0); // session_id: none
        out.put_i32(length(self.topics.len()));
        let mut answers = answers.iter();
        for (name, partitions) in &self.topics {
            put_string(&mut out, name);
            out.put_i32(length(partitions.len()));
            for (wanted, answer) in partitions.iter().zip(&mut answers) {
                out.put_i32(wanted.partition);
                out.put_i16(answer.error.to_i16());
                out.put_i64(answer.high_watermark);
                out.put_i64(answer.high_watermark); // last_stable_offset
                out.put_i64(answer.log_start_offset);
                out.put_i32(0); // aborted_transactions
                out.put_i32(-1); // preferred_read_replica
                out.put_i32(length(answer.bytes()));
                for batch in &answer.batches {
                    out.put_slice(batch);
                }
            }
        }
        framed(out)
    }
}

impl FetchPartition {
    fn error(&self, partition: &PartitionState) -> Option<ErrorCode> {
        if self.leader_epoch >= 0 && self.leader_epoch < partition.leader_epoch {
            Some(ErrorCode::FencedLeaderEpoch)
        } else if self.leader_epoch > partition.leader_epoch {
            Some(ErrorCode::UnknownLeaderEpoch)
        } else if self.offset < partition.log_start_offset || self.offset > partition.next_offset {
            Some(ErrorCode::OffsetOutOfRange)
        } else {
            None
        }
    }
}

struct FetchAnswer {
    error: ErrorCode,
    high_watermark: i64,
    log_start_offset: i64,
    batches: Vec<Bytes>,
}

impl FetchAnswer {
    fn failed(error: ErrorCode, partition: Option<&PartitionState>) -> Self {
        let (high_watermark, log_start_offset) =
            partition.map_or((-1, -1), |partition| (partition.next_offset, partition.log_start_offset));
        FetchAnswer { error, high_watermark, log_start_offset, batches: Vec::new() }
    }

    fn bytes(&self) -> usize {
        self.batches.iter().map(Bytes::len).sum()
    }
}

/// The offset of a batch's first record: its first eight bytes.
fn base_offset(mut batch: &[u8]) -> i64 {
    batch.try_get_i64().unwrap_or(i64::MAX)
}

/// A request or an answer with its length in front; `None` at the end of the connection.
async fn read_frame(from: &mut TcpStream) -> io::Result<Option<Bytes>> {
    let mut frame = vec![0; 4];
    match from.read_exact(&mut frame).await {
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(error) => return Err(error),
    }
    let length = usize::try_from(Buf::get_i32(&mut frame.as_slice())).unwrap_or(usize::MAX);
    if length > MAX_REQUEST_BYTES {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "the frame is too long"));
    }
    frame.resize(4 + length, 0);
    from.read_exact(&mut frame[4..]).await?;
    Ok(Some(frame.into()))
}

/// Puts the length in front.
fn framed(mut out: BytesMut) -> Bytes {
    let bytes = length(out.len() - 4);
    out[..4].copy_from_slice(&bytes.to_be_bytes());
    out.freeze()
}

fn string(body: &mut Bytes) -> Result<String, TryGetError> {
    let bytes = usize::try_from(body.try_get_i16()?).unwrap_or(0);
    if body.len() < bytes {
        return Err(TryGetError { requested: bytes, available: body.len() });
    }
    Ok(String::from_utf8_lossy(&body.split_to(bytes)).into_owned())
}

fn skip(body: &mut Bytes, bytes: usize) -> Result<(), TryGetError> {
    if body.len() < bytes {
        return Err(TryGetError { requested: bytes, available: body.len() });
    }
    body.advance(bytes);
    Ok(())
}

/// Topic names have at most 249 bytes.
fn put_string(out: &mut BytesMut, text: &str) {
    out.put_i16(i16::try_from(text.len()).unwrap_or(i16::MAX));
    out.put_slice(text.as_bytes());
}

fn size(bytes: i32) -> usize {
    usize::try_from(bytes).unwrap_or(0)
}

fn length(items: usize) -> i32 {
    i32::try_from(items).unwrap_or(i32::MAX)
}

fn malformed(error: TryGetError) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}
