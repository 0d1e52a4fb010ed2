//! The host with a real function binary, called through the AWS SDK.

#![expect(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail the test")]

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use aws_config::Region;
use aws_sdk_lambda::Client;
use aws_sdk_lambda::config::Credentials;
use aws_sdk_lambda::operation::invoke::{InvokeError, InvokeOutput};
use aws_sdk_lambda::primitives::Blob;
use host::{
    FunctionConfig, FunctionElsewhere, Host, HostConfig, HostError, HttpFunction, InstanceState, LogTarget,
    RunningHttpFunction,
};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use services::free_port;

fn program() -> PathBuf {
    // target/<profile>/deps/host-<hash>: the examples are next to `deps`.
    let test = std::env::current_exe().unwrap();
    test.parent().unwrap().parent().unwrap().join("examples/function")
}

fn function() -> FunctionConfig {
    FunctionConfig { log: LogTarget::Discard, ..FunctionConfig::new("probe", program()) }
}

async fn start(function: FunctionConfig) -> (Host, Client) {
    start_all(HostConfig::new(vec![function])).await
}

async fn start_all(config: HostConfig) -> (Host, Client) {
    let listen = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let host = Host::start(HostConfig { listen, ..config }).await.unwrap();
    let aws = aws::sdk_config()
        .await
        .into_builder()
        .endpoint_url(host.endpoint())
        .region(Region::new("us-east-1"))
        .credentials_provider(aws_sdk_lambda::config::SharedCredentialsProvider::new(Credentials::new(
            "id", "secret", None, None, "test",
        )))
        .build();
    let config = aws_sdk_lambda::config::Builder::from(&aws)
        .timeout_config(
            aws_config::timeout::TimeoutConfig::builder().operation_timeout(Duration::from_secs(30)).build(),
        )
        .build();
    (host, Client::from_conf(config))
}

async fn invoke(client: &Client, event: Value) -> InvokeOutput {
    client.invoke().function_name("probe").payload(Blob::new(event.to_string())).send().await.unwrap()
}

fn answer(output: &InvokeOutput) -> Value {
    serde_json::from_slice(output.payload().unwrap().as_ref()).unwrap()
}

fn signal(pid: u32, signal: Signal) {
    kill(Pid::from_raw(pid.cast_signed()), signal).unwrap();
}

fn is_alive(pid: u32) -> bool {
    kill(Pid::from_raw(pid.cast_signed()), None).is_ok()
}

async fn eventually(what: &str, condition: impl Fn() -> bool) {
    let waiting = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), waiting).await.unwrap_or_else(|_| panic!("never: {what}"));
}

#[tokio::test]
async fn calls_reuse_an_instance_and_see_what_lambda_promises() {
    let env = vec![("GREETING".to_owned(), "hello".to_owned())];
    let (host, client) = start(FunctionConfig { env, timeout: Duration::from_secs(20), ..function() }).await;
    assert!(host.instances("probe").is_empty(), "instances start on demand");

    let first = invoke(&client, json!({"n": 1})).await;
    assert_eq!((first.status_code(), first.function_error(), first.executed_version()), (200, None, Some("$LATEST")));
    assert_eq!(answer(&first)["echo"], json!({"n": 1}));
    let context = answer(&invoke(&client, json!({"do": "context"})).await);
    assert_eq!(context["arn"], "arn:aws:lambda:us-east-1:000000000000:function:probe");
    assert_eq!(context["name"], "probe");
    assert_eq!(context["memory"], 512);
    assert_eq!(context["version"], "$LATEST");
    assert_eq!(context["greeting"], "hello");
    let left = context["left_ms"].as_u64().unwrap();
    assert!((10_000..=20_000).contains(&left), "the deadline is real: {left} ms left");

    let instances = host.instances("probe");
    assert_eq!(instances.len(), 1);
    assert_eq!((instances[0].calls, instances[0].state), (2, InstanceState::Idle));
    assert_eq!(u64::from(instances[0].pid), answer(&first)["pid"].as_u64().unwrap());

    let pid = instances[0].pid;
    host.stop().await;
    assert!(!is_alive(pid));
}

#[tokio::test]
async fn a_function_error_is_an_answer_and_the_instance_lives_on() {
    let (host, client) = start(function()).await;
    let failed = invoke(&client, json!({"do": "fail"})).await;
    assert_eq!((failed.status_code(), failed.function_error()), (200, Some("Unhandled")));
    assert_eq!(answer(&failed)["errorMessage"], "this was asked for");
    assert!(answer(&failed)["errorType"].is_string());
    invoke(&client, json!({})).await;
    assert_eq!(host.instances("probe")[0].calls, 2);
}

