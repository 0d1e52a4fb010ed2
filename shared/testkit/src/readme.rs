//! Compares the settings in a function's README with those that its code reads.

use std::collections::BTreeMap;

use settings::{Recording, Variables};

/// Names in the first column of the README's `## Settings` table, sorted.
///
/// A row starts with `` | `NAME` ``. Tests compare this with [`settings::Recording::names`].
pub fn documented_settings(readme: &str) -> Vec<String> {
    let section = readme.split("\n## Settings").nth(1).unwrap_or_default();
    let section = section.split("\n## ").next().unwrap_or_default();
    let mut names: Vec<String> =
        section.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next()).map(str::to_owned).collect();
    names.sort();
    names
}

/// Checks that the README's `## Settings` table has exactly the names that were read, in one way or another: each way to name a
/// database reads settings of its own.
pub fn assert_names(readme: &str, read: &[Vec<String>]) {
    let mut names = read.concat();
    names.sort();
    names.dedup();
    assert_eq!(documented_settings(readme), names);
}

/// The settings whose default in the last column of the same table is a literal: a number, or a text in backquotes.
fn documented_defaults(readme: &str) -> Vec<(&str, &str)> {
    let section = readme.split("\n## Settings").nth(1).unwrap_or_default();
    let section = section.split("\n## ").next().unwrap_or_default();
    section.lines().filter_map(name_and_default).collect()
}

fn name_and_default(row: &str) -> Option<(&str, &str)> {
    let name = row.strip_prefix("| `")?.split('`').next()?;
    let cell = row.trim_end().strip_suffix('|')?.rsplit('|').next()?.trim();
    let quoted = cell.strip_prefix('`').and_then(|cell| cell.strip_suffix('`'));
    let number = cell.parse::<i64>().is_ok().then_some(cell);
    let default = quoted.or(number).filter(|text| !text.is_empty() && !text.contains('`'))?;
    Some((name, default))
}

/// Variables that are enough for a function with a database: both ways to name one, each with the `others` that the
/// function requires. For [`assert_defaults`], as each way reads settings of its own.
pub fn with_database<'a>(others: &[(&'a str, &'a str)]) -> [BTreeMap<&'a str, &'a str>; 2] {
    let url = BTreeMap::from([("DATABASE_URL", "postgres://forebay@127.0.0.1/forebay")]);
    let parts = BTreeMap::from([
        ("DB_HOST", "127.0.0.1"),
        ("DB_NAME", "forebay"),
        ("DB_USER", "forebay"),
        ("DB_PASSWORD", "x"),
    ]);
    [url, parts].map(|mut variables| {
        variables.extend(others.iter().copied());
        variables
    })
}

/// Checks that each default in the README's `## Settings` table is the code's: leaving the variable unset and setting
/// it to the documented default must give the same configuration.
///
/// `minimal` are sets of variables that are sufficient for a configuration; each documented setting must be read with
/// one of them. `read` returns the configuration as text, or the error.
pub fn assert_defaults(readme: &str, minimal: &[BTreeMap<&str, &str>], read: impl Fn(&dyn Variables) -> String) {
    let defaults = documented_defaults(readme);
    assert!(!defaults.is_empty(), "the README's table of settings has no defaults");
    for (name, default) in defaults {
        let mut is_read = false;
        for variables in minimal.iter().filter(|variables| !variables.contains_key(name)) {
            let recording = Recording::new(variables.clone());
            let unset = read(&recording);
            if !recording.names().iter().any(|read| read == name) {
                continue;
            }
            is_read = true;
            let mut explicit = variables.clone();
            explicit.insert(name, default);
            assert_eq!(read(&explicit), unset, "{name}: the README says {default}");
        }
        assert!(is_read, "{name} is in the README and is not read");
    }
}

#[cfg(test)]
mod tests {
    use settings::Settings;

    use super::*;

    const README: &str = "# x\n\n## Settings\n\n| name | meaning | default |\n|---|---|---|\n\
        | `TTL` | seconds | 60 |\n| `MODE` | `a` or `b` | `a` |\n| `HOST` | where | required |\n\n## Next\n";

    fn read(variables: &dyn Variables) -> String {
        let mut settings = Settings::new(variables);
        let config = (settings.or("TTL", 60_u32), settings.or("MODE", "a".to_owned()));
        format!("{:?}", settings.build(Some(config)))
    }

    #[test]
    fn true_defaults_pass() {
        assert_eq!(documented_defaults(README), [("TTL", "60"), ("MODE", "a")]);
        assert_defaults(README, &[BTreeMap::new()], read);
    }

    #[test]
    #[should_panic(expected = "TTL: the README says 61")]
    fn a_wrong_default_is_found() {
        assert_defaults(&README.replace("60", "61"), &[BTreeMap::new()], read);
    }

    #[test]
    #[should_panic(expected = "TTL2 is in the README and is not read")]
    fn a_setting_that_nobody_reads_is_found() {
        assert_defaults(&README.replace("TTL", "TTL2"), &[BTreeMap::new()], read);
    }
}
