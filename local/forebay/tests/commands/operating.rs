//! What operators do, by the Invoke API and query.

use std::os::unix::fs::PermissionsExt as _;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::pipeline::{Finished, Server};

fn answer(server: &Server, answers: impl IntoIterator<Item = Value>) {
    server.played.lock().unwrap().answers.extend(answers);
}

fn calls(server: &Server) -> Vec<(String, Value)> {
    std::mem::take(&mut server.played.lock().unwrap().calls)
}

#[tokio::test]
async fn a_redrive_is_counted_asked_about_and_carried_on() {
    let (server, folder) = (Server::start().await, TempDir::new().unwrap());
    let redrive = ["dead-letters", "redrive", "--reason", "tombstone"];
    answer(&server, [json!({"dry_run": true, "sent": 5, "parked": 1})]);
    server.run(folder.path(), &redrive).await.ended(
        2,
        "5 letters would be sent again, and 1 parked. Go on? There is no terminal to ask at: repeat it with --yes",
    );
    assert_eq!(calls(&server).len(), 1, "only the dry run");

    answer(
        &server,
        [
            json!({"sent": 3, "parked": 0, "next": {"0": 9}, "until": {"0": 20}}),
            json!({"sent": 2, "parked": 1, "under_way": 0, "refused": 0}),
        ],
    );
    let done = server.run(folder.path(), &[&["--yes", "--json"], &redrive[..]].concat()).await.ended(0, "");
    assert_eq!((&done.json()["sent"], &done.json()["parked"]), (&json!(5), &json!(1)));
    let request = json!({"action": "redrive", "filters": {"reason": "tombstone"}, "by": "ada"});
    let mut next = request.clone();
    (next["from_offsets"], next["until_offsets"]) = (json!({"0": 9}), json!({"0": 20}));
    assert_eq!(calls(&server), [("redriver".to_owned(), request), ("redriver".to_owned(), next)]);

    answer(&server, [json!({"sent": 0, "refused": 2})]);
    server.run(folder.path(), &[&["--yes"], &redrive[..]].concat()).await.ended(3, "2 letters are too large");
}

#[tokio::test]
async fn dead_letters_are_listed_and_shown() {
    let (server, folder) = (Server::start().await, TempDir::new().unwrap());
    let letter = json!({"origin": "raw-events/0/5", "event_id": "e\u{7}", "reason": "tombstone", "attempt": 0});
    let list = json!({"reasons": {"tombstone": {"letters": 1, "open": 1, "examples": [letter]}}});
    answer(&server, [list.clone(), list, json!({"reasons": {}})]);
    server.run(folder.path(), &["dead-letters", "list"]).await.ended(0, "tombstone");
    let shown =
        server.run(folder.path(), &["dead-letters", "show", "--event-id", "e"]).await.ended(0, "raw-events/0/5");
    assert!(!shown.out.contains('\u{7}'), "what a client sent does not reach the terminal: {shown:?}");
    server.run(folder.path(), &["dead-letters", "show", "--event-id", "x"]).await.ended(3, "");
}

#[tokio::test]
async fn a_replay_is_invoked_until_it_is_complete() {
    let (server, folder) = (Server::start().await, TempDir::new().unwrap());
    let replay = ["replay", "restore", "--run", "rebuild-1"];
    server.run(folder.path(), &replay).await.ended(2, "--yes");
    assert_eq!(calls(&server), []);
    answer(
        &server,
        [json!({"complete": false, "counts": {"records": 5}}), json!({"complete": true, "counts": {"records": 9}})],
    );
    server.run(folder.path(), &[&["--yes"], &replay[..]].concat()).await.ended(0, "records  9");
    let request = json!({"action": "restore", "dry_run": false, "run": "rebuild-1", "by": "ada"});
    assert_eq!(calls(&server), [("replayer".to_owned(), request.clone()), ("replayer".to_owned(), request)]);
}

