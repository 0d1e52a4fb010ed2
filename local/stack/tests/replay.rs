//! The database is lost and rebuilt from the archive, and records are processed again, through the real binaries.

#![expect(clippy::unwrap_used, reason = "helpers of tests: a failure is a failed test")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use postgres::Database;
use postgres::fingerprint::{Fingerprint, fingerprint};
use serde_json::{Value, json};
use stack::demo::{Demo, DemoReport};
use stack::functions::beside_this_program;
use stack::options::Options;
use stack::stack::Stack;
use tokio_postgres::{Client, NoTls};

const PATIENCE: Duration = Duration::from_secs(60);

fn options() -> Options {
    Options::for_one_run(&settings::ProcessEnvironment, beside_this_program().unwrap()).unwrap()
}

/// An idle stack whose traffic had every kind of outcome and is archived.
async fn stack_with_traffic(events: usize) -> (Stack, DemoReport) {
    let stack = Stack::start(options()).await.unwrap();
    let demo = Demo { events, batch_size: 100, ..Demo::default() };
    let report = demo.run(&stack, demo.traffic().unwrap()).await.unwrap();
    assert_eq!(report.unaccounted, 0, "{report}");
    assert!([report.fraud, report.duplicate, report.blocked, report.dead_lettered].iter().all(|n| *n > 0), "{report}");
    (stack, report)
}

