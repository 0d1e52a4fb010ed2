//! The console: who gets in, what forms do, and what a page may never have.

use std::sync::Mutex;

use async_trait::async_trait;
use bytes::Bytes;
use pipeline::ports::{FunctionCaller, FunctionError, KeyHash};
use pipeline::root_key::RootKey;
use pipeline::{Dependency, DependencyError};
use query::ConsolePorts;
use secrecy::SecretString;

use super::*;

const ON: [(&str, &str); 3] =
    [("CONSOLE", "on"), ("CONSOLE_KEY", "read from the ports"), ("QUERY_RATE_LIMIT_PER_MIN", "1000000")];

/// Every page that is asked for.
const PAGES: [&str; 11] = [
    "/console",
    "/console/",
    "/console/parts/flow",
    "/console/parts/lag",
    "/console/events",
    "/console/event?id=order-1001",
    "/console/campaigns",
    "/console/dead-letters",
    "/console/blocks",
    "/console/keys",
    "/console/audit",
];

/// Every form, with fields that are enough.
const FORMS: [(&str, &str); 8] = [
    ("/console/sign-out", ""),
    ("/console/dead-letters/redrive", "reason=x"),
    ("/console/blocks", "address=203.0.113.7&reason=x&rule=block"),
    ("/console/blocks/remove", "address=203.0.113.7&rule=block"),
    ("/console/keys", "tenant=acme&name=x&kind=server&scope=read"),
    ("/console/keys/rotate", "key_hash=ab&grace=1"),
    ("/console/keys/revoke", "key_hash=ab"),
    ("/console/dead-letters/redrive", "reason=x&dry_run=yes"),
];

/// The maintainer and the redriver, which answer what a test says.
#[derive(Default)]
pub struct FakeFunctions {
    answers: Mutex<BTreeMap<String, Result<Value, FunctionError>>>,
    calls: Mutex<Vec<(String, Value)>>,
    takes: Mutex<Duration>,
    is_down: Mutex<bool>,
    finished: Mutex<usize>,
}

impl FakeFunctions {
    /// With answers that are like those of the functions.
    pub fn new() -> Self {
        let functions = FakeFunctions::default();
        for (action, answer) in [
            (
                "lag",
                json!({"groups": [{"group": "processor", "topic": "raw-events", "lag": 7, "partitions": [
                {"partition": 0, "committed": 3, "latest": 10, "lag": 7}]}, {"group": "notifier",
                "topic": "processed-events", "lag": null, "partitions": []}]}),
            ),
            (
                "list",
                json!({"run": "r1", "read": 2, "unreadable": 0, "copies": 0, "matched": 2, "reasons": {
                "schema-violation": {"letters": 2, "open": 1, "under_way": 0, "redriven": 1, "parked": 0,
                    "first_failed_at": RECEIVED_AT, "last_failed_at": RECEIVED_AT, "examples": [{
                        "position": "dead-letter-events/0/1", "origin": "raw-events/0/5", "attempt": 0,
                        "tenant": "acme", "type": "<b>click</b>", "event_id": "e&1", "reason": "<i>amount</i>",
                        "failed_at": RECEIVED_AT}]}}}),
            ),
            (
                "redrive",
                json!({"run": "r2", "dry_run": true, "read": 2, "unreadable": 0, "copies": 0, "matched": 2,
                "sent": 1, "parked": 0, "already": 1, "under_way": 0, "refused": 0, "by_reason": {}}),
            ),
            (
                "list-blocks",
                json!({"blocks": [{"address": "203.0.113.7", "allows": false, "from": RECEIVED_AT,
                "until": null, "reason": "<u>scraping</u>"}]}),
            ),
            (
                "find-block",
                json!({"address": "203.0.113.7", "blocked": true, "by": {"address": "203.0.113.0/24",
                "allows": false, "from": RECEIVED_AT, "until": null, "reason": "abuse"}, "entries": []}),
            ),
            ("block", json!({"blocked": {}})),
            ("allow", json!({"allowed": {}})),
            ("unblock", json!({"address": "203.0.113.7", "was_listed": true, "still_in": []})),
            ("disallow", json!({"address": "203.0.113.7", "was_listed": false, "still_in": []})),
            ("list-keys", json!({"keys": [shown_key("valid"), shown_key("revoked")]})),
            ("create-key", made_key()),
            ("rotate-key", made_key()),
            ("revoke-key", shown_key("revoked")),
            (
                "audit",
                json!({"entries": [{"started_at": RECEIVED_AT, "run": "r", "action": "block",
                "by": "console operator", "state": "finished", "request": "{}", "result": "<s>{}</s>"}]}),
            ),
        ] {
            functions.answer(action, Ok(answer));
        }
        functions
    }

