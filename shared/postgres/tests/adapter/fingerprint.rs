use postgres::fingerprint::{Fingerprint, fingerprint};

use super::{database, execute};

fn entry(offset: i64, reason: &str) -> String {
    format!(
        "INSERT INTO record_outcomes (topic, partition, record_offset, origin_topic, origin_partition, origin_offset,
                                      outcome, reason, recorded_at)
         VALUES ('raw-events', 0, {offset}, 'raw-events', 0, {offset}, 'blocked', '{reason}', 'epoch');"
    )
}

async fn of(statements: &[String]) -> Fingerprint {
    let database = database().await;
    for statement in statements {
        execute(&database, statement).await;
    }
    fingerprint(&database).await.unwrap()
}

#[tokio::test]
async fn equal_rows_have_equal_hashes_in_any_order_and_place() {
    let one = of(&[entry(1, "a"), entry(2, "b")]).await;
    let other = of(&[
        entry(3, "c"),
        entry(2, "b"),
        entry(1, "a"),
        "DELETE FROM record_outcomes WHERE record_offset = 3".into(),
    ])
    .await;
    assert_eq!(one, other);
    let rows: Vec<(&str, i64)> = one.tables.iter().map(|table| (table.table, table.rows)).collect();
    assert_eq!(rows, [("events", 0), ("record_outcomes", 2), ("event_counts_hourly", 0)]);
}

#[tokio::test]
async fn any_column_counts() {
    let one = of(&[entry(1, "a"), entry(2, "b")]).await;
    assert_ne!(one.hash, of(&[entry(1, "b"), entry(2, "a")]).await.hash, "the same values in other rows");
    let later = "UPDATE record_outcomes SET recorded_at = recorded_at + '1 ms' WHERE record_offset = 1".to_owned();
    assert_ne!(one.hash, of(&[entry(1, "a"), entry(2, "b"), later]).await.hash);
    let count = "INSERT INTO event_counts_hourly VALUES ('epoch', 'acme', 'click', 'valid', 1)".to_owned();
    let counted = of(&[entry(1, "a"), entry(2, "b"), count]).await;
    assert_eq!(one.tables[1], counted.tables[1]);
    assert_ne!(one.hash, counted.hash);
}
