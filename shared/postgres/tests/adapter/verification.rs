use event::Timestamp;
use postgres::Database;
use postgres::ledger::OffsetRange;
use postgres::verification::{UnverifiedLog, look, note_verified, unverified_logs};

use super::ledger::close;
use super::{database, execute};

/// The next part of the only log, of at most 10 offsets: its bounds, and what is missing.
async fn part(database: &Database) -> Option<(i64, i64, Vec<OffsetRange>)> {
    let name = unverified_logs(database).await.unwrap().pop()?;
    let UnverifiedLog { verified_offset, next_offset, missing, .. } = look(database, name, 10).await.unwrap().unwrap();
    Some((verified_offset, next_offset, missing))
}

#[tokio::test]
async fn a_log_is_looked_at_part_by_part_and_what_is_verified_is_left_out() {
    let database = database().await;
    assert_eq!(part(&database).await, None);
    close(&database, 0, 5..25, Timestamp::EPOCH).await;
    execute(&database, "DELETE FROM record_outcomes WHERE record_offset IN (7, 17, 18)").await;
    let gap = |first, last| OffsetRange { first, last };
    assert_eq!(part(&database).await, Some((5, 15, vec![gap(7, 7)])), "from the floor on");
    let log = unverified_logs(&database).await.unwrap().pop().unwrap();
    note_verified(&database, &log, 7).await.unwrap();
    assert_eq!(part(&database).await, Some((7, 17, vec![gap(7, 7)])), "it stays until its row is there");
    note_verified(&database, &log, 15).await.unwrap();
    note_verified(&database, &log, 7).await.unwrap();
    assert_eq!(part(&database).await, Some((15, 25, vec![gap(17, 18)])), "it never goes back");
    note_verified(&database, &log, 25).await.unwrap();
    assert_eq!(part(&database).await, None);
    close(&database, 0, 25..26, Timestamp::EPOCH).await;
    assert_eq!(part(&database).await, Some((25, 26, vec![])));
}

#[tokio::test]
async fn a_log_that_was_made_again_is_another_log() {
    let database = database().await;
    close(&database, 0, 0..3, Timestamp::EPOCH).await;
    let log = unverified_logs(&database).await.unwrap().pop().unwrap();
    note_verified(&database, &log, 3).await.unwrap();
    execute(
        &database,
        "INSERT INTO ended_logs SELECT topic, partition, incarnation, floor_offset, next_offset, updated_at FROM checkpoints;
         UPDATE checkpoints SET incarnation = 1, next_offset = 2",
    )
    .await;
    let names = unverified_logs(&database).await.unwrap();
    assert_eq!(names.iter().map(|name| name.incarnation).collect::<Vec<_>>(), [1]);
    let seen = look(&database, names[0].clone(), 10).await.unwrap().unwrap();
    assert_eq!((seen.is_present, seen.missing), (true, vec![OffsetRange { first: 0, last: 1 }]));
}
