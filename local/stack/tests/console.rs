//! The console through the real binaries: pages of `query`, and changes by the maintainer and the redriver.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests: a failure is a failed test")]

use std::process::Command;
use std::time::{Duration, Instant};

use pipeline::ports::KeyKind;
use serde_json::{Value, json};
use settings::{ProcessEnvironment, Variables as _};
use stack::functions::beside_this_program;
use stack::options::Options;
use stack::stack::Stack;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_postgres::NoTls;

const PATIENCE: Duration = Duration::from_secs(60);
const TENANT: &str = "acme";

/// Makes Postgres refuse one event, as it refuses a number that does not fit.
const REFUSING: &str = "
    CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        IF NEW.event_id = 'bad-1' THEN
            RAISE EXCEPTION 'refused' USING ERRCODE = 'numeric_value_out_of_range';
        END IF;
        RETURN NEW;
    END $$;
    CREATE TRIGGER refusing BEFORE INSERT ON events FOR EACH ROW EXECUTE FUNCTION refuse()";

async fn start() -> Stack {
    let options = Options::for_one_run(&ProcessEnvironment, beside_this_program().unwrap()).unwrap();
    let options = options.with_setting("IP_RATE_LIMIT_PER_MIN", "0").with_setting("QUERY_RATE_LIMIT_PER_MIN", "100000");
    Stack::start(Options { aggregate_every: None, ..options }).await.unwrap()
}

/// A browser without scripts, styles and manners.
struct Browser {
    address: String,
    cookie: String,
    csrf: String,
}

struct Page {
    status: String,
    head: String,
    text: String,
}