async fn client(stack: &Stack) -> Client {
    let (client, connection) = tokio_postgres::connect(stack.database_url(), NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

async fn fingerprint_of(stack: &Stack) -> Fingerprint {
    let database = Database::connect(&stack.postgres_config().unwrap()).await.unwrap();
    fingerprint(&database).await.unwrap()
}

/// Waits until the run has saved some progress, and kills the replayer.
async fn kill_half_way(stack: &Stack, run: &str, records: i64) {
    let client = client(stack).await;
    let until = Instant::now() + PATIENCE;
    loop {
        let progress = "SELECT (counts::json ->> 'records')::int8 FROM replay_progress WHERE run = $1 AND counts <> ''";
        let row = client.query_opt(progress, &[&run]).await.unwrap();
        if row.is_some_and(|row| row.get::<_, i64>(0) >= records) {
            break;
        }
        assert!(Instant::now() < until, "the run does not get half-way");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let processes = stack.processes("replayer");
    assert_eq!(processes.len(), 1, "{processes:?}");
    kill(Pid::from_raw(i32::try_from(processes[0]).unwrap()), Signal::SIGKILL).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_database_is_rebuilt_to_the_last_column() {
    let (stack, report) = stack_with_traffic(1000).await;
    let stack = Arc::new(stack);
    let before = fingerprint_of(&stack).await;
    let dry = stack.invoke("replayer", json!({"action": "restore", "dry_run": true})).await.unwrap();
    assert_eq!(dry["counts"]["records"], report.accepted, "{dry}");

    client(&stack).await.batch_execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public").await.unwrap();
    stack.invoke("maintainer", json!({"action": "maintain"})).await.unwrap();
    assert_ne!(fingerprint_of(&stack).await, before);

    let request = json!({"action": "restore", "run": "rebuild", "rate": 500});
    let first = tokio::spawn({
        let (stack, request) = (Arc::clone(&stack), request.clone());
        async move { stack.invoke("replayer", request).await }
    });
    kill_half_way(&stack, "rebuild", i64::try_from(report.accepted / 3).unwrap()).await;
    assert!(first.await.unwrap().is_err(), "it was killed");
    assert_ne!(fingerprint_of(&stack).await, before, "killed half-way");

    let answer = stack.invoke("replayer", request).await.unwrap();
    let after = fingerprint_of(&stack).await;
    let unaccounted = stack.unaccounted().await.unwrap();
    Arc::into_inner(stack).unwrap().stop().await.unwrap();
    assert_eq!(after, before, "{answer}");
    assert_eq!(unaccounted, 0);
    assert_eq!(answer["complete"], true, "{answer}");
    assert_eq!(answer["counts"]["restored"]["differing"], 0, "{answer}");
    for field in ["records", "value_bytes", "outcomes", "types"] {
        assert_eq!(answer["counts"][field], dry["counts"][field], "over both invocations");
    }
}

/// Whether `reconcile` is content, and what it prints.
async fn reconcile(stack: &Stack) -> (bool, String) {
    // In a folder without the settings of another stack.
    let folder = tempfile::tempdir().unwrap();
    let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_stack"));
    let output = command
        .args(["reconcile", "--minutes", "60"])
        .envs(stack.session.variables())
        .current_dir(&folder)
        .output()
        .await
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap();
    (output.status.success(), text)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_event_is_named_and_comes_back_from_the_archive() {
    let (stack, report) = stack_with_traffic(300).await;
    let before = fingerprint_of(&stack).await;
    let whole = reconcile(&stack).await;
    let delete = "DELETE FROM events WHERE (tenant, event_id) IN
                    (SELECT tenant, event_id FROM events WHERE risk_score IS NOT NULL LIMIT 1)
                  RETURNING tenant, event_id, origin_partition, origin_offset";
    let row = client(&stack).await.query_one(delete, &[]).await.unwrap();
    let (tenant, id, partition, offset) =
        (row.get::<_, String>(0), row.get::<_, String>(1), row.get::<_, i32>(2), row.get::<_, i64>(3));
    let broken = reconcile(&stack).await;
    let answer = stack.invoke("replayer", json!({"action": "restore", "run": "lost", "max_per_sec": 50_000})).await;
    let (after, mended) = (fingerprint_of(&stack).await, reconcile(&stack).await);
    stack.stop().await.unwrap();

    assert!(whole.0 && whole.1.contains("lost events: 0"), "{}", whole.1);
    let last = format!("the last 60 minutes: received {0}, recorded {0}", report.accepted);
    assert!(whole.1.contains(&last), "{last}: {}", whole.1);
    let named = format!("raw-events/{partition}/{offset}: the ledger has event {id} of {tenant} as ");
    assert!(!broken.0 && broken.1.contains(&named) && broken.1.contains("lost events: 1"), "{}", broken.1);
    assert_eq!(after, before, "{answer:?}");
    assert!(mended.0 && mended.1.contains("lost events: 0"), "{}", mended.1);
}

#[tokio::test(flavor = "multi_thread")]
async fn versions_lie_beside_the_first_result() {
    let (stack, report) = stack_with_traffic(500).await;
    let before = fingerprint_of(&stack).await;
    let reprocess = async |version: &str, run: &str| -> Value {
        let request = json!({"action": "reprocess", "version": version, "run": run, "rate": 50_000});
        stack.invoke("replayer", request).await.unwrap()
    };
    let first = reprocess("rules-1", "a").await;
    let second = reprocess("rules-2", "b").await;
    let again = reprocess("rules-2", "c").await;
    let refused = stack.invoke("replayer", json!({"action": "reprocess", "run": "d"})).await.unwrap_err();
    let after = fingerprint_of(&stack).await;
    let rows = "SELECT version, count(*) FROM reprocessed_outcomes GROUP BY 1 ORDER BY 1";
    let rows = client(&stack).await.query(rows, &[]).await.unwrap();
    let rows: Vec<(String, i64)> = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
    stack.stop().await.unwrap();

    assert_eq!(after, before);
    let accepted = i64::try_from(report.accepted).unwrap();
    assert_eq!(rows, [("rules-1".to_owned(), accepted), ("rules-2".to_owned(), accepted)]);
    // The rules are the same as the first time, so every record has the same outcome.
    let changes = &first["counts"]["reprocessed"]["changes"];
    assert_eq!(changes["fraud -> fraud"], report.fraud, "{changes}");
    assert_eq!(changes["blocked -> blocked"], report.blocked, "{changes}");
    assert_eq!(changes.as_object().unwrap().len(), 5, "{changes}");
    assert_eq!(&second["counts"]["reprocessed"]["changes"], changes);
    assert_eq!(again["counts"]["reprocessed"]["already"], accepted, "{again}");
    assert!(refused.to_string().contains("version"), "{refused}");
}
