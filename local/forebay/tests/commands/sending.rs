//! Files go to ingest, each line once, whatever happens on the way.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::pipeline::{Finished, KEY, Server, Trouble};

fn file(folder: &TempDir, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
    let path = folder.path().join(name);
    std::fs::write(&path, content).unwrap();
    path
}

fn clicks(count: usize) -> String {
    // Equal lines, so that only the ids tell events apart.
    "{\"type\":\"click\",\"user_id\":\"u\"}\n".repeat(count)
}

fn refused(folder: &Path, name: &str) -> Vec<Value> {
    let text = std::fs::read_to_string(folder.join(format!("{name}.refused.ndjson"))).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[tokio::test]
async fn a_file_is_sent_once_although_the_sender_is_killed_in_the_middle() {
    let (server, folder) = (Server::start().await, TempDir::new().unwrap());
    // With one line of each kind that is refused, before and after the kill.
    let content = format!("no event\n{}{{\"amount\":\"x\"}}\n{}", clicks(499), clicks(499));
    file(&folder, "a.ndjson", content);
    let send = ["--json", "send", "--file", "a.ndjson", "--batch", "100"];
    server.played.lock().unwrap().troubles.push((4, Trouble::SilentAfterTaking));
    let mut child = server.command(folder.path(), &send).spawn().unwrap();
    server.until_silent().await;
    server.run(folder.path(), &send).await.ended(2, "another forebay is sending a.ndjson");
    child.kill().await.unwrap();
    assert_eq!(server.played.lock().unwrap().batches, [100; 5]);

    let finished = server.run(folder.path(), &send).await.ended(3, "");
    let summary = finished.json();
    assert_eq!(
        (&summary["accepted"], &summary["refused"], &summary["lines"], &summary["begun_at_line"]),
        (&json!(998), &json!(2), &json!(1000), &json!(401)),
    );
    {
        let played = server.played.lock().unwrap();
        // The batch without an answer came twice, with the same ids.
        assert_eq!((played.ids().len(), played.events.len()), (998, 998 + 100 - 1), "{:?}", played.batches);
    }
    let lines: Vec<Value> = refused(folder.path(), "a.ndjson").iter().map(|line| line["line"].clone()).collect();
    assert_eq!(lines, [1, 501]);

    let batches = server.played.lock().unwrap().batches.len();
    server.run(folder.path(), &send).await.ended(3, "");
    assert_eq!(server.played.lock().unwrap().batches.len(), batches, "everything had been sent");

    // --restart sends all again, as the same events.
    server.run(folder.path(), &[&send[..], &["--restart"]].concat()).await.ended(3, "");
    assert_eq!(server.played.lock().unwrap().ids().len(), 998);
}

#[tokio::test]
async fn an_interrupted_file_says_where_it_goes_on() {
    let (server, folder) = (Server::start().await, TempDir::new().unwrap());
    file(&folder, "a.ndjson", clicks(30));
    server.played.lock().unwrap().troubles.push((1, Trouble::SilentAfterTaking));
    let mut command = server.command(folder.path(), &["send", "--file", "a.ndjson", "--batch", "10"]);
    command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
    let child = command.spawn().unwrap();
    server.until_silent().await;
    let interrupt = format!("kill -INT {}", child.id().unwrap());
    assert!(std::process::Command::new("sh").args(["-c", &interrupt]).status().unwrap().success());
    let output = child.wait_with_output().await.unwrap();
    let error = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(130), "{error}");
    assert!(error.contains("a.ndjson is sent up to line 10; the same command goes on there"), "{error}");
}

#[tokio::test]
async fn a_busy_ingest_is_asked_again_and_not_before_it_says() {
    let (server, folder) = (Server::start().await, TempDir::new().unwrap());
    file(&folder, "a.ndjson", clicks(20));
    server.played.lock().unwrap().troubles = vec![
        (0, Trouble::Busy { status: 503, retry_after: None }),
        (2, Trouble::Busy { status: 429, retry_after: Some(2) }),
    ];
    let started = Instant::now();
    server.run(folder.path(), &["send", "--file", "a.ndjson", "--batch", "10"]).await.ended(0, "20");
    assert!(started.elapsed() >= Duration::from_secs(2));
    let played = server.played.lock().unwrap();
    assert_eq!((played.ids().len(), played.batches.len()), (20, 4));
}

#[tokio::test]
async fn an_ingest_that_takes_nothing_is_given_up() {
    let (server, folder) = (Server::start().await, TempDir::new().unwrap());
    file(&folder, "a.ndjson", clicks(1));
    server.played.lock().unwrap().troubles =
        (0..9).map(|at| (at, Trouble::Busy { status: 503, retry_after: Some(5) })).collect();
    let send = ["send", "--file", "a.ndjson", "--patience-sec", "3"];
    server.run(folder.path(), &send).await.ended(1, "ingest answered 503 Service Unavailable");
    let mut nobody = server.command(folder.path(), &[&send[..2], &["a.ndjson", "--patience-sec", "0"]].concat());
    nobody.env("FOREBAY_URL", "http://127.0.0.1:9");
    Finished::of(nobody).await.ended(1, "no answer from http://127.0.0.1:9/events/batch");
}

#[tokio::test]
async fn batches_become_as_small_as_the_key_needs() {
    let (server, folder) = (Server::start().await, TempDir::new().unwrap());
    file(&folder, "a.ndjson", clicks(200));
    server.played.lock().unwrap().largest_batch = Some(30);
    server.run(folder.path(), &["send", "--file", "a.ndjson", "--batch", "100"]).await.ended(0, "200");
    let played = server.played.lock().unwrap();
    assert_eq!(played.ids().len(), 200);
    assert_eq!(played.batches, [25; 8]);
}