impl Browser {
    async fn signed_in(stack: &Stack, key: &str) -> Browser {
        let url = stack.console_url();
        let address = url.trim_start_matches("http://").trim_end_matches("/console").to_owned();
        let mut browser = Browser { address, cookie: String::new(), csrf: String::new() };
        let answer = browser.send("POST", "/console/sign-in", &format!("key={key}")).await;
        assert_eq!(answer.status, "303", "{}", answer.text);
        let (_, cookie) = answer.head.split_once("set-cookie: ").unwrap();
        browser.cookie = cookie.split(';').next().unwrap().to_owned();
        let page = browser.get("").await;
        let (_, csrf) = page.split_once(r#"name="csrf" value=""#).unwrap();
        browser.csrf = csrf.split('"').next().unwrap().to_owned();
        browser
    }

    async fn send(&self, method: &str, path: &str, body: &str) -> Page {
        let mut stream = TcpStream::connect(&self.address).await.unwrap();
        let Browser { address, cookie, .. } = self;
        let length = body.len();
        let request = format!(
            "{method} {path} HTTP/1.1\r\nhost: {address}\r\ncookie: {cookie}\r\nsec-fetch-site: same-origin\r\nconnection: close\r\n\
             content-type: application/x-www-form-urlencoded\r\ncontent-length: {length}\r\n\r\n{body}"
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        tokio::time::timeout(PATIENCE, stream.read_to_string(&mut answer)).await.expect("no answer").unwrap();
        let (head, text) = answer.split_once("\r\n\r\n").unwrap();
        let status = head.split(' ').nth(1).unwrap().to_owned();
        Page { status, head: head.to_owned(), text: text.to_owned() }
    }

    async fn get(&self, page: &str) -> String {
        let page = self.send("GET", &format!("/console{page}"), "").await;
        assert_eq!(page.status, "200", "{}", page.text);
        page.text
    }

    async fn submit(&self, page: &str, fields: &str) -> String {
        let page = self.send("POST", &format!("/console{page}"), &format!("csrf={}&{fields}", self.csrf)).await;
        assert_eq!(page.status, "200", "{}", page.text);
        page.text
    }

    async fn until(&self, page: &str, text: &str) -> String {
        let began = Instant::now();
        loop {
            let found = self.get(page).await;
            if found.contains(text) {
                return found;
            }
            assert!(began.elapsed() < PATIENCE, "no {text} in {found}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

async fn send(stack: &Stack, key: &str, events: &[Value]) {
    let headers = [("x-api-key", key), ("content-type", "application/json")];
    let url = format!("{}/batch", stack.ingest_url());
    let answer = stack.client.post(&url, &headers, serde_json::to_vec(events).unwrap()).await.unwrap();
    assert_eq!(answer.status, 202, "{:?}", answer.json());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_finds_what_went_wrong_and_acts() {
    let stack = start().await;
    let key = stack.create_key(TENANT, "shop", KeyKind::Server, 1_000_000).await.unwrap();
    let browser =
        Browser::signed_in(&stack, &stack.endpoints().create_operator_key(TENANT, "ada").await.unwrap()).await;
    let click = |id: &str| json!({"type": "click", "id": id, "user_id": "u1", "campaign_id": "spring"});
    let (database, connection) = tokio_postgres::connect(stack.database_url(), NoTls).await.unwrap();
    tokio::spawn(connection);
    database.batch_execute(REFUSING).await.unwrap();
    send(&stack, &key, &[click("click-1"), click("click-2"), click("bad-1")]).await;

    browser.until("/events?user_id=u1&type=click", "click-2").await;
    let told = browser.get("/event?id=click-1").await;
    assert!(told.contains("Stored") && told.contains("Scored"), "{told}");
    browser.until("/event?id=bad-1", "store-refused").await;

    let letters = browser.until("/dead-letters", r#"data-reason="store-refused""#).await;
    assert!(letters.contains("bad-1") && letters.contains("Try out sending 1 again"), "{letters}");
    let tried = browser.submit("/dead-letters/redrive", "reason=store-refused&dry_run=yes").await;
    assert!(tried.contains("1 letter would be sent again"), "{tried}");
    database.batch_execute("DROP TRIGGER refusing ON events").await.unwrap();
    let sent = browser.submit("/dead-letters/redrive", "reason=store-refused").await;
    assert!(sent.contains("1 letter sent again"), "{sent}");
    assert!(browser.until("/event?id=bad-1", "Stored").await.contains("Redriven"));

    let blocked = browser.submit("/blocks", "address=203.0.113.7&reason=scraping&rule=block&hours=1").await;
    assert!(blocked.contains(r#"data-address="203.0.113.7""#), "{blocked}");
    assert!(browser.get("/blocks?address=203.0.113.7").await.contains("203.0.113.7 is blocked"));
    assert!(browser.submit("/blocks", "address=nowhere&reason=x&rule=block").await.contains("maintainer refuses"));
    assert!(!browser.submit("/blocks/remove", "address=203.0.113.7&rule=block").await.contains("data-address"));

    let made = browser.submit("/keys", "tenant=acme&name=new&kind=server&scope=write&days=1").await;
    let (_, new) = made.split_once(r#"<code class="secret">"#).unwrap();
    send(&stack, new.split('<').next().unwrap(), &[click("click-3")]).await;
    let keys = browser.get("/keys?tenant=acme").await;
    let (_, row) = keys.split_once(">new</th>").unwrap();
    let (_, hash) = row.split_once(r#"name="key_hash" value=""#).unwrap();
    let hash = hash.split('"').next().unwrap();
    let revoked = browser.submit("/keys/revoke", &format!("key_hash={hash}")).await;
    assert!(revoked.contains("The key new of acme is revoked"), "{revoked}");

    let trail = browser.get("/audit").await;
    for action in ["create-key", "revoke-key", "block", "unblock", "redrive"] {
        assert!(trail.contains(&format!("<td>{action}</td><td>console ada (acme, ")), "{action}: {trail}");
    }
    assert!(!trail.contains("fb_server_"), "the trail has no key");

    browser.until("/event?id=click-3", "Stored").await;
    stack.wait_until_idle(PATIENCE).await.unwrap();
    stack.invoke("aggregator", json!({"action": "aggregate"})).await.unwrap();
    assert!(browser.get("/campaigns").await.contains("campaign=spring"));
    let campaign = browser.get("/campaigns?campaign=spring").await;
    assert!(campaign.contains("<dt>Events</dt><dd>4</dd>"), "{campaign}");
    assert!(browser.get("/parts/lag").await.contains(r#"data-group="processor""#));
    stack.stop().await.unwrap();
}

/// `CONSOLE_TEST` is the folder of `console.test.mjs` with its packages (local/console).
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Chromium and Node.js: `make console-test`"]
async fn the_console_works_in_a_browser() {
    let stack = start().await;
    let folder = ProcessEnvironment.get("CONSOLE_TEST").expect("CONSOLE_TEST is not set: run `make console-test`");
    let key = stack.create_key(TENANT, "browser-test", KeyKind::Server, 1_000_000).await.unwrap();
    let operator = stack.endpoints().create_operator_key(TENANT, "browser").await.unwrap();
    let mut tests = Command::new("node");
    tests.args(["--test", "--test-reporter=spec", "console.test.mjs"]).current_dir(folder);
    tests.env("CONSOLE_URL", stack.console_url()).env("CONSOLE_KEY", operator);
    tests.env("INGEST_URL", stack.ingest_url()).env("INGEST_KEY", key);
    tests.env("LAMBDA_URL", format!("http://{}", stack.options.ports.lambda.address()));
    let status = tokio::task::spawn_blocking(move || tests.status()).await.unwrap().unwrap();
    assert!(status.success(), "{status}");
    stack.stop().await.unwrap();
}