#[tokio::test]
async fn a_new_key_is_shown_once_or_kept_in_a_file_that_only_its_owner_reads() {
    let (server, folder) = (Server::start().await, TempDir::new().unwrap());
    let made = json!({"key": "fb_server_new", "key_hash": "c52e"});
    answer(&server, [made.clone(), made]);
    let create = ["keys", "create", "--tenant", "acme", "--name", "api", "--scopes", "write,read", "--burst", "500"];
    server.run(folder.path(), &create).await.ended(0, "fb_server_new");
    let expected = json!({
        "action": "create-key", "tenant": "acme", "name": "api", "kind": "server", "scopes": ["write", "read"],
        "burst": 500, "by": "ada",
    });
    assert_eq!(calls(&server), [("maintainer".to_owned(), expected)]);

    let kept = [&create[..], &["--to", "new.key"]].concat();
    let finished = server.run(folder.path(), &kept).await.ended(0, "in new.key");
    assert!(!finished.out.contains("fb_server_new"), "{finished:?}");
    let path = folder.path().join("new.key");
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "fb_server_new\n");
    assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    calls(&server);
    server.run(folder.path(), &kept).await.ended(1, "cannot make new.key");
    assert_eq!(calls(&server), [], "a key that cannot be kept is not made");
}

#[tokio::test]
async fn topics_and_lag_are_shown_by_partition() {
    let (server, folder) = (Server::start().await, TempDir::new().unwrap());
    let topic =
        json!({"topic": "raw-events", "offsets": 20, "partitions": [{"partition": 0, "earliest": 10, "latest": 30}]});
    let place = json!({"partition": 0, "committed": 25, "latest": 30, "lag": 5});
    let idle = json!({"partition": 0, "committed": null, "latest": 30, "lag": 20});
    let groups = json!([
        {"group": "processor", "topic": "raw-events", "lag": 5, "partitions": [place]},
        {"group": "notifier", "topic": "processed-events", "lag": null, "partitions": [idle]},
    ]);
    answer(&server, [json!({"topics": [topic]}), json!({"groups": groups})]);
    server.run(folder.path(), &["topics", "list"]).await.ended(0, "raw-events  0          10        30");
    let lag = server
        .run(folder.path(), &["topics", "lag"])
        .await
        .ended(0, "processor  raw-events        0          25         30      5");
    assert!(lag.out.contains("notifier   processed-events  0          -          30      -"), "{}", lag.out);
}

#[tokio::test]
async fn what_is_remembered_of_an_id_is_shown() {
    let (server, folder) = (Server::start().await, TempDir::new().unwrap());
    let claim = json!({"owner": "raw-events/2/5", "payload_hash": "ab", "expires_at": "2026-11-21T18:02:00.000Z", "expired": false});
    let answered = |claim: Value| json!({"tenant": "acme", "event_id": "order-1", "claim": claim});
    answer(&server, [answered(claim), answered(Value::Null)]);
    let command = ["dedup", "show", "order-1", "--tenant", "acme"];
    let shown =
        server.run(folder.path(), &command).await.ended(0, "order-1 is remembered until 2026-11-21T18:02:00.000Z");
    assert!(shown.out.contains("raw-events/2/5"), "{}", shown.out);
    server.run(folder.path(), &command).await.ended(0, "nothing is remembered of order-1");
    assert_eq!(calls(&server)[0].1, json!({"action": "show-dedup", "tenant": "acme", "event_id": "order-1"}));
}

#[tokio::test]
async fn what_counts_against_an_address_is_shown_by_minute() {
    let (server, folder) = (Server::start().await, TempDir::new().unwrap());
    let minutes = json!([{"minute": "2026-11-20T18:02:00.000Z", "events": 101}]);
    answer(
        &server,
        [json!({"address": "203.0.113.7", "blocked": false, "by": null, "entries": [], "minutes": minutes})],
    );
    let shown = server.run(folder.path(), &["limits", "show", "203.0.113.7"]).await;
    let shown = shown.ended(0, "2026-11-20T18:02:00.000Z  101");
    assert!(shown.out.contains("203.0.113.7"), "{}", shown.out);
}

