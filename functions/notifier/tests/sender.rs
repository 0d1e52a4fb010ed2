//! Requests to a real HTTPS server.
#![expect(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail by panicking")]

use std::time::{Duration, Instant};

use base64_simd::STANDARD;
use bytes::Bytes;
use event::{TenantId, Timestamp};
use hmac::{Hmac, KeyInit as _, Mac as _};
use notifier::{Attempt, HttpsSender, WebhookSender as _};
use pipeline::root_key::RootKey;
use secrecy::{ExposeSecret as _, SecretString};
use services::https_receiver::{HttpsReceiver, ReceivedRequest, ReceiverAnswer};
use sha2::Sha256;
use testkit::contracts::webhooks::endpoint;
use webhooks::{WebhookEndpoint, shown_secret};

const NOW: Timestamp = Timestamp::from_millis(1_763_661_600_123);
const LIMIT: Duration = Duration::from_secs(2);

fn key() -> RootKey {
    RootKey::try_from(SecretString::from("a root key that is long enough to be one")).unwrap()
}

fn to(url: &str) -> WebhookEndpoint {
    WebhookEndpoint { target: url.parse().unwrap(), ..endpoint(&TenantId::new("acme").unwrap()) }
}

/// A sender that may call this machine.
fn sender(receiver: &HttpsReceiver) -> HttpsSender {
    HttpsSender::new(key(), LIMIT, &["127.0.0.0/8".parse().unwrap()], Some(&receiver.ca_file())).unwrap()
}

async fn send(sender: &HttpsSender, endpoint: &WebhookEndpoint) -> Attempt {
    sender.send(endpoint, "msg_1", Bytes::from_static(b"{\"a\": 1}"), NOW).await
}

fn error(attempt: &Attempt) -> &str {
    match attempt {
        Attempt::Failed { error, .. } => error,
        other => panic!("{other:?}"),
    }
}

/// As a receiver checks it, by the specification alone.
fn has_signature_of(request: &ReceivedRequest, secret: &str) -> bool {
    let secret = STANDARD.decode_to_vec(secret.strip_prefix("whsec_").unwrap()).unwrap();
    let mut mac = Hmac::<Sha256>::new_from_slice(&secret).unwrap();
    mac.update(format!("{}.{}.", request.header("webhook-id"), request.header("webhook-timestamp")).as_bytes());
    mac.update(&request.body);
    let expected = format!("v1,{}", STANDARD.encode_to_string(mac.finalize().into_bytes()));
    request.header("webhook-signature").split(' ').any(|signature| signature == expected)
}

#[tokio::test]
async fn a_receiver_can_verify_what_it_gets() {
    let receiver = HttpsReceiver::start().await.unwrap();
    let sender = sender(&receiver);
    let rotated = WebhookEndpoint { secret_version: 2, previous_until: Some(NOW.plus(LIMIT)), ..to(&receiver.url()) };
    assert_eq!(send(&sender, &rotated).await, Attempt::Delivered);
    let request = &receiver.received()[0];
    assert_eq!((request.path.as_str(), &request.body[..]), ("/hook", &b"{\"a\": 1}"[..]));
    assert_eq!(request.header("content-type"), "application/json");
    assert_eq!((request.header("webhook-id"), request.header("webhook-timestamp")), ("msg_1", "1763661600"));
    for (version, expected) in [(1, true), (2, true), (3, false)] {
        let secret = shown_secret(&key(), &rotated.id, version);
        assert_eq!(has_signature_of(request, secret.expose_secret()), expected, "secret {version}");
    }
}

#[tokio::test]
async fn answers_are_judged_and_redirects_are_not_followed() {
    let receiver = HttpsReceiver::start().await.unwrap();
    let (sender, endpoint) = (sender(&receiver), to(&receiver.url()));
    for status in [200, 201, 299] {
        receiver.answer(ReceiverAnswer::status(status));
        assert_eq!(send(&sender, &endpoint).await, Attempt::Delivered, "{status}");
    }
    for status in [400, 401, 404, 500, 503] {
        receiver.answer(ReceiverAnswer::status(status));
        assert!(error(&send(&sender, &endpoint).await).contains(&status.to_string()));
    }
    receiver.answer(ReceiverAnswer::status(410));
    assert_eq!(send(&sender, &endpoint).await, Attempt::Gone);

    let before = receiver.received().len();
    let location = receiver.url().replace("/hook", "/elsewhere").parse().unwrap();
    let headers = vec![("location".parse().unwrap(), location)];
    for status in [301, 302, 307, 308] {
        receiver.answer(ReceiverAnswer { headers: headers.clone(), ..ReceiverAnswer::status(status) });
        assert!(error(&send(&sender, &endpoint).await).contains("redirects are not followed"));
    }
    let after = receiver.received();
    assert_eq!(after.len() - before, 4);
    assert!(after.iter().all(|request| request.path == "/hook"));
}

#[tokio::test]
async fn nothing_reaches_an_address_that_is_not_public() {
    let receiver = HttpsReceiver::start().await.unwrap();
    let strict = HttpsSender::new(key(), LIMIT, &[], Some(&receiver.ca_file())).unwrap();
    let port = receiver.port();
    // By address in all its spellings, and by a name that has such an address.
    for host in ["127.0.0.1", "2130706433", "0x7f000001", "127.1", "[::ffff:127.0.0.1]", "localhost", "LOCALHOST"] {
        let attempt = send(&strict, &to(&format!("https://{host}:{port}/hook"))).await;
        assert!(error(&attempt).contains("is not public"), "{host}: {attempt:?}");
    }
    for host in ["169.254.169.254", "[fd00:ec2::254]", "10.0.0.1", "[::1]"] {
        let attempt = send(&strict, &to(&format!("https://{host}/latest/meta-data/"))).await;
        assert!(error(&attempt).contains("is not public"), "{host}: {attempt:?}");
    }
    assert_eq!(receiver.received().len(), 0);
}

#[tokio::test]
async fn a_receiver_is_given_so_much_time_and_no_more() {
    let receiver = HttpsReceiver::start().await.unwrap();
    receiver.answer(ReceiverAnswer { after: Duration::from_secs(30), ..ReceiverAnswer::status(200) });
    let began = Instant::now();
    let attempt = send(&sender(&receiver), &to(&receiver.url())).await;
    assert!(error(&attempt).contains("no answer within 2000 ms"), "{attempt:?}");
    assert!(began.elapsed() < Duration::from_secs(10));
}

#[tokio::test]
async fn a_receiver_must_have_a_certificate_that_is_trusted_and_its_name() {
    let (receiver, other) = (HttpsReceiver::start().await.unwrap(), HttpsReceiver::start().await.unwrap());
    let attempt = send(&sender(&other), &to(&receiver.url())).await;
    assert!(error(&attempt).contains("certificate"), "another authority: {attempt:?}");
    let named = receiver.url().replace("127.0.0.1", "127.0.0.2");
    let attempt = send(&sender(&receiver), &to(&named)).await;
    assert!(matches!(attempt, Attempt::Failed { .. }), "{attempt:?}");
    assert_eq!(receiver.received().len(), 0);
    assert!(HttpsSender::new(key(), LIMIT, &[], Some("/nowhere.pem".as_ref())).is_err());
}
