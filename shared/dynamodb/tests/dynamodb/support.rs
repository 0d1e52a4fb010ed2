//! An embedded DynamoDB with both tables, and an HTTP client that injects faults into requests to it.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_credential_types::Credentials;
use aws_credential_types::provider::SharedCredentialsProvider;
use aws_smithy_http_client::Builder;
use aws_smithy_runtime_api::client::http::{
    HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpClient, SharedHttpConnector,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::body::SdkBody;
use dynamodb::DynamoDb;
use event::{EventId, EventKey, Origin, PayloadHash, TenantId};
use http_body_util::BodyExt;
use pipeline::ports::Claim;
use serde_json::{Value, json};
use services::dynamodb::EmbeddedDynamoDb;

pub const DEDUP: &str = "dedup";
pub const ACCESS: &str = "access";

/// How a request fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The service throttles it.
    Throttle,
    /// The service rejects it as invalid.
    Deny,
    /// It takes effect, and the connection breaks before the answer.
    LoseAnswer,
    /// The service throttles each statement of a batch.
    ThrottleStatements,
    /// A batch takes effect, but the statements at odd positions are answered with an internal error.
    SpoilOddAnswers,
    /// A batch read leaves all its keys unprocessed.
    LeaveUnprocessed,
    /// A batch read finds nothing, as if the TTL had just removed all items.
    FindNothing,
}

/// Faults by operation (`BatchExecuteStatement`, …), and the number of requests for each operation.
#[derive(Debug, Default)]
pub struct Network {
    faults: Mutex<VecDeque<(&'static str, Fault)>>,
    sent: Mutex<Vec<String>>,
}

impl Network {
    /// The next `requests` requests of `operation` fail with `fault`.
    pub fn disturb(&self, operation: &'static str, requests: usize, fault: Fault) {
        self.faults.lock().unwrap().extend(std::iter::repeat_n((operation, fault), requests));
    }

    pub fn requests(&self, operation: &str) -> usize {
        self.sent.lock().unwrap().iter().filter(|sent| *sent == operation).count()
    }

    /// Counts the request and takes its fault from the queue.
    fn next(&self, operation: &str) -> Option<Fault> {
        self.sent.lock().unwrap().push(operation.to_owned());
        let mut faults = self.faults.lock().unwrap();
        let index = faults.iter().position(|(name, _)| *name == operation)?;
        faults.remove(index).map(|(_, fault)| fault)
    }
}

pub struct Service {
    pub dynamodb: DynamoDb,
    pub network: Arc<Network>,
    pub config: SdkConfig,
    _server: EmbeddedDynamoDb,
}

pub async fn start() -> Service {
    let server = EmbeddedDynamoDb::start(None, None).await.unwrap();
    let network = Arc::new(Network::default());
    let config = config(&server.endpoint(), Arc::clone(&network));
    let dynamodb = DynamoDb::connect(&config).await;
    dynamodb::tables::ensure(&dynamodb, DEDUP, ACCESS).await.unwrap();
    Service { dynamodb, network, config, _server: server }
}

pub fn config(endpoint: &str, network: Arc<Network>) -> SdkConfig {
    let http = FaultyHttp { inner: Builder::new().build_http(), network };
    SdkConfig::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::from_static("us-east-1"))
        .credentials_provider(SharedCredentialsProvider::new(Credentials::new("local", "local", None, None, "test")))
        .retry_config(aws_config::retry::RetryConfig::disabled())
        .endpoint_url(endpoint)
        .http_client(SharedHttpClient::new(http))
        .build()
}

/// Claims of the ids from 0 up to `count`, each with its own origin in that partition.
pub fn claims(count: i64, partition: i32) -> Vec<Claim> {
    let claim = |n: i64| Claim {
        key: EventKey { tenant: TenantId::new("acme").unwrap(), id: EventId::new(&n.to_string()).unwrap() },
        origin: Origin::new("raw-events", partition, n),
        payload_hash: PayloadHash::of(b"a"),
    };
    (0..count).map(claim).collect()
}

#[derive(Debug)]
struct FaultyHttp {
    inner: SharedHttpClient,
    network: Arc<Network>,
}

impl HttpClient for FaultyHttp {
    fn http_connector(&self, settings: &HttpConnectorSettings, components: &RuntimeComponents) -> SharedHttpConnector {
        let inner = self.inner.http_connector(settings, components);
        SharedHttpConnector::new(FaultyConnector { inner, network: Arc::clone(&self.network) })
    }
}

#[derive(Debug)]
struct FaultyConnector {
    inner: SharedHttpConnector,
    network: Arc<Network>,
}

impl HttpConnector for FaultyConnector {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let target = request.headers().get("x-amz-target").unwrap_or_default();
        let operation = target.rsplit('.').next().unwrap_or_default();
        let Some(fault) = self.network.next(operation) else { return self.inner.call(request) };
        match fault {
            Fault::Throttle => answer(400, refusal("ProvisionedThroughputExceededException")),
            Fault::Deny => answer(400, refusal("AccessDeniedException")),
            Fault::LoseAnswer => {
                let answer = self.inner.call(request);
                HttpConnectorFuture::new(async move {
                    answer.await?;
                    Err(ConnectorError::io("the connection broke".into()))
                })
            }
            Fault::ThrottleStatements => {
                let statements = body_of(&request)["Statements"].as_array().map_or(0, Vec::len);
                let error = json!({"Error": {"Code": "ThrottlingError", "Message": "injected"}});
                answer(200, json!({"Responses": vec![error; statements]}))
            }
            Fault::SpoilOddAnswers => {
                let answer = self.inner.call(request);
                HttpConnectorFuture::new(async move {
                    let body = answer.await?.into_body().collect().await.unwrap().to_bytes();
                    let mut body: Value = serde_json::from_slice(&body).unwrap();
                    for answer in body["Responses"].as_array_mut().unwrap().iter_mut().skip(1).step_by(2) {
                        *answer = json!({"Error": {"Code": "InternalServerError", "Message": "injected"}});
                    }
                    Ok(response(200, &body))
                })
            }
            Fault::LeaveUnprocessed => {
                answer(200, json!({"Responses": {}, "UnprocessedKeys": body_of(&request)["RequestItems"]}))
            }
            Fault::FindNothing => answer(200, json!({"Responses": {}, "UnprocessedKeys": {}})),
        }
    }
}

fn answer(status: u16, body: Value) -> HttpConnectorFuture {
    HttpConnectorFuture::ready(Ok(response(status, &body)))
}

fn response(status: u16, body: &Value) -> HttpResponse {
    HttpResponse::new(status.try_into().unwrap(), SdkBody::from(body.to_string()))
}

fn refusal(code: &str) -> Value {
    json!({"__type": format!("com.amazonaws.dynamodb.v20120810#{code}"), "message": "injected"})
}

fn body_of(request: &HttpRequest) -> Value {
    serde_json::from_slice(request.body().bytes().unwrap()).unwrap()
}
