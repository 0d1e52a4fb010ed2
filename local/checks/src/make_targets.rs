//! The targets of the Makefile and those that the docs name.
//!
//! A target is a name, or several, before a colon at the start of a line; it is public if `##` and a help text follow.
//! The docs name a target in backquotes or in a fenced block, as `make target`; assignments (`NAME=value`) may stand before
//! it, and further targets may follow it.

use std::collections::BTreeSet;

use regex::Regex;

use crate::text::{Files, code};

/// Where every public target must be named, in one of them.
const NAMED_IN: [&str; 2] = ["README.md", "CONTRIBUTING.md"];

struct Targets {
    all: BTreeSet<String>,
    public: BTreeSet<String>,
}

fn targets(makefile: &str) -> Result<Targets, regex::Error> {
    let rule = Regex::new(r"^([a-z][a-z0-9-]*(?: [a-z][a-z0-9-]*)*):([^=].*)?$")?;
    let (mut all, mut public) = (BTreeSet::new(), BTreeSet::new());
    for rule in makefile.lines().filter_map(|line| rule.captures(line)) {
        let names = || rule[1].split(' ').map(str::to_owned);
        all.extend(names());
        if rule.get(2).is_some_and(|rest| rest.as_str().contains("## ")) {
            public.extend(names());
        }
    }
    Ok(Targets { all, public })
}

fn named(markdown: &str, call: &Regex) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for code in code(markdown) {
        for call in call.captures_iter(&code) {
            found.extend(call[1].split_whitespace().map(str::to_owned));
        }
    }
    found
}

/// Targets that the docs name and the Makefile lacks, and public targets that nobody names.
///
/// # Errors
/// Never: the patterns are constant.
pub fn mistakes(makefile: &str, docs: &Files) -> Result<Vec<String>, regex::Error> {
    let targets = targets(makefile)?;
    let call = Regex::new(r"(?:^|[\s(;&])make(?: [A-Z_]+=\S+)*((?: [a-z][a-z0-9-]*)+)")?;
    let (mut found, mut introduced) = (Vec::new(), BTreeSet::new());
    for (file, text) in docs {
        let named = named(text, &call);
        let unknown = named.difference(&targets.all);
        found.extend(unknown.map(|name| format!("{file} names `make {name}`, which the Makefile does not have")));
        if NAMED_IN.contains(&file.as_str()) {
            introduced.extend(named);
        }
    }
    let missing = targets.public.difference(&introduced);
    found.extend(missing.map(|name| format!("`make {name}` is named neither in README.md nor in CONTRIBUTING.md")));
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAKEFILE: &str = "X := 1\n.PHONY: run on off\nrun: tool ## Start\non off: ## Switch\ntool:\n\tmake lost\n";

    fn found(readme: &str, other: &str) -> Vec<String> {
        let docs = [("README.md", readme), ("docs/a.md", other)];
        let docs = docs.into_iter().map(|(file, text)| (file.to_owned(), text.to_owned())).collect();
        mistakes(MAKEFILE, &docs).unwrap()
    }

    #[test]
    fn true_docs_pass() {
        assert!(
            found("`make run`, `X=2 make X=1 on` and\n\n```sh\nmake off A=1   # make it so\n```\n", "make sure")
                .is_empty()
        );
    }

    #[test]
    fn a_target_that_does_not_exist_is_found() {
        let unknown = |file: &str, name: &str| format!("{file} names `make {name}`, which the Makefile does not have");
        assert_eq!(found("`make run on off`", "- `make walk`"), [unknown("docs/a.md", "walk")]);
        assert_eq!(found("`make run on off lost`", ""), [unknown("README.md", "lost")]);
    }

    #[test]
    fn a_public_target_that_nobody_names_is_found() {
        let found = found("`make run` and `make off`", "`make on` stands in the wrong file, `make tool` is not public");
        assert_eq!(found, ["`make on` is named neither in README.md nor in CONTRIBUTING.md"]);
    }
}