#[tokio::test]
async fn a_crash_fails_the_call_at_once_and_the_next_gets_a_new_instance() {
    let (host, client) = start(function()).await;
    let crashed = invoke(&client, json!({"do": "exit"})).await;
    assert_eq!(crashed.function_error(), Some("Unhandled"));
    let error = answer(&crashed);
    assert_eq!(error["errorType"], "Runtime.ExitError");
    assert!(error["errorMessage"].as_str().unwrap().contains("exit status: 7"), "{error}");
    let next = answer(&invoke(&client, json!({})).await);
    assert_eq!(u64::from(host.instances("probe")[0].pid), next["pid"].as_u64().unwrap());
}

#[tokio::test]
async fn sigkill_in_a_call_fails_it_and_an_idle_instance_is_replaced() {
    let (host, client) = start(function()).await;
    let call = tokio::spawn({
        let client = client.clone();
        async move { invoke(&client, json!({"do": "sleep", "ms": 60_000})).await }
    });
    eventually("a busy instance", || {
        host.instances("probe").iter().any(|i| i.state == InstanceState::Busy && i.calls == 1)
    })
    .await;
    signal(host.instances("probe")[0].pid, Signal::SIGKILL);
    let error = answer(&call.await.unwrap());
    assert_eq!(error["errorType"], "Runtime.ExitError");
    assert!(error["errorMessage"].as_str().unwrap().contains("signal: 9"), "{error}");

    let pid = answer(&invoke(&client, json!({})).await)["pid"].as_u64().unwrap();
    signal(u32::try_from(pid).unwrap(), Signal::SIGKILL);
    eventually("the end is noticed", || host.instances("probe").is_empty()).await;
    assert_eq!(invoke(&client, json!({})).await.function_error(), None);
}

#[tokio::test]
async fn a_call_past_its_timeout_is_killed_even_if_the_process_is_frozen() {
    let (host, client) = start(FunctionConfig { timeout: Duration::from_secs(1), ..function() }).await;
    let slow = invoke(&client, json!({"do": "sleep", "ms": 60_000})).await;
    let error = answer(&slow);
    assert_eq!((slow.function_error(), &error["errorType"]), (Some("Unhandled"), &json!("Sandbox.Timedout")));
    assert!(error["errorMessage"].as_str().unwrap().ends_with("Task timed out after 1.00 seconds"), "{error}");

    let pid = u32::try_from(answer(&invoke(&client, json!({})).await)["pid"].as_u64().unwrap()).unwrap();
    signal(pid, Signal::SIGSTOP);
    let frozen = invoke(&client, json!({})).await;
    assert_eq!(answer(&frozen)["errorType"], "Sandbox.Timedout");
    eventually("the end of the frozen process", || !is_alive(pid)).await;
    assert_eq!(invoke(&client, json!({})).await.function_error(), None);
    drop(host);
}