#[tokio::test]
async fn the_end_of_a_topic_is_shown_and_what_is_in_it_only_if_asked_for() {
    let (server, folder) = (Server::start().await, TempDir::new().unwrap());
    let record = json!({"partition": 1, "offset": 7, "timestamp": "2026-11-20T18:02:00.000Z", "key": "acme/u1",
        "headers": {"tenant": "acme", "traceparent": "00-4b"}, "bytes": 15});
    let mut with_value = record.clone();
    with_value["value"] = "{\"type\":\"x\u{1b}\"}".into();
    let cut = json!({"topic": "raw-events", "records": [], "complete": false});
    answer(
        &server,
        [
            json!({"topic": "raw-events", "records": [record], "complete": true}),
            json!({"topic": "raw-events", "records": [with_value], "complete": true}),
            cut,
        ],
    );
    let shown = server.run(folder.path(), &["topics", "tail", "raw-events", "--records", "5"]).await;
    shown.ended(0, "2026-11-20T18:02:00.000Z  1          7       acme/u1  15     tenant=acme traceparent=00-4b");
    let shown =
        server.run(folder.path(), &["topics", "tail", "raw-events", "--values"]).await.ended(0, r#"{"type":"x"#);
    assert!(!shown.out.contains('\u{1b}') && !shown.out.contains("tenant=acme"), "{}", shown.out);
    server.run(folder.path(), &["topics", "tail", "raw-events"]).await.ended(0, "too short to read to the end");
    let asked: Vec<(Value, Value)> =
        calls(&server).into_iter().map(|(_, call)| (call["records"].clone(), call["values"].clone())).collect();
    assert_eq!(asked, [(json!(5), json!(false)), (json!(10), json!(true)), (json!(10), json!(false))]);
}

#[tokio::test]
async fn statistics_that_differ_from_their_events_are_told_by_the_exit_status() {
    let (server, folder) = (Server::start().await, TempDir::new().unwrap());
    let verification = |different: u64, examples: &[&str]| json!({"events": 9, "cells": 20, "different": different, "examples": examples});
    answer(&server, [verification(0, &[]), verification(1, &["acme click: 3 stored, 2 counted"])]);
    let command = ["aggregates", "verify", "--from", "2026-11-20T18:00:00Z", "--to", "2026-11-20T19:00:00Z"];
    server.run(folder.path(), &command).await.ended(0, "events 9, cells 20, different 0");
    server.run(folder.path(), &command).await.ended(1, "acme click: 3 stored, 2 counted");
    assert_eq!(
        calls(&server)[0].1,
        json!({"action": "verify", "from": "2026-11-20T18:00:00Z", "to": "2026-11-20T19:00:00Z"})
    );
}

#[tokio::test]
async fn an_address_is_said_to_be_blocked_by_the_smallest_range() {
    let (server, folder) = (Server::start().await, TempDir::new().unwrap());
    let entry = json!({"address": "203.0.113.0/24", "until": null, "reason": "abuse", "allows": false});
    let exception = json!({"address": "203.0.113.7", "until": null, "reason": "our office", "allows": true});
    answer(
        &server,
        [
            json!({"address": "203.0.113.9", "blocked": true, "by": entry.clone(), "entries": [entry.clone()]}),
            json!({"address": "203.0.113.7", "blocked": false, "by": exception.clone(), "entries": [exception, entry]}),
            json!({"address": "192.0.2.1", "blocked": false, "by": null, "entries": []}),
        ],
    );
    let why = async |address| server.run(folder.path(), &["blocks", "why", address]).await;
    why("203.0.113.9").await.ended(0, "203.0.113.9 is blocked by the first of these entries");
    why("203.0.113.7").await.ended(0, "203.0.113.7 is an exception by the first");
    why("192.0.2.1").await.ended(0, "is in no entry: it is not blocked");
}

#[tokio::test]
async fn webhooks_are_made_shown_and_paused_and_dead_deliveries_are_sent_again() {
    let (server, folder) = (Server::start().await, TempDir::new().unwrap());
    let webhook = json!({
        "webhook": "wh_1", "tenant": "acme", "url": "https://hooks.acme.example/…", "outcomes": ["fraud"], "types": [],
        "previous_secret_until": null, "paused": null,
    });
    let made = json!({"webhook": "wh_1", "secret": "whsec_new"});
    let paused = json!({"webhook": "wh_1", "tenant": "acme", "paused": "too slow"});
    let dead =
        json!({"message_id": "msg_1", "failed_at": "2026-11-20T18:02:00.000Z", "attempts": 10, "error": "status 500"});
    answer(
        &server,
        [
            made,
            json!({"webhooks": [webhook]}),
            paused,
            json!({"dead": [dead]}),
            json!({"revived": 1}),
            json!({"revived": 0}),
        ],
    );
    let create =
        ["webhooks", "create", "--tenant", "acme", "--url", "https://hooks.acme.example/in", "--outcomes", "fraud"];
    let kept = [&create[..], &["--to", "secret"]].concat();
    let finished = server.run(folder.path(), &kept).await.ended(0, "in secret");
    assert!(!finished.out.contains("whsec_new"), "{finished:?}");
    assert_eq!(std::fs::read_to_string(folder.path().join("secret")).unwrap(), "whsec_new\n");
    server
        .run(folder.path(), &["webhooks", "list"])
        .await
        .ended(0, "wh_1     acme    https://hooks.acme.example/…  fraud");
    let pause = ["webhooks", "pause", "wh_1", "--reason", "too slow"];
    server.run(folder.path(), &pause).await.ended(2, "--yes");
    server.run(folder.path(), &[&["--yes"], &pause[..]].concat()).await.ended(0, "too slow");
    server.run(folder.path(), &["webhooks", "dead", "wh_1"]).await.ended(0, "msg_1");
    let resend = ["webhooks", "resend", "wh_1", "--message-id", "msg_1"];
    server.run(folder.path(), &resend).await.ended(0, "1 are sent again");
    server.run(folder.path(), &resend).await.ended(3, "0 are sent again");
    let calls = calls(&server);
    assert_eq!(calls[0].1["outcomes"], json!(["fraud"]));
    let expected = json!({"action": "resend", "webhook": "wh_1", "message_id": "msg_1", "by": "ada"});
    assert_eq!(calls[4], ("notifier".to_owned(), expected));
}

#[tokio::test]
async fn what_a_function_refuses_is_told_from_what_fails() {
    let (server, folder) = (Server::start().await, TempDir::new().unwrap());
    answer(
        &server,
        [
            json!({"errorType": "unknown-key", "errorMessage": "no key has that hash"}),
            json!({"errorType": "dynamodb", "errorMessage": "no connection"}),
        ],
    );
    let revoke = ["--yes", "keys", "revoke", "c52e"];
    server.run(folder.path(), &revoke).await.ended(3, "maintainer refuses: no key has that hash");
    server.run(folder.path(), &revoke).await.ended(1, "maintainer failed with dynamodb: no connection");
    server.run(folder.path(), &["keys", "revoke", "c52e"]).await.ended(2, "--yes");
}

#[tokio::test]
async fn blocks_are_added_removed_and_listed() {
    let (server, folder) = (Server::start().await, TempDir::new().unwrap());
    let block = json!({"address": "203.0.113.7/32", "until": null, "reason": "scraping", "allows": false});
    answer(
        &server,
        [json!({"blocked": block.clone()}), json!({"was_listed": false, "still_in": []}), json!({"blocks": [block]})],
    );
    let add = ["blocks", "add", "203.0.113.7", "--reason", "scraping", "--for-sec", "60"];
    server.run(folder.path(), &add).await.ended(0, "203.0.113.7/32");
    server.run(folder.path(), &["blocks", "remove", "203.0.113.7"]).await.ended(3, "was not on the list");
    server.run(folder.path(), &["blocks", "list"]).await.ended(0, "203.0.113.7/32  block  -      scraping");
    let range = ["blocks", "add", "203.0.113.0/24", "--reason", "scraping"];
    server.run(folder.path(), &range).await.ended(2, "Block all addresses of 203.0.113.0/24?");
    assert_eq!(calls(&server)[0].1["for_sec"], 60);
}

#[tokio::test]
async fn an_event_is_found_by_an_id_with_any_characters() {
    let (server, folder) = (Server::start().await, TempDir::new().unwrap());
    server.run(folder.path(), &["events", "get", "/shop|1"]).await.ended(0, "/shop|1: valid");
    server.run(folder.path(), &["events", "get", "other"]).await.ended(3, "unknown_event");
}

#[tokio::test]
async fn a_difference_in_the_ledger_is_an_exit_status() {
    let (server, folder) = (Server::start().await, TempDir::new().unwrap());
    let partition = json!({"topic": "raw-events", "partition": 0, "rows": 4, "outcomes": {"valid": 3, "fraud": 1}});
    answer(
        &server,
        [json!({"unaccounted": 0, "partitions": [partition]}), json!({"unaccounted": 1, "partitions": []})],
    );
    server.run(folder.path(), &["reconcile"]).await.ended(0, "fraud 1, valid 3");
    server.run(folder.path(), &["reconcile"]).await.ended(1, "`make reconcile`");
}

#[tokio::test]
async fn a_function_is_invoked_with_a_file() {
    let (server, folder) = (Server::start().await, TempDir::new().unwrap());
    std::fs::write(folder.path().join("event.json"), "{\"a\":1}").unwrap();
    answer(&server, [json!({"b": 2}), json!({"b": 2})]);
    server.run(folder.path(), &["invoke", "scorer", "event.json"]).await.ended(0, "\"b\": 2");
    let mut from_input = server.command(folder.path(), &["invoke", "scorer", "-"]);
    from_input.stdin(std::fs::File::open(folder.path().join("event.json")).unwrap());
    Finished::of(from_input).await.ended(0, "\"b\": 2");
    assert_eq!(calls(&server), [("scorer".to_owned(), json!({"a": 1})), ("scorer".to_owned(), json!({"a": 1}))]);
    server.run(folder.path(), &["invoke", "scorer", "none.json"]).await.ended(2, "none.json");
}

#[tokio::test]
async fn the_doctor_says_what_to_do() {
    let (server, folder) = (Server::start().await, TempDir::new().unwrap());
    let well = server.run(folder.path(), &["--json", "doctor"]).await.ended(0, "");
    assert_eq!(well.json()["ok"], true);

    let mut revoked = server.command(folder.path(), &["doctor"]);
    revoked.env("FOREBAY_KEY", "revoked");
    Finished::of(revoked)
        .await
        .ended(1, "api_key_revoked: as played: make a key with `forebay keys create --scopes read …`");

    let mut nothing = server.command(folder.path(), &["doctor"]);
    nothing.env("FOREBAY_URL", "http://127.0.0.1:9").env_remove("FOREBAY_KEY").env_remove("AWS_ENDPOINT_URL_LAMBDA");
    let said = Finished::of(nothing).await.ended(1, "is it running, and is the address right");
    assert!(said.out.contains("start it with `make run`") && said.out.contains("FOREBAY_KEY"), "{said:?}");
}

#[tokio::test]
async fn places_say_how_they_are_reached() {
    let (server, folder) = (Server::start().await, TempDir::new().unwrap());
    for (place, said) in [("local", "`make run`"), ("compose", "`make stack-up`"), ("kube", "port-forward")] {
        let mut command = server.command(folder.path(), &["--place", place, "keys", "list"]);
        command.env_remove("AWS_ENDPOINT_URL_LAMBDA");
        Finished::of(command).await.ended(2, said);
    }
    let mut aws = server.command(folder.path(), &["--place", "aws", "send", "{}"]);
    aws.env_remove("FOREBAY_URL");
    Finished::of(aws).await.ended(2, "FOREBAY_URL");
    // The endpoint stands for AWS here; its functions have a prefix.
    let mut aws = server.command(folder.path(), &["--place", "aws", "--function-prefix", "dev-", "blocks", "list"]);
    aws.env("AWS_ACCESS_KEY_ID", "a").env("AWS_SECRET_ACCESS_KEY", "b").env("AWS_REGION", "eu-west-1");
    Finished::of(aws).await.ended(0, "ADDRESS");
    assert_eq!(calls(&server)[0].0, "dev-maintainer");
}

#[tokio::test]
async fn completions_are_printed_and_a_closed_pipe_ends_them() {
    let (server, folder) = (Server::start().await, TempDir::new().unwrap());
    server.run(folder.path(), &["completions", "bash"]).await.ended(0, "_forebay");
    let program = env!("CARGO_BIN_EXE_forebay");
    let script = format!("{program} completions bash | true; echo ${{PIPESTATUS[0]}}");
    let output = std::process::Command::new("bash").args(["-c", &script]).output().unwrap();
    let status = String::from_utf8(output.stdout).unwrap();
    assert!(["141\n", "0\n"].contains(&status.as_str()), "{status}");
}

#[tokio::test]
async fn a_search_goes_on_until_it_has_what_was_asked_for() {
    let (server, folder) = (Server::start().await, TempDir::new().unwrap());
    let page = |ids: std::ops::Range<usize>, next: Value| {
        let event = |number| json!({"id": format!("e-{number}"), "type": "click", "status": "valid"});
        json!({"events": ids.map(event).collect::<Vec<_>>(), "next": next})
    };
    let search = ["events", "search", "--user", "u&1", "--campaign", "c1", "--hours", "48", "--limit", "150"];
    server.played.lock().unwrap().pages.extend([page(0..100, json!("x")), page(100..150, json!("y"))]);
    let found = server.run(folder.path(), &[&["--json"], &search[..]].concat()).await.ended(0, "").json();
    assert_eq!((found["events"].as_array().unwrap().len(), &found["next"]), (150, &json!("y")));
    let asked = std::mem::take(&mut server.played.lock().unwrap().questions);
    let conditions = "/events?user%5Fid=u%261&campaign%5Fid=c1&hours=48&limit=";
    assert_eq!(asked, [format!("{conditions}100"), format!("{conditions}50&next=x")]);

    server.played.lock().unwrap().pages.extend([page(0..2, Value::Null)]);
    let value =
        ["events", "search", "--value", "status", "404", "--status", "fraud", "--next", "y", "--type", "page_view"];
    server.run(folder.path(), &value).await.ended(0, "e-1");
    let asked = std::mem::take(&mut server.played.lock().unwrap().questions);
    assert_eq!(asked, ["/events?type=page%5Fview&status=fraud&dimension=status&value=404&limit=50&next=y"]);
    server.run(folder.path(), &["events", "search", "--limit", "5"]).await.ended(3, "out_of_bounds");
    server.run(folder.path(), &["events", "search", "--from", "2026-11-20T18:00:00Z"]).await.ended(2, "--to");
}

#[tokio::test]
async fn a_tail_goes_on_where_its_connection_ended() {
    let (server, folder) = (Server::start().await, TempDir::new().unwrap());
    let cut = "retry: 10\nid: t.0\n\nid: t.1\nevent: valid\ndata: {\"id\":\"a\",\"outcome\":\"valid\"}\n\nid: t.2\nevent: fra";
    let rest = "retry: 10\nid: t.1\n\nid: t.2\nevent: gap\ndata: {\"partition\":0}\n\n\
                id: t.3\nevent: fraud\ndata: {\"id\":\"b\",\"outcome\":\"fraud\"}\n\nid: t.4\n";
    server.played.lock().unwrap().streams.extend([cut, rest]);
    let tail = [
        "--json",
        "events",
        "tail",
        "--outcome",
        "valid,fraud",
        "--type",
        "click",
        "--from",
        "earliest",
        "--limit",
        "2",
    ];
    let ended = server.run(folder.path(), &tail).await;
    ended.ended(
        0,
        "{\"id\":\"a\",\"outcome\":\"valid\"}\n{\"gap\":{\"partition\":0}}\n{\"id\":\"b\",\"outcome\":\"fraud\"}\n",
    );
    let mut played = std::mem::take(&mut *server.played.lock().unwrap());
    assert_eq!(played.resumed, [None, Some("t.1".to_owned())]);
    assert_eq!(played.questions.pop().unwrap(), "/stream?outcome=valid%2Cfraud&type=click&from=earliest");

    server.played.lock().unwrap().streams.push_back(cut);
    server.run(folder.path(), &["events", "tail", "--limit", "1"]).await.ended(0, "valid");
    server.run(folder.path(), &["events", "tail"]).await.ended(3, "streams_off");
}

#[tokio::test]
async fn statistics_are_asked_for_by_campaign_value_or_dimension() {
    let (server, folder) = (Server::start().await, TempDir::new().unwrap());
    let report = json!({"events": 9, "by_type": {}, "series": [], "distinct_users": {"estimate": 7}});
    server.played.lock().unwrap().pages.extend([report.clone(), report, json!({"values": []})]);
    let campaign = ["stats", "--campaign", "a/b", "--interval", "day", "--timezone", "Asia/Kolkata"];
    server.run(folder.path(), &campaign).await.ended(0, "9 events, about 7 users");
    server
        .run(folder.path(), &["stats", "--dimension", "unit", "--value", "C", "--hours", "1"])
        .await
        .ended(0, "9 events");
    server.run(folder.path(), &["stats", "--dimension", "unit", "--limit", "3"]).await.ended(0, "VALUE");
    let asked = std::mem::take(&mut server.played.lock().unwrap().questions);
    assert_eq!(
        asked,
        [
            "/campaigns/a%2Fb/stats?interval=day&timezone=Asia%2FKolkata",
            "/stats?dimension=unit&value=C&hours=1",
            "/stats?dimension=unit&limit=3",
        ]
    );
    server.run(folder.path(), &["stats", "--value", "C"]).await.ended(2, "--dimension");
}
