//! The settings of this adapter, each read by the functions that need it.

use std::time::Duration;

use lambda::settings::Settings;

/// `DEDUP_TABLE`: the table of claims; `dedup` unless set.
pub fn dedup_table(settings: &mut Settings) -> String {
    settings.or("DEDUP_TABLE", "dedup".to_owned())
}

/// `ACCESS_TABLE`: the table of API keys, blocks and counters; `access` unless set.
pub fn access_table(settings: &mut Settings) -> String {
    settings.or("ACCESS_TABLE", "access".to_owned())
}

/// `DEDUP_TTL_SEC`: how long a claim holds, in seconds; a day unless set.
pub fn dedup_ttl(settings: &mut Settings) -> Duration {
    const DAY: u64 = 86_400;
    let seconds = settings.or("DEDUP_TTL_SEC", DAY);
    if seconds == 0 {
        settings.problem("DEDUP_TTL_SEC=0: a window of no time finds no duplicates");
    }
    Duration::from_secs(seconds)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn an_empty_window_is_a_problem() {
        let variables = BTreeMap::from([("DEDUP_TTL_SEC", "0"), ("ACCESS_TABLE", "access-test")]);
        let mut settings = Settings::new(&variables);
        assert_eq!(access_table(&mut settings), "access-test");
        assert_eq!(dedup_table(&mut settings), "dedup");
        let ttl = dedup_ttl(&mut settings);
        assert!(settings.build(Some(ttl)).is_err());
    }
}
