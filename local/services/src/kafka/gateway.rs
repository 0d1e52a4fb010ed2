//! The gateway between clients and krafka's in-process broker.
//!
//! That broker answers a `Fetch` with everything from the wanted offset to the end of the log, whatever limits the
//! request sets: reading a backlog takes quadratic time, and the client refuses an answer of more than 100 MB and never
//! makes progress. It does not support `CreatePartitions`, and it keeps every request in memory. So the gateway answers
//! `Fetch` itself, from the same log and within the limits, and `CreatePartitions`. It clears the stored requests now
//! and then, and passes everything else on unchanged.
//!
//! Transactions are not served: Forebay writes none, and a fetch reports none as open or aborted.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use kafka_protocol::messages::create_partitions_response::CreatePartitionsTopicResult;
use kafka_protocol::messages::fetch_request::FetchPartition;
use kafka_protocol::messages::fetch_response::{FetchableTopicResponse, PartitionData};
use kafka_protocol::messages::{
    CreatePartitionsRequest, CreatePartitionsResponse, FetchRequest, FetchResponse, RequestHeader, ResponseHeader,
};
use kafka_protocol::protocol::{Decodable as _, Encodable};
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

/// The header versions of these two. Later request headers only add fields at the end, so this reads the start of all.
const REQUEST_HEADER_VERSION: i16 = 1;
const RESPONSE_HEADER_VERSION: i16 = 0;

/// Largest request that is accepted: the limit of the in-process broker.
const MAX_REQUEST_BYTES: usize = 64 * 1024 * 1024;

/// After how many requests the in-process broker's list of them is cleared. It searches the list for each request.
const FORGET_AFTER: u64 = 256;

pub(super) struct Gateway {
    broker: Arc<FakeBroker>,
    /// Where the in-process broker listens.
    upstream: SocketAddr,
    /// Notified after each append.
    appended: Notify,
    served: AtomicU64,
}