    fn answer(&self, action: &str, answer: Result<Value, FunctionError>) {
        self.answers.lock().unwrap().insert(action.to_owned(), answer);
    }

    /// The calls since the last time, as function and event.
    fn calls(&self) -> Vec<(String, Value)> {
        std::mem::take(&mut self.calls.lock().unwrap())
    }
}

fn shown_key(state: &str) -> Value {
    json!({"key_hash": "ab".repeat(32), "tenant": "acme", "name": "<q>collector</q>", "kind": "server",
        "scopes": ["write"], "rate_limit_per_min": null, "burst": null, "expires_at": null, "state": state})
}

fn made_key() -> Value {
    let mut made = shown_key("valid");
    made["key"] = "fb_server_new".into();
    made
}

#[async_trait]
impl FunctionCaller for FakeFunctions {
    async fn call(&self, function: &str, event: Bytes) -> Result<Bytes, DependencyError> {
        let event: Value = serde_json::from_slice(&event).unwrap();
        let answer = self.answers.lock().unwrap().get(event["action"].as_str().unwrap()).cloned();
        self.calls.lock().unwrap().push((function.to_owned(), event));
        let takes = *self.takes.lock().unwrap();
        tokio::time::sleep(takes).await;
        *self.finished.lock().unwrap() += 1;
        let failed = |class, tag, source| DependencyError {
            dependency: Dependency::Function,
            class,
            tag,
            doing: "calling a function",
            source,
        };
        if *self.is_down.lock().unwrap() {
            return Err(failed(ErrorClass::Transient, "unavailable", "AccessDenied: arn:aws:lambda".into()));
        }
        match answer.expect("an action without an answer") {
            Ok(answer) => Ok(answer.to_string().into()),
            Err(error) => Err(failed(ErrorClass::Permanent, "function-error", error.into())),
        }
    }
}

pub fn ports(functions: &Arc<FakeFunctions>) -> ConsolePorts {
    ConsolePorts {
        key: RootKey::try_from(SecretString::from("a root key that is long enough to be one")).unwrap(),
        maintainer: functions.clone(),
        redriver: functions.clone(),
    }
}

/// An answer to a browser.
struct Page {
    status: u16,
    headers: BTreeMap<String, String>,
    text: String,
}

impl Page {
    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }

    /// The token of its forms.
    fn csrf(&self) -> &str {
        let (_, rest) = self.text.split_once(r#"name="csrf" value=""#).expect("a form with a token");
        rest.split('"').next().unwrap()
    }
}

/// A browser on this machine.
struct Browser<'s> {
    service: &'s Service,
    cookie: String,
}

impl<'s> Browser<'s> {
    fn new(service: &'s Service) -> Self {
        Browser { service, cookie: String::new() }
    }

    async fn signed_in(service: &'s Service) -> Self {
        let mut browser = Browser::new(service);
        let page = browser.post("/console/sign-in", "key=operator-key").await;
        assert_eq!((page.status, page.header("location")), (303, "/console"));
        browser.take_cookie(&page);
        browser
    }

    fn take_cookie(&mut self, page: &Page) {
        self.cookie = page.header("set-cookie").split(';').next().unwrap().to_owned();
    }

    async fn send(&self, request: axum::http::request::Builder, body: String) -> Page {
        let request = request.header("host", "localhost:8081").header("cookie", &self.cookie);
        let response = self.service.router.clone().oneshot(request.body(Body::from(body)).unwrap()).await.unwrap();
        let headers = response.headers().iter().map(|(name, value)| (name.to_string(), value.to_str().unwrap().into()));
        let (status, headers) = (response.status().as_u16(), headers.collect());
        let body = axum::body::to_bytes(response.into_body(), usize::MAX).await.unwrap();
        Page { status, headers, text: String::from_utf8(body.into()).unwrap() }
    }

    async fn get(&self, path: &str) -> Page {
        self.send(Request::get(path), String::new()).await
    }

    /// As a page of this origin sends it.
    async fn post(&self, path: &str, fields: &str) -> Page {
        self.post_with(path, fields, ("sec-fetch-site", "same-origin")).await
    }

    async fn post_with(&self, path: &str, fields: &str, header: (&str, &str)) -> Page {
        let form = Request::post(path).header("content-type", "application/x-www-form-urlencoded");
        self.send(form.header(header.0, header.1), fields.to_owned()).await
    }

    /// With the token that a page of this session has.
    async fn submit(&self, path: &str, fields: &str) -> Page {
        let token = self.get("/console/blocks").await.csrf().to_owned();
        self.service.functions.calls();
        self.post(path, &format!("csrf={token}&{fields}")).await
    }
}

#[tokio::test]
async fn there_is_no_console_unless_it_is_on() {
    let service = Service::start().await;
    for path in ["/console", "/console/sign-in", "/console/assets/console.js"] {
        assert_eq!(service.get(path).await.problem(), (404, "no_such_path"), "{path}");
    }
}