#[tokio::test]
async fn concurrency_bounds_instances_and_the_queue_bounds_waiting_calls() {
    let (host, client) = start(FunctionConfig { concurrency: 2, queue: 1, ..function() }).await;
    let calls: Vec<_> = (0..3)
        .map(|_| {
            let client = client.clone();
            tokio::spawn(async move { invoke(&client, json!({"do": "sleep", "ms": 700})).await })
        })
        .collect();
    eventually("two busy instances", || {
        host.instances("probe").iter().filter(|instance| instance.state == InstanceState::Busy).count() == 2
    })
    .await;
    // Two run and one waits, so the fourth is refused; send calls until the third has arrived.
    let throttled = loop {
        let sent = client.invoke().function_name("probe").payload(Blob::new(r#"{"do":"sleep","ms":1}"#)).send().await;
        if let Err(error) = sent {
            break error.into_service_error();
        }
    };
    assert!(matches!(throttled, InvokeError::TooManyRequestsException(_)), "{throttled:?}");
    for call in calls {
        assert_eq!(call.await.unwrap().function_error(), None);
    }
    assert_eq!(host.instances("probe").len(), 2);
}

#[tokio::test]
async fn warm_instances_are_there_before_the_first_call() {
    let (host, client) = start(FunctionConfig { concurrency: 2, prewarm: 2, ..function() }).await;
    eventually("two idle instances", || {
        host.instances("probe").iter().filter(|instance| instance.state == InstanceState::Idle).count() == 2
    })
    .await;
    let pid = answer(&invoke(&client, json!({})).await)["pid"].as_u64().unwrap();
    let again = answer(&invoke(&client, json!({})).await)["pid"].as_u64().unwrap();
    assert_eq!(pid, again, "the most recently used one is taken");
}

#[tokio::test]
async fn six_megabytes_each_way_are_the_limit() {
    let (_host, client) = start(function()).await;
    let of_size = |bytes: usize| format!("{{\"v\":\"{}\"}}", "x".repeat(bytes - 8));
    let send = |event: String| client.invoke().function_name("probe").payload(Blob::new(event)).send();
    // The echo is larger than the request, so the answer is too large.
    let echoed = send(of_size(6 * 1024 * 1024)).await.unwrap();
    assert_eq!(answer(&echoed)["errorType"], "Function.ResponseSizeTooLarge");
    let refused = send(of_size(6 * 1024 * 1024 + 1)).await.unwrap_err().into_service_error();
    assert!(matches!(refused, InvokeError::RequestTooLargeException(_)), "{refused:?}");
    let large = invoke(&client, json!({"do": "large"})).await;
    assert_eq!(answer(&large)["errorType"], "Function.ResponseSizeTooLarge");
    assert_eq!(send(of_size(3 * 1024 * 1024)).await.unwrap().function_error(), None);
}

#[tokio::test]
async fn arns_and_qualifiers_are_understood_and_unknown_names_are_not_found() {
    let (_host, client) = start(function()).await;
    for name in ["arn:aws:lambda:us-east-1:000000000000:function:probe", "probe:live"] {
        let output = client.invoke().function_name(name).send().await.unwrap();
        assert_eq!(answer(&output)["echo"], json!({}), "{name}: no payload is an empty object");
    }
    let error = client.invoke().function_name("nobody").send().await.unwrap_err().into_service_error();
    assert!(matches!(error, InvokeError::ResourceNotFoundException(_)), "{error:?}");
}

#[tokio::test]
async fn a_failed_start_is_reported_with_the_last_output() {
    let env = vec![("FAIL_INIT".to_owned(), "1".to_owned())];
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("logs/probe.log");
    let (_host, client) = start(FunctionConfig { env, log: LogTarget::File(log.clone()), ..function() }).await;
    let error = answer(&invoke(&client, json!({})).await);
    assert_eq!(error["errorType"], "Runtime.ExitError");
    let message = error["errorMessage"].as_str().unwrap();
    assert!(message.contains("exit status: 3") && message.contains("cannot reach the database"), "{message}");
    assert_eq!(std::fs::read_to_string(log).unwrap(), "cannot reach the database\n");
}

#[tokio::test]
async fn dropping_the_host_leaves_no_process() {
    let (host, client) = start(function()).await;
    let pid = u32::try_from(answer(&invoke(&client, json!({})).await)["pid"].as_u64().unwrap()).unwrap();
    drop(host);
    eventually("the end of the instance", || !is_alive(pid)).await;
}

fn elsewhere(server: SocketAddr, name: &str, one_at_a_time: bool) -> FunctionElsewhere {
    let url = format!("http://{server}/2015-03-31/functions/{name}/invocations").parse().unwrap();
    FunctionElsewhere { url, one_at_a_time }
}

/// Serves calls that each take a tenth of a second, and returns where, and the largest number of calls at once so far.
async fn slow_server() -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let (running, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let seen = Arc::clone(&most);
    let call = move || {
        let (running, most) = (Arc::clone(&running), Arc::clone(&most));
        async move {
            most.fetch_max(running.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            tokio::time::sleep(Duration::from_millis(100)).await;
            running.fetch_sub(1, Ordering::SeqCst);
            "{}"
        }
    };
    let router = axum::Router::new().fallback(call);
    tokio::spawn(async move { axum::serve(listener, router).await });
    (address, seen)
}

#[tokio::test]
async fn calls_to_a_server_that_takes_one_at_a_time_wait_for_their_turn() {
    for (one_at_a_time, expected) in [(true, 1), (false, 3)] {
        let (server, most) = slow_server().await;
        let functions = BTreeMap::from([("probe".to_owned(), elsewhere(server, "function", one_at_a_time))]);
        let (_here, client) = start_all(HostConfig { elsewhere: functions, ..HostConfig::new(vec![]) }).await;
        let call = || invoke(&client, json!({}));
        tokio::join!(call(), call(), call());
        assert_eq!(most.load(Ordering::SeqCst), expected, "one at a time: {one_at_a_time}");
    }
}

#[tokio::test]
async fn a_caller_that_gives_up_does_not_end_the_turn_of_its_call() {
    let (server, most) = slow_server().await;
    let functions = BTreeMap::from([("probe".to_owned(), elsewhere(server, "function", true))]);
    let (_here, client) = start_all(HostConfig { elsewhere: functions, ..HostConfig::new(vec![]) }).await;
    let impatient = tokio::time::timeout(Duration::from_millis(50), invoke(&client, json!({}))).await;
    assert!(impatient.is_err(), "it gave up");
    invoke(&client, json!({})).await;
    assert_eq!(most.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn calls_to_a_function_elsewhere_are_passed_on() {
    let (there, direct) = start(function()).await;
    let nothing = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port().unwrap()));
    let elsewhere = BTreeMap::from([
        ("probe".to_owned(), elsewhere(there.address(), "probe", false)),
        ("gone".to_owned(), elsewhere(nothing, "gone", false)),
    ]);
    let (here, through) = start_all(HostConfig { elsewhere, ..HostConfig::new(vec![]) }).await;
    let event = json!({"a": "b"});
    assert_eq!(answer(&invoke(&through, event.clone()).await)["pid"], answer(&invoke(&direct, event).await)["pid"]);
    assert!(here.instances("probe").is_empty());
    let unknown = through.invoke().function_name("processor").send().await.unwrap_err();
    assert_eq!(unknown.raw_response().unwrap().status().as_u16(), 404);
    let unreachable = through.invoke().function_name("gone").send().await.unwrap_err();
    assert_eq!(unreachable.raw_response().unwrap().status().as_u16(), 500);
}

#[tokio::test]
async fn mistakes_in_the_configuration_are_named() {
    let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let listen = taken.local_addr().unwrap();
    let error = Host::start(HostConfig { listen, ..HostConfig::new(vec![]) }).await.unwrap_err();
    assert_eq!(error.to_string(), format!("cannot listen on {listen}"));
    let free = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let missing = FunctionConfig::new("probe", "/nowhere/probe");
    let error = Host::start(HostConfig { listen: free, ..HostConfig::new(vec![missing]) }).await.unwrap_err();
    assert_eq!(error.to_string(), "probe: the program /nowhere/probe does not exist");
    let twice = HostConfig { listen: free, ..HostConfig::new(vec![function(), function()]) };
    let error = Host::start(twice).await.unwrap_err();
    assert!(matches!(error, HostError::DuplicateName { .. }), "{error}");
    let elsewhere = BTreeMap::from([("probe".to_owned(), elsewhere(listen, "probe", false))]);
    let error =
        Host::start(HostConfig { listen: free, elsewhere, ..HostConfig::new(vec![function()]) }).await.unwrap_err();
    assert!(matches!(error, HostError::DuplicateName { .. }), "{error}");
}

fn http_function(port: u16) -> HttpFunction {
    HttpFunction { name: "site".into(), program: program(), env: vec![], port, log: LogTarget::Discard }
}

#[tokio::test]
async fn an_http_function_is_kept_running() {
    let running = RunningHttpFunction::start(http_function(free_port().unwrap())).await.unwrap();
    let address = running.address();
    assert!(tokio::net::TcpStream::connect(address).await.is_ok(), "healthy when started");
    let first = running.pid();
    signal(first, Signal::SIGKILL);
    eventually("another process", || running.pid() != first).await;
    let second = running.pid();
    eventually("it serves again", || std::net::TcpStream::connect(address).is_ok()).await;
    running.stop().await;
    assert!(!is_alive(second));
}

#[tokio::test]
async fn an_http_function_that_cannot_serve_is_an_error() {
    let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = taken.local_addr().unwrap().port();
    let error = RunningHttpFunction::start(http_function(port)).await.unwrap_err();
    assert_eq!(error.to_string(), format!("site: port {port} is taken"));
    let env = vec![("FAIL_INIT".to_owned(), "1".to_owned())];
    let error =
        RunningHttpFunction::start(HttpFunction { env, ..http_function(free_port().unwrap()) }).await.unwrap_err();
    let text = error.to_string();
    assert!(text.contains("exit status: 3") && text.contains("cannot reach the database"), "{text}");
}