impl Gateway {
    /// Makes `broker` advertise `port` of the loopback interface to its clients.
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
                // The usual cause is a lack of file descriptors, which passes when others are closed.
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
        while let Some(frame) = read_frame(&mut client).await? {
            let mut body = frame.slice(4..);
            let header = RequestHeader::decode(&mut body, REQUEST_HEADER_VERSION).map_err(malformed)?;
            let (key, version) = (header.request_api_key, header.request_api_version);
            if key == ApiKey::Fetch.to_i16() && version == FETCH_VERSION {
                let request = FetchRequest::decode(&mut body, version).map_err(malformed)?;
                let response = self.fetch(&request).await;
                client.write_all(&encode(&header, &response)?).await?;
            } else if key == ApiKey::CreatePartitions.to_i16() && version == CREATE_PARTITIONS_VERSION {
                let request = CreatePartitionsRequest::decode(&mut body, version).map_err(malformed)?;
                let response = self.create_partitions(request);
                client.write_all(&encode(&header, &response)?).await?;
            } else {
                upstream.write_all(&frame).await?;
                let Some(answer) = read_frame(&mut upstream).await? else { return Ok(()) };
                if key == ApiKey::Produce.to_i16() {
                    self.appended.notify_waiters();
                }
                client.write_all(&answer).await?;
                self.forget();
            }
        }
        Ok(())
    }

    async fn fetch(&self, request: &FetchRequest) -> FetchResponse {
        let deadline = Instant::now() + Duration::from_millis(u64::try_from(request.max_wait_ms).unwrap_or(0));
        let min_bytes = size(request.min_bytes);
        loop {
            // Registered before the log is read, so that an append in between is not missed.
            let appended = self.appended.notified();
            tokio::pin!(appended);
            appended.as_mut().enable();
            let slices = self.broker.with_state(|state| read(request, state));
            let bytes: usize = slices.iter().map(LogSlice::bytes).sum();
            let failed = slices.iter().any(|slice| slice.error != ErrorCode::None);
            if failed || bytes >= min_bytes || Instant::now() >= deadline {
                return fetch_response(request, slices);
            }
            // After the deadline the loop runs once more, and then answers with what there is.
            let _ = tokio::time::timeout_at(deadline, appended).await;
        }
    }

    /// Ignores which brokers should get the replicas, because there is one broker.
    fn create_partitions(&self, request: CreatePartitionsRequest) -> CreatePartitionsResponse {
        let results = request.topics.into_iter().map(|topic| {
            let error = self.broker.with_state(|state| {
                if !state.topics.contains_key(topic.name.as_str()) {
                    ErrorCode::UnknownTopicOrPartition
                } else if state.add_partitions(topic.name.as_str(), topic.count) == 0 {
                    ErrorCode::InvalidPartitions
                } else {
                    ErrorCode::None
                }
            });
            CreatePartitionsTopicResult::default()
                .with_name(topic.name)
                .with_error_code(error.to_i16())
                .with_error_message(None)
        });
        CreatePartitionsResponse::default().with_results(results.collect())
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

/// The part of a partition that a fetch returns.
struct LogSlice {
    error: ErrorCode,
    high_watermark: i64,
    log_start_offset: i64,
    batches: Vec<Bytes>,
}

impl LogSlice {
    fn empty(error: ErrorCode, partition: Option<&PartitionState>) -> Self {
        let (high_watermark, log_start_offset) =
            partition.map_or((-1, -1), |partition| (partition.next_offset, partition.log_start_offset));
        LogSlice { error, high_watermark, log_start_offset, batches: Vec::new() }
    }

    fn bytes(&self) -> usize {
        self.batches.iter().map(Bytes::len).sum()
    }

    fn into_response(self, partition: i32) -> PartitionData {
        PartitionData::default()
            .with_partition_index(partition)
            .with_error_code(self.error.to_i16())
            .with_high_watermark(self.high_watermark)
            .with_last_stable_offset(self.high_watermark)
            .with_log_start_offset(self.log_start_offset)
            .with_records(Some(self.batches.concat().into()))
    }
}

/// Reads one slice for each wanted partition, in order. The slices stay within the limits, except that the first batch
/// of all is included whatever its size, so that every reader makes progress (KIP-74).
///
/// The isolation level and the session are ignored: there are no transactions, and no response opens a session, so
/// every request names all its partitions.
fn read(request: &FetchRequest, state: &ClusterState) -> Vec<LogSlice> {
    let mut left = size(request.max_bytes);
    let mut first = true;
    let mut slices = Vec::new();
    for topic in &request.topics {
        for wanted in &topic.partitions {
            let Some(partition) = state.partition(topic.topic.as_str(), wanted.partition) else {
                slices.push(LogSlice::empty(ErrorCode::UnknownTopicOrPartition, None));
                continue;
            };
            if let Some(error) = fetch_error(wanted, partition) {
                slices.push(LogSlice::empty(error, Some(partition)));
                continue;
            }
            let mut room = left.min(size(wanted.partition_max_bytes));
            let mut batches = Vec::new();
            let start = partition.log.partition_point(|batch| base_offset(batch) <= wanted.fetch_offset);
            if wanted.fetch_offset < partition.next_offset {
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
            slices.push(LogSlice { batches, ..LogSlice::empty(ErrorCode::None, Some(partition)) });
        }
    }
    slices
}

fn fetch_error(wanted: &FetchPartition, partition: &PartitionState) -> Option<ErrorCode> {
    if wanted.current_leader_epoch >= 0 && wanted.current_leader_epoch < partition.leader_epoch {
        Some(ErrorCode::FencedLeaderEpoch)
    } else if wanted.current_leader_epoch > partition.leader_epoch {
        Some(ErrorCode::UnknownLeaderEpoch)
    } else if wanted.fetch_offset < partition.log_start_offset || wanted.fetch_offset > partition.next_offset {
        Some(ErrorCode::OffsetOutOfRange)
    } else {
        None
    }
}

fn fetch_response(request: &FetchRequest, slices: Vec<LogSlice>) -> FetchResponse {
    let mut slices = slices.into_iter();
    let topics = request.topics.iter().map(|topic| {
        let partitions = topic.partitions.iter().zip(&mut slices);
        FetchableTopicResponse::default()
            .with_topic(topic.topic.clone())
            .with_partitions(partitions.map(|(wanted, slice)| slice.into_response(wanted.partition)).collect())
    });
    FetchResponse::default().with_responses(topics.collect())
}

/// The offset of a batch's first record: its first eight bytes.
fn base_offset(mut batch: &[u8]) -> i64 {
    batch.try_get_i64().unwrap_or(i64::MAX)
}

/// Reads a request or an answer together with the length in front of it; `None` at the end of the connection.
async fn read_frame(from: &mut TcpStream) -> io::Result<Option<Bytes>> {
    let mut frame = vec![0; 4];
    match from.read_exact(&mut frame).await {
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(error) => return Err(error),
    }
    let length = usize::try_from(frame.as_slice().get_i32()).unwrap_or(usize::MAX);
    if length > MAX_REQUEST_BYTES {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "the frame is too long"));
    }
    frame.resize(4 + length, 0);
    from.read_exact(&mut frame[4..]).await?;
    Ok(Some(frame.into()))
}

/// The answer to a request, with its length in front.
fn encode(request: &RequestHeader, response: &impl Encodable) -> io::Result<Bytes> {
    let (header, version) =
        (ResponseHeader::default().with_correlation_id(request.correlation_id), request.request_api_version);
    let length = header.compute_size(RESPONSE_HEADER_VERSION).map_err(malformed)?
        + response.compute_size(version).map_err(malformed)?;
    let mut frame = BytesMut::with_capacity(4 + length);
    frame.put_i32(i32::try_from(length).map_err(io::Error::other)?);
    header.encode(&mut frame, RESPONSE_HEADER_VERSION).map_err(malformed)?;
    response.encode(&mut frame, version).map_err(malformed)?;
    Ok(frame.freeze())
}

fn size(bytes: i32) -> usize {
    usize::try_from(bytes).unwrap_or(0)
}

fn malformed(error: anyhow::Error) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}