#[tokio::test]
async fn only_a_key_with_the_scope_operate_signs_in_and_only_where_nobody_listens() {
    let service = Service::start_with(&ON).await;
    let browser = Browser::new(&service);
    for (key, status, text) in [
        ("nobodys-key", 401, "is not known"),
        ("sample-key", 403, "lacks the scope"),
        ("web-key", 403, "lacks the scope"),
        ("revoked-key", 403, "has been revoked"),
        ("", 401, "is not known"),
    ] {
        let page = browser.post("/console/sign-in", &format!("key={key}")).await;
        assert_eq!((page.status, page.header("set-cookie")), (status, ""), "{key}");
        assert!(page.text.contains(text) && page.text.contains("role=\"alert\""), "{key}: {}", page.text);
    }
    for key in ["operator-key", "only-operate-key", "%20operator-key%0A"] {
        let page = browser.post("/console/sign-in", &format!("key={key}")).await;
        assert_eq!(page.status, 303, "{key}");
        let cookie = page.header("set-cookie");
        assert!(cookie.contains("; HttpOnly; SameSite=Strict") && !cookie.contains("operator"), "{cookie}");
    }
    let other_site = browser.post_with("/console/sign-in", "key=operator-key", ("sec-fetch-site", "cross-site")).await;
    assert_eq!((other_site.status, other_site.header("set-cookie")), (403, ""));
    let request = |proto: &'static str| {
        let form = Request::post("/console/sign-in").header("content-type", "application/x-www-form-urlencoded");
        form.header("host", "api.example.com")
            .header("sec-fetch-site", "same-origin")
            .header("x-forwarded-proto", proto)
    };
    let send = async |proto| {
        let request = request(proto).body(Body::from("key=operator-key")).unwrap();
        service.router.clone().oneshot(request).await.unwrap()
    };
    let open = send("http").await;
    assert_eq!((open.status(), open.headers().get("set-cookie")), (StatusCode::FORBIDDEN, None));
    let https = send("https").await;
    assert!(https.headers()["set-cookie"].to_str().unwrap().starts_with("__Host-forebay-console="));
}