#[tokio::test]
async fn lines_that_are_no_events_are_named_with_their_reason() {
    let (server, folder) = (Server::start().await, TempDir::new().unwrap());
    let long = format!("{{\"type\":\"{}\"}}", "x".repeat(300_000));
    let content = [b"{\"type\":\"click\"}\n\xff\xfe\n".as_slice(), long.as_bytes(), b"\n{\"type\":\"click\"}"].concat();
    file(&folder, "a.jsonl", content);
    server
        .run(folder.path(), &["send", "--file", "a.jsonl"])
        .await
        .ended(3, "refused lines and their reasons: a.jsonl.refused.ndjson");
    let refused = refused(folder.path(), "a.jsonl");
    assert_eq!(refused[0]["reason"], "it is not UTF-8");
    assert_eq!(
        (refused[1]["line"].as_u64(), &refused[1]["reason"]),
        (Some(3), &json!("it is longer than 262144 bytes"))
    );
    assert_eq!((refused.len(), server.played.lock().unwrap().events.len()), (2, 2));
}

#[tokio::test]
async fn files_of_other_forms_become_events() {
    let (server, folder) = (Server::start().await, TempDir::new().unwrap());
    file(&folder, "a.csv", "id,user_id,amount\na,7,1.5\nb,8,2\n");
    let send = ["send", "--file", "a.csv", "--type", "transaction", "--numbers", "amount"];
    server.run(folder.path(), &send).await.ended(0, "2");
    let line = "192.0.2.1 - - [17/May/2015:10:05:03 +0000] \"GET /a HTTP/1.1\" 200 1 \"-\" \"curl\"\n";
    file(&folder, "site.log", line.repeat(2));
    server.run(folder.path(), &["send", "--file", "site.log"]).await.ended(0, "2");
    let played = server.played.lock().unwrap();
    assert_eq!(played.events[0], json!({"type": "transaction", "id": "a", "user_id": "7", "amount": 1.5}));
    assert_eq!(played.events[2]["path"], "/a");
    assert_eq!(played.ids().len(), 4);
}

#[tokio::test]
async fn input_that_cannot_be_right_is_wrong_use() {
    let (server, folder) = (Server::start().await, TempDir::new().unwrap());
    let cases: [(&str, &str, &[&str], &str); 6] = [
        ("empty.ndjson", "", &[], "the file is empty"),
        ("blank.ndjson", "\n\n", &[], "has no events"),
        ("a.txt", "{}\n", &[], "give --format"),
        ("a.csv", "id,amount\n1,2\n", &[], "no column \"type\""),
        ("b.csv", "type,amount\nx,2\n", &["--numbers", "sum"], "\"sum\""),
        ("c.ndjson", "{}\n", &["--numbers", "sum"], "--numbers is for CSV"),
    ];
    for (name, content, more, said) in cases {
        file(&folder, name, content);
        server.run(folder.path(), &[&["send", "--file", name], more].concat()).await.ended(2, said);
    }
    server.run(folder.path(), &["send", "--file", "missing.csv"]).await.ended(2, "cannot open missing.csv");
    server.run(folder.path(), &["send", "{\"type\":"]).await.ended(2, "not JSON");
    server.run(folder.path(), &["send"]).await.ended(2, "required");
    assert_eq!(server.played.lock().unwrap().batches, [0; 0]);
}

#[tokio::test]
async fn a_file_that_has_become_another_is_not_gone_on_with() {
    let (server, folder) = (Server::start().await, TempDir::new().unwrap());
    file(&folder, "a.ndjson", clicks(5));
    let send = ["send", "--file", "a.ndjson"];
    server.run(folder.path(), &send).await.ended(0, "5");
    file(&folder, "a.ndjson", clicks(8));
    server.run(folder.path(), &send).await.ended(0, "went on after line 5");
    assert_eq!(server.played.lock().unwrap().ids().len(), 8, "the file had grown");
    file(&folder, "a.ndjson", "{\"type\":\"other\"}\n".repeat(9));
    server.run(folder.path(), &send).await.ended(2, "--restart");
    server.run(folder.path(), &[&send[..], &["--restart"]].concat()).await.ended(0, "9");
}

#[tokio::test]
async fn a_key_that_is_refused_or_missing_ends_it_at_once() {
    let (server, folder) = (Server::start().await, TempDir::new().unwrap());
    file(&folder, "a.ndjson", clicks(5));
    for (key, said) in [("revoked", "api_key_revoked"), ("unknown", "api_key_unknown"), ("", "FOREBAY_KEY_FILE")] {
        for send in [&["send", "--file", "a.ndjson"][..], &["send", "{}"]] {
            let mut command = server.command(folder.path(), send);
            command.env("FOREBAY_KEY", key);
            if key.is_empty() {
                command.env_remove("FOREBAY_KEY");
            }
            Finished::of(command).await.ended(4, said);
        }
    }
    file(&folder, "key", format!("{}\n", KEY));
    let mut command = server.command(folder.path(), &["send", "{\"id\":\"a\"}", "--key-file", "key"]);
    command.env_remove("FOREBAY_KEY");
    Finished::of(command).await.ended(0, "accepted a: raw-events/1/7");
}

#[tokio::test]
async fn an_event_is_read_from_standard_input() {
    let (server, folder) = (Server::start().await, TempDir::new().unwrap());
    let mut command = server.command(folder.path(), &["send", "-"]);
    let input = file(&folder, "event", "{\"id\":\"from-input\"}");
    command.stdin(std::fs::File::open(input).unwrap());
    Finished::of(command).await.ended(0, "from-input");
    assert_eq!(server.played.lock().unwrap().ids(), BTreeSet::from(["from-input".to_owned()]));
}
