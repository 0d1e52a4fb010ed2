//! No two public types with one name, in whatever crates they are.
//!
//! Recognises `pub struct`, `pub enum` and `pub trait` at the start of a line, outside of unit tests.

use std::collections::{BTreeMap, BTreeSet};

use crate::text::{Files, program};

/// What every function has, under the same name, in the same file (docs/architecture.md).
const OF_EVERY_FUNCTION: [&str; 6] = ["App", "Config", "ConnectError", "Policy", "Ports", "Request"];

/// Names that two or more files define, with these files.
pub fn repeated(sources: &Files) -> BTreeMap<String, BTreeSet<String>> {
    let mut found: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (file, source) in sources {
        for name in program(source).lines().filter_map(defined) {
            found.entry(name.to_owned()).or_default().insert(file.clone());
        }
    }
    found.retain(|name, files| {
        let one_per_function = OF_EVERY_FUNCTION.contains(&name.as_str())
            && files.iter().map(|file| file.rsplit('/').next()).collect::<BTreeSet<_>>().len() == 1
            && files.iter().all(|file| file.starts_with("functions/"));
        files.len() > 1 && !one_per_function
    });
    found
}

fn defined(line: &str) -> Option<&str> {
    let rest =
        ["pub struct ", "pub enum ", "pub trait "].iter().find_map(|kind| line.trim_start().strip_prefix(kind))?;
    rest.split(|char: char| !char.is_alphanumeric()).next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_of_two_types_is_found_with_both_files() {
        let source = |text: &str| format!("{text}\n\n#[cfg(test)]\nmod tests {{\n    pub struct Fake;\n}}\n");
        let sources = Files::from([
            ("functions/a/src/app.rs".into(), source("pub struct App {\n    pub x: u8,\n}\n// pub struct Reader;")),
            ("functions/b/src/app.rs".into(), source("pub struct App;\npub enum Reader<'a> {}")),
            ("shared/c/src/lib.rs".into(), source("pub trait Reader: Send {}\nstruct Private;")),
            ("shared/d/src/lib.rs".into(), source("struct Private;")),
        ]);
        let files = BTreeSet::from(["functions/b/src/app.rs".to_owned(), "shared/c/src/lib.rs".to_owned()]);
        assert_eq!(repeated(&sources), BTreeMap::from([("Reader".to_owned(), files)]));
    }

    #[test]
    fn a_name_of_every_function_stays_in_its_file() {
        let app = |file: &str| (file.to_owned(), "pub struct App;".to_owned());
        let sources = Files::from([app("functions/a/src/app.rs"), app("functions/b/src/start.rs")]);
        assert_eq!(repeated(&sources).len(), 1);
        let sources = Files::from([app("functions/a/src/app.rs"), app("shared/b/src/app.rs")]);
        assert_eq!(repeated(&sources).len(), 1);
    }
}