#[tokio::test]
async fn without_a_session_there_is_only_the_way_to_one_and_back() {
    let service = Service::start_with(&ON).await;
    let mut browser = Browser::new(&service);
    for cookie in ["", "forebay-console=abc", "forebay-console="] {
        browser.cookie = cookie.to_owned();
        for path in PAGES {
            let page = browser.get(path).await;
            assert_eq!((page.status, page.text.as_str()), (303, ""), "{path}");
            assert!(page.header("location").starts_with("/console/sign-in?to=%2Fconsole"), "{path}");
        }
    }
    let part = browser.send(Request::get("/console/parts/lag").header("hx-request", "true"), String::new()).await;
    assert_eq!((part.status, part.header("hx-redirect")), (401, "/console/sign-in"));
    let form = browser.get("/console/sign-in?to=%2Fconsole%2Fevents%3Ftype%3Dclick").await;
    assert!(form.text.contains(r#"name="to" value="/console/events?type=click""#), "{}", form.text);
    let page = browser.post("/console/sign-in", "key=operator-key&to=%2Fconsole%2Fevents%3Ftype%3Dclick").await;
    assert_eq!(page.header("location"), "/console/events?type=click");
    assert!(service.functions.calls().is_empty());
    // A link in a mail: the browser keeps the cookie back, and sends it when the page itself leads on.
    let linked = Request::get("/console/events?type=click").header("sec-fetch-site", "cross-site");
    let linked = browser.send(linked, String::new()).await;
    assert_eq!((linked.status, linked.header("refresh")), (200, "0; url=/console/events?type=click"));
    // After a form, one does not come back to a path that takes forms only.
    let form = browser.post("/console/keys/rotate", "key_hash=ab").await;
    assert_eq!((form.status, form.header("location")), (303, "/console/sign-in?to=%2Fconsole"));
    let long = browser.get(&format!("/console/events?type={}", "x".repeat(3_000))).await;
    assert_eq!(long.header("location"), "/console/sign-in?to=%2Fconsole");
    let nowhere = browser.get("/console/nowhere").await;
    assert!(nowhere.status == 404 && nowhere.text.contains("there is no such page"), "{}", nowhere.text);
}

#[tokio::test(start_paused = true)]
async fn a_session_ends_with_its_key_and_when_one_signs_out() {
    let service = Service::start_with(&ON).await;
    let mut browser = Browser::signed_in(&service).await;
    assert_eq!(browser.get("/console").await.status, 200);
    let revoked = ApiKey { revoked: true, scopes: [Scope::Operate].into(), ..server_key("operator-key") };
    service.keys.put(&revoked).await.unwrap();
    tokio::time::advance(Duration::from_secs(11)).await;
    assert_eq!(browser.get("/console").await.status, 303, "revoked");
    assert_eq!(browser.post("/console/blocks", "").await.status, 303, "revoked");

    let page = browser.post("/console/sign-in", "key=only-operate-key").await;
    browser.take_cookie(&page);
    let out = browser.submit("/console/sign-out", "").await;
    assert_eq!((out.status, out.header("location")), (303, "/console/sign-in"));
    assert!(out.header("set-cookie").starts_with("forebay-console=; Path=/; Max-Age=0"));
}

#[tokio::test]
async fn a_form_that_this_sessions_page_did_not_send_changes_nothing() {
    let service = Service::start_with(&ON).await;
    let browser = Browser::signed_in(&service).await;
    let other = {
        let mut other = Browser::new(&service);
        let page = other.post("/console/sign-in", "key=only-operate-key").await;
        other.take_cookie(&page);
        other
    };
    let own = browser.get("/console/blocks").await.csrf().to_owned();
    let others = other.get("/console/blocks").await.csrf().to_owned();
    service.functions.calls();
    for (path, fields) in FORMS {
        for token in [String::new(), "csrf=".to_owned(), "csrf=abc".to_owned(), format!("csrf={others}")] {
            let page = browser.post(path, &format!("{fields}&{token}")).await;
            assert_eq!((page.status, page.header("set-cookie")), (403, ""), "{path} {token}");
        }
        let twice = browser.post(path, &format!("{fields}&csrf={own}&csrf={own}")).await;
        assert_eq!(twice.status, 400, "{path}");
        for header in
            [("sec-fetch-site", "cross-site"), ("sec-fetch-site", "same-site"), ("origin", "https://evil.example")]
        {
            let page = browser.post_with(path, &format!("{fields}&csrf={own}"), header).await;
            assert_eq!((page.status, page.header("set-cookie")), (403, ""), "{path} {header:?}");
        }
        assert_eq!(browser.get(path).await.header("set-cookie"), "", "{path}");
    }
    assert!(service.functions.calls().iter().all(|(_, event)| event["action"].as_str().unwrap().starts_with("list")));
}

#[tokio::test]
async fn every_page_says_what_it_may_do_and_does_no_more() {
    let service = Service::start_with(&ON).await;
    service.store(5, 5, "order-1001").await;
    let browser = Browser::signed_in(&service).await;
    let mut pages = vec![browser.get("/console/sign-in").await];
    for path in PAGES {
        let page = browser.get(path).await;
        assert_eq!(page.status, 200, "{path}: {}", page.text);
        pages.push(page);
    }
    for (path, fields) in FORMS.iter().skip(1) {
        let page = browser.submit(path, fields).await;
        assert_eq!(page.status, 200, "{path}: {}", page.text);
        pages.push(page);
    }
    for page in pages {
        let policy = page.header("content-security-policy");
        assert!(policy.starts_with("default-src 'none'; script-src 'self'") && !policy.contains("unsafe"), "{policy}");
        assert_eq!(page.header("cache-control"), "no-store");
        assert_eq!(page.header("x-content-type-options"), "nosniff");
        // The answers of the functions have markup in every text.
        for forbidden in ["<script>", " style=", "<style", " onclick", "<b>", "<i>", "<u>", "<q>", "<s>", "javascript:"]
        {
            assert!(!page.text.contains(forbidden), "{forbidden} in {}", page.text);
        }
    }
}

#[tokio::test]
async fn what_clients_sent_is_text_and_never_markup() {
    let service = Service::start_with(&ON).await;
    let id = "<script>alert(1)</script>\"'&";
    service.store(5, 5, id).await;
    let browser = Browser::signed_in(&service).await;
    let found = browser.get("/console/events").await.text;
    assert!(found.contains("&lt;script&gt;alert(1)&lt;/script&gt;") && !found.contains(id), "{found}");
    let (_, link) = found.split_once(r#"href="/console/event?"#).unwrap();
    let link = link.split('"').next().unwrap().replace("&amp;", "&");
    let page = browser.get(&format!("/console/event?{link}")).await;
    assert!(page.status == 200 && page.text.contains("&lt;script&gt;") && !page.text.contains(id), "{}", page.text);
    let asked = browser.get("/console/events?type=%22%3E%3Cimg%3E&dimension=%3Ca%3E&value=1").await;
    assert!(asked.status == 200 && !asked.text.contains("<img>") && asked.text.contains("no such dimension"));
}

#[tokio::test]
async fn an_event_is_found_and_told_and_pages_follow_one_another() {
    let service = Service::start_with(&ON).await;
    for offset in 0..60 {
        service.store(offset, offset, &format!("order-{offset}")).await;
    }
    let browser = Browser::signed_in(&service).await;
    let first = browser.get("/console/events?type=transaction&hours=3&user_id=&status=").await.text;
    assert_eq!(first.matches("/console/event?").count(), 50, "{first}");
    let (_, next) = first.split_once(r#"class="next" href=""#).unwrap();
    let next = next.split('"').next().unwrap().replace("&amp;", "&");
    assert!(next.contains("type=transaction") && next.contains("next="), "{next}");
    assert_eq!(browser.get(&next).await.text.matches("/console/event?").count(), 10);
    let told = browser.get("/console/event?id=order-7").await.text;
    for text in ["Accepted", "Stored", "Scored", "new-user", "raw-events/2/7"] {
        assert!(told.contains(text), "{text} in {told}");
    }
    let unknown = browser.get("/console/event?id=nobody").await;
    assert!(unknown.status == 200 && unknown.text.contains("no processed event has this id"), "{}", unknown.text);
    let other = browser.get("/console/events?tenant=other").await.text;
    assert!(other.contains("No event meets these conditions"), "{other}");
}

#[tokio::test]
async fn changes_are_asked_of_the_functions_in_the_operators_name() {
    let service = Service::start_with(&ON).await;
    let browser = Browser::signed_in(&service).await;
    let hash = "ab".repeat(32);
    let by = format!("console operator-key (acme, {})", &KeyHash::of(b"operator-key").to_string()[..8]);
    for (path, fields, function, event) in [
        (
            "/console/blocks",
            "address=203.0.113.7&reason=scraping&rule=block&hours=2".to_owned(),
            "maintainer",
            json!({"action": "block", "address": "203.0.113.7", "reason": "scraping", "for_sec": 7200, "by": by}),
        ),
        (
            "/console/blocks",
            "address=203.0.113.0%2F24&reason=ours&rule=allow&hours=".to_owned(),
            "maintainer",
            json!({"action": "allow", "address": "203.0.113.0/24", "reason": "ours", "by": by}),
        ),
        (
            "/console/blocks/remove",
            "address=203.0.113.7&rule=allow".to_owned(),
            "maintainer",
            json!({"action": "disallow", "address": "203.0.113.7", "by": by}),
        ),
        (
            "/console/keys",
            "tenant=acme&name=new&kind=server&scope=read&scope=write&days=2&rate_limit=60".to_owned(),
            "maintainer",
            json!({"action": "create-key", "tenant": "acme", "name": "new", "kind": "server",
                "scopes": ["read", "write"], "expires_in_sec": 172_800, "rate_limit_per_min": 60, "by": by}),
        ),
        (
            "/console/keys/rotate",
            format!("key_hash={hash}&grace=0"),
            "maintainer",
            json!({"action": "rotate-key", "key_hash": hash, "grace_sec": 0, "by": by}),
        ),
        (
            "/console/keys/revoke",
            format!("key_hash={hash}"),
            "maintainer",
            json!({"action": "revoke-key", "key_hash": hash, "by": by}),
        ),
        (
            "/console/dead-letters/redrive",
            "reason=schema-violation&tenant=acme&dry_run=yes".to_owned(),
            "redriver",
            json!({"action": "redrive", "dry_run": true, "max_per_sec": 1000, "within_sec": 12, "by": by,
                "filters": {"reason": "schema-violation", "tenant": "acme"}}),
        ),
        (
            "/console/dead-letters/redrive",
            "reason=schema-violation".to_owned(),
            "redriver",
            json!({"action": "redrive", "dry_run": false, "max_per_sec": 1000, "within_sec": 12, "by": by,
                "filters": {"reason": "schema-violation"}}),
        ),
    ] {
        let page = browser.submit(path, &fields).await;
        assert!(page.status == 200 && page.text.contains(r#"role="status""#), "{path}: {}", page.text);
        let first = service.functions.calls().into_iter().next();
        assert_eq!(first, Some((function.to_owned(), event)), "{path} {fields}");
    }
}

#[tokio::test]
async fn a_new_key_is_shown_once_and_a_try_out_offers_the_real_thing() {
    let service = Service::start_with(&ON).await;
    let browser = Browser::signed_in(&service).await;
    let made = browser.submit("/console/keys", "tenant=acme&name=new&kind=server&scope=read").await.text;
    assert_eq!(made.matches("fb_server_new").count(), 1, "{made}");
    assert!(!browser.get("/console/keys").await.text.contains("fb_server_new"));

    let part = "reason=r&tenant=acme&dry_run=yes&from_offsets=%7B%220%22%3A7%7D";
    let tried = browser.submit("/console/dead-letters/redrive", part).await.text;
    assert!(tried.contains(r#"name="from_offsets" value="{&quot;0&quot;:7}""#), "the same part: {tried}");
    assert!(tried.contains("1 letter would be sent again") && tried.contains("Send 1 letter again now"), "{tried}");
    assert!(tried.contains(r#"name="tenant" value="acme""#) && !tried.contains("dry_run"), "{tried}");
    assert!(tried.contains(&format!(r#"name="until" value="{}""#, after(3600))), "not also what fails later: {tried}");
    let mut nothing = service.functions.answers.lock().unwrap()["redrive"].clone().unwrap();
    nothing["sent"] = 0.into();
    service.functions.answer("redrive", Ok(nothing));
    let tried = browser.submit("/console/dead-letters/redrive", "reason=r&dry_run=yes").await.text;
    assert!(!tried.contains("again now"), "{tried}");
}

#[tokio::test]
async fn what_a_function_refuses_is_told_in_its_words_and_a_failure_is_not() {
    let service = Service::start_with(&ON).await;
    let browser = Browser::signed_in(&service).await;
    let error = |kind: &str, message: &str| Err(FunctionError { kind: kind.to_owned(), message: message.to_owned() });
    service.functions.answer("block", error("bad-request", "field \"address\": invalid IP"));
    let page = browser.submit("/console/blocks", "address=x&reason=y&rule=block").await;
    assert!(page.status == 200 && page.text.contains("maintainer refuses: field &quot;address&quot;: invalid IP"));
    service.functions.answer("block", error("postgres-failed", "password=secret"));
    let page = browser.submit("/console/blocks", "address=x&reason=y&rule=block").await;
    assert!(
        page.text.contains("failed with postgres-failed") && !page.text.contains("password=secret"),
        "{}",
        page.text
    );
    service.functions.answer("list", Ok(json!({"of": "another version"})));
    let page = browser.get("/console/dead-letters").await;
    assert!(page.status == 200 && page.text.contains("cannot read"), "{}", page.text);

    *service.functions.is_down.lock().unwrap() = true;
    for path in ["/console/parts/lag", "/console/dead-letters", "/console/blocks", "/console/keys", "/console/audit"] {
        let page = browser.get(path).await;
        assert!(page.status == 200 && page.text.contains("cannot be called now"), "{path}: {}", page.text);
        assert!(!page.text.contains("arn:aws"), "{path}: {}", page.text);
    }
    let token = browser.get("/console/blocks").await.csrf().to_owned();
    let page = browser.post("/console/dead-letters/redrive", &format!("csrf={token}&reason=x")).await;
    assert_eq!(page.status, 503);
    assert!(page.header("retry-after").parse::<u64>().unwrap() > 0);
}

#[tokio::test]
async fn a_field_that_is_wrong_is_named_and_no_function_is_called() {
    let service = Service::start_with(&ON).await;
    let browser = Browser::signed_in(&service).await;
    for (path, fields, text) in [
        ("/console/blocks", "reason=x&rule=block", "address is missing"),
        ("/console/blocks", "address=a&reason=x", "rule must be block or allow"),
        ("/console/blocks", "address=a&reason=x&rule=block&hours=0", "hours must be 1 to 8784"),
        ("/console/blocks", "address=a&address=b&reason=x&rule=block", "address is sent twice"),
        ("/console/keys", "tenant=a&name=x&kind=server&days=99999", "days must be 1 to 3660"),
        ("/console/keys/rotate", "grace=1", "key_hash is missing"),
    ] {
        let page = browser.submit(path, fields).await;
        assert!(page.text.contains(text), "{path} {fields}: {}", page.text);
        let is_list = |(_, event): &(String, Value)| event["action"].as_str().unwrap().starts_with("list");
        assert!(service.functions.calls().iter().all(is_list), "{path} {fields}");
    }
    let token = browser.get("/console/blocks").await.csrf().to_owned();
    let large = format!("csrf={token}&reason={}", "x".repeat(70_000));
    assert_eq!(browser.post("/console/blocks", &large).await.status, 400);
}

#[tokio::test(start_paused = true)]
async fn a_function_that_works_long_goes_on_when_nobody_waits_for_it() {
    let service = Service::start_with(&ON).await;
    let browser = Browser::signed_in(&service).await;
    let token = browser.get("/console/blocks").await.csrf().to_owned();
    *service.functions.takes.lock().unwrap() = Duration::from_secs(60);
    *service.functions.finished.lock().unwrap() = 0;
    let started = Instant::now();
    let page = browser.post("/console/dead-letters/redrive", &format!("csrf={token}&reason=x")).await;
    assert_eq!((page.status, started.elapsed().as_secs()), (202, 20), "{}", page.text);
    assert!(page.text.contains("redriver is still working"), "{}", page.text);
    assert_eq!(*service.functions.finished.lock().unwrap(), 0);
    tokio::time::sleep(Duration::from_secs(41)).await;
    assert_eq!(*service.functions.finished.lock().unwrap(), 1);
}

/// API Gateway waits 30 seconds for a page, whatever it asks for.
#[tokio::test(start_paused = true)]
async fn a_page_that_asks_twice_waits_no_longer() {
    let service = Service::start_with(&ON).await;
    let browser = Browser::signed_in(&service).await;
    let token = browser.get("/console/blocks").await.csrf().to_owned();
    *service.functions.takes.lock().unwrap() = Duration::from_secs(15);
    let started = Instant::now();
    let page = browser.post("/console/blocks", &format!("csrf={token}&address=203.0.113.7&reason=x&rule=block")).await;
    assert_eq!((page.status, started.elapsed().as_secs()), (200, 20));
    assert!(
        page.text.contains("203.0.113.7 is on the list") && page.text.contains("cannot be called now"),
        "{}",
        page.text
    );
    *service.functions.takes.lock().unwrap() = Duration::from_secs(60);
    let page = browser.post("/console/keys", &format!("csrf={token}&tenant=acme&name=x&kind=server&scope=read")).await;
    assert!(page.text.contains("nobody has seen it"), "{}", page.text);
}

#[tokio::test]
async fn what_cannot_be_read_at_all_is_answered_with_a_page_too() {
    let service = Service::start_with(&ON).await;
    let browser = Browser::signed_in(&service).await;
    let form = || Request::post("/console/sign-in").header("sec-fetch-site", "same-origin");
    let encoded = || form().header("content-type", "application/x-www-form-urlencoded");
    let token = browser.get("/console/blocks").await.csrf().to_owned();
    for (status, page) in [
        (422, browser.send(encoded(), "to=x".into()).await),
        (415, browser.send(form().header("content-type", "application/json"), "{}".into()).await),
        (413, browser.send(encoded(), format!("key={}", "x".repeat(70_000))).await),
        (400, browser.get("/console/sign-in?to=a&to=b").await),
        (400, browser.get("/console/assets/%ff").await),
        (405, browser.send(Request::delete("/console/keys"), String::new()).await),
        (404, browser.send(Request::put("/console/nowhere"), String::new()).await),
        (400, browser.post("/console/blocks", &format!("csrf={token}&address=x&reason=%ff&rule=block")).await),
    ] {
        assert_eq!(page.status, status, "{}", page.text);
        assert!(
            page.header("content-type").starts_with("text/html") && page.text.contains("role=\"alert\""),
            "{status}"
        );
        assert!(page.header("content-security-policy").starts_with("default-src 'none'"), "{status}");
    }
    for (path, to) in
        [("/console/keys/rotate", "/console/keys"), ("/console/dead-letters/redrive", "/console/dead-letters")]
    {
        assert_eq!(browser.get(path).await.header("location"), to);
    }
}

#[tokio::test]
async fn many_keys_and_letters_fit_into_pages() {
    let service = Service::start_with(&ON).await;
    let browser = Browser::signed_in(&service).await;
    service.functions.answer("list-keys", Ok(json!({"keys": vec![shown_key("valid"); 10_000]})));
    let page = browser.get("/console/keys").await.text;
    assert!(page.len() < 500_000 && page.contains("10000 keys") && page.contains("the first 200 are shown"));

    let cut = |action: &str| {
        let mut answer = service.functions.answers.lock().unwrap()[action].clone().unwrap();
        answer["next"] = json!({"0": 120, "1": 80});
        answer["until"] = json!({"0": 500, "1": 90});
        answer["next_at"] = RECEIVED_AT.into();
        service.functions.answer(action, Ok(answer));
    };
    cut("list");
    let page = browser.get("/console/dead-letters?tenant=acme").await.text;
    assert!(page.contains("Read on") && page.contains("{&quot;0&quot;:120,&quot;1&quot;:80}"), "{page}");
    browser.get("/console/dead-letters?from_offsets=%7B%220%22%3A120%7D").await;
    assert_eq!(service.functions.calls().last().unwrap().1["from_offsets"], json!({"0": 120}));
    cut("redrive");
    let page = browser.submit("/console/dead-letters/redrive", "reason=r&until_offsets=%7B%220%22%3A500%7D").await.text;
    assert_eq!(service.functions.calls()[0].1["until_offsets"], json!({"0": 500}));
    assert!(page.contains("Go on with the rest") && page.contains("{&quot;0&quot;:500,&quot;1&quot;:90}"), "{page}");
    let bad = browser.submit("/console/dead-letters/redrive", "from_offsets=x").await;
    assert!(bad.status == 400 && bad.text.contains("is not from an earlier page"), "{}", bad.text);
}

#[tokio::test]
async fn pages_count_for_the_limit_of_their_key() {
    let service =
        Service::start_with(&[("CONSOLE", "on"), ("CONSOLE_KEY", "x"), ("QUERY_RATE_LIMIT_PER_MIN", "10")]).await;
    let browser = Browser::signed_in(&service).await;
    let mut statuses = BTreeSet::new();
    for _ in 0..5 {
        let page = browser.get("/console/sign-in").await;
        assert_eq!(page.status, 200);
        statuses.insert(browser.get("/console/events").await.status);
    }
    assert_eq!(statuses, BTreeSet::from([200, 429]));
}

#[tokio::test]
async fn files_may_be_kept_for_ever_because_their_names_change() {
    let service = Service::start_with(&ON).await;
    let browser = Browser::new(&service);
    let page = browser.get("/console/sign-in").await.text;
    let files: Vec<&str> = page.split('"').filter(|text| text.starts_with("/console/assets/")).collect();
    assert_eq!(files.len(), 5, "{page}");
    for file in files {
        let answer = browser.get(file).await;
        assert_eq!(answer.status, 200, "{file}");
        assert!(answer.header("cache-control").contains("immutable") && !answer.text.is_empty(), "{file}");
        let is_style = file.ends_with(".css");
        assert!(answer.header("content-type").starts_with(if is_style { "text/css" } else { "text/javascript" }));
        let other = browser.get(&file.replace('-', "-0")).await;
        assert_eq!((other.status, other.header("cache-control")), (404, "no-store"), "{file}");
    }
}

#[tokio::test]
async fn the_audit_trail_has_changes_and_not_what_was_only_read() {
    let service = Service::start_with(&ON).await;
    let browser = Browser::signed_in(&service).await;
    let entry = |action: &str| {
        json!({"started_at": RECEIVED_AT, "run": "r", "action": action, "by": null, "state": "finished",
            "request": "{}", "result": ""})
    };
    let entries = ["list", "redrive", "audit", "parked", "release", "undelivered", "deliver"].map(entry);
    service.functions.answer("audit", Ok(json!({"entries": entries})));
    let page = browser.get("/console/audit?day=2026-11-20").await.text;
    assert!(
        page.contains("3 actions") && page.contains("<td>redrive</td>") && !page.contains("<td>list</td>"),
        "{page}"
    );
    assert!(service.functions.calls().iter().all(|(_, event)| event["day"] == "2026-11-20"));
}

/// API Gateway passes on what begins with `/console`, with GET and POST.
#[test]
fn every_page_is_where_api_gateway_passes_requests_on() {
    let routes = include_str!("../../src/console/routes.rs");
    let paths: Vec<&str> = routes.split(".route(\"").skip(1).map(|rest| rest.split('"').next().unwrap()).collect();
    assert!(paths.len() > 15 && paths.iter().all(|path| path.starts_with("/console")), "{paths:?}");
    for method in ["put(", "delete(", "patch("] {
        assert!(!routes.contains(method), "{method}");
    }
    let terraform = include_str!("../../../../infra/terraform/modules/pipeline/triggers.tf");
    assert!(terraform.contains(r#"setproduct(["GET", "POST"], ["/console", "/console/{page+}"])"#));
}

/// API Gateway has cookies in a list of its own, in requests and in answers.
#[tokio::test]
async fn a_session_works_through_api_gateway() {
    let service = Service::start_with(&ON).await;
    let invoke = async |method: &str, path: &str, cookies: Value, body: &str| {
        let event = json!({
            "version": "2.0", "routeKey": "ANY /console/{page+}", "rawPath": path, "rawQueryString": "",
            "headers": {"host": "api.example.com", "x-forwarded-proto": "https", "sec-fetch-site": "same-origin",
                "content-type": "application/x-www-form-urlencoded"},
            "cookies": cookies, "body": body, "isBase64Encoded": false,
            "requestContext": {"stage": "$default", "http": {"method": method, "sourceIp": "203.0.113.7"}},
        });
        let answer = http_trigger::answer(service.router.clone(), &event.to_string(), None).await.unwrap();
        serde_json::from_str::<Value>(answer.get()).unwrap()
    };
    let signed_in = invoke("POST", "/console/sign-in", json!([]), "key=operator-key").await;
    assert_eq!(signed_in["statusCode"], 303, "{signed_in}");
    let cookie = signed_in["cookies"][0].as_str().unwrap().split(';').next().unwrap();
    assert!(cookie.starts_with("__Host-forebay-console="), "{cookie}");
    let page = invoke("GET", "/console/blocks", json!(["a=b", cookie]), "").await;
    assert_eq!(page["statusCode"], 200, "{page}");
    assert!(page["body"].as_str().unwrap().contains("203.0.113.7"), "{page}");
}
