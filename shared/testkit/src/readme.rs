//! Compares a function's README with what its code reads.

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
