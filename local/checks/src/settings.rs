//! The environment variables that the source reads and those that the docs name.
//!
//! The source reads a variable where its name, a literal in capitals, is the first argument of a method that reads
//! (`calls` has their names), or follows `settings` as the second argument of any function. A name that reaches such a
//! call through a variable is not seen, but then the docs name a variable that nobody reads, and that is found. A secret is
//! also read from the file that its `NAME_FILE` names, and by `secret_source` from what its `NAME_SECRET_ARN` names.
//!
//! The docs name a variable in backquotes or in a fenced block; they promise that it is read if `NAME` or `NAME=value` stands in
//! backquotes under `## Settings`. The example file has a variable on a line of its own, `NAME=default`, behind `#` if it
//! has no default.

use std::collections::{BTreeMap, BTreeSet};

use regex::{Captures, Regex};

use crate::text::{Files, code, program, section};

/// The file with every setting of the functions.
pub const EXAMPLE: &str = ".env.example";

/// Variables that are read and that nobody sets by hand.
const NOT_SET_BY_HAND: [&str; 2] = [
    // Lambda and its emulators set it; by it a function knows where it runs.
    "AWS_LAMBDA_RUNTIME_API",
    // Where programs are searched, as every shell has it.
    "PATH",
];

/// Variables that libraries read.
const READ_BY_LIBRARIES: [&str; 8] = [
    // The AWS SDK.
    "AWS_REGION",
    "AWS_ENDPOINT_URL_DYNAMODB",
    "AWS_ENDPOINT_URL_LAMBDA",
    "AWS_ENDPOINT_URL_S3",
    "AWS_ENDPOINT_URL_SECRETS_MANAGER",
    "AWS_ENDPOINT_URL_SNS",
    "AWS_ENDPOINT_URL_SQS",
    // The standard library.
    "RUST_BACKTRACE",
];

/// The calls that read a variable. The name is the last group.
fn calls() -> Result<Vec<Regex>, regex::Error> {
    let forms = [
        // `settings::Settings`; `get` of `Variables`; `require` and `aws` of the local stack's session.
        r#"\.(?:optional|required|or|choices?|optional_choice|list|get|require|aws)(?:::<[^()]*>)?\(\s*"([A-Z][A-Z0-9_]*)""#,
        r#"\.(?<secret>secret|secret_source)\(\s*"([A-Z][A-Z0-9_]*)""#,
        r#"\w\(\s*(?:&mut )?settings,\s*"([A-Z][A-Z0-9_]*)""#,
        // The ports of the local stack.
        r#"\bport\(\s*"([A-Z][A-Z0-9_]*)""#,
        // The standard library, the filter of the logs, the AWS SDK's keys (with a second argument it sets a variable), clap.
        r#"\b(?:var|var_os|try_from_env|env)\("([A-Z][A-Z0-9_]*)"\)"#,
        r#"\benv = "([A-Z][A-Z0-9_]*)""#,
    ];
    forms.into_iter().map(Regex::new).collect()
}

/// Variables that a source file reads.
fn reads(source: &str, calls: &[Regex]) -> BTreeSet<String> {
    let program = program(source);
    calls.iter().flat_map(|call| call.captures_iter(&program)).flat_map(|call| names(&call)).collect()
}

/// The variables that a call reads.
fn names(call: &Captures<'_>) -> Vec<String> {
    let name = &call[call.len() - 1];
    let others: &[&str] = match call.name("secret").map(|call| call.as_str()) {
        Some("secret") => &["_FILE"],
        Some(_) => &["_FILE", "_SECRET_ARN"],
        None => &[],
    };
    std::iter::once("").chain(others.iter().copied()).map(|ending| format!("{name}{ending}")).collect()
}

/// Every variable that the source or a library reads.
///
/// # Errors
/// Never: the patterns are constant.
pub fn variables(sources: &Files) -> Result<BTreeSet<String>, regex::Error> {
    let calls = calls()?;
    let read = sources.values().flat_map(|text| reads(text, &calls));
    Ok(read.chain(READ_BY_LIBRARIES.map(str::to_owned)).collect())
}

/// Variables that stand anywhere in the code of a Markdown file.
fn named(markdown: &str, name: &Regex) -> BTreeSet<String> {
    code(markdown).iter().flat_map(|code| name.find_iter(code)).map(|name| name.as_str().to_owned()).collect()
}

/// Variables of which a Markdown file says that they are read.
fn promised(markdown: &str, assignment: &Regex) -> BTreeSet<String> {
    let code = code(section(markdown, "Settings"));
    code.iter().filter_map(|code| assignment.captures(code)).map(|name| name[1].to_owned()).collect()
}

fn examples(example: &str) -> Result<BTreeSet<String>, regex::Error> {
    let line = Regex::new(r"(?m)^#?([A-Z][A-Z0-9_]*)=")?;
    Ok(line.captures_iter(example).map(|line| line[1].to_owned()).collect())
}

/// Where a variable that `source` reads may be explained, besides the root README and `docs/`: in the README of the crate
/// that reads it, or of any function if the crate is shared.
fn explains(doc: &str, source: &str) -> bool {
    let folder = |file: &str| file.split('/').take(2).collect::<Vec<_>>().join("/");
    doc == "README.md"
        || doc.starts_with("docs/")
        || folder(doc) == folder(source)
        || (source.starts_with("shared/") && doc.starts_with("functions/"))
}

/// Variables that are read and not explained, or not in the example file although a function reads them; and variables of
/// the docs and the example file that nobody reads. `sources` are those under the crates' `src`.
///
/// # Errors
/// Never: the patterns are constant.
pub fn mistakes(sources: &Files, docs: &Files, example: &str) -> Result<Vec<String>, regex::Error> {
    let examples = examples(example)?;
    let name = Regex::new(r"\b[A-Z][A-Z0-9_]*\b")?;
    let names: BTreeMap<&String, BTreeSet<String>> =
        docs.iter().map(|(file, text)| (file, named(text, &name))).collect();
    let mut found = BTreeSet::new();
    let calls = calls()?;
    let (mut read, mut read_by_functions) = (BTreeSet::new(), BTreeSet::new());
    for (source, text) in sources {
        let mut of_file = reads(text, &calls);
        read.extend(of_file.iter().cloned());
        of_file.retain(|name| !NOT_SET_BY_HAND.contains(&name.as_str()));
        let is_local = source.starts_with("local/");
        for name in &of_file {
            if !names.iter().any(|(doc, names)| explains(doc, source) && names.contains(name)) {
                found.insert(format!("{source} reads {name}, which no README and no file under docs/ explains"));
            }
            if !is_local && !examples.contains(name) {
                found.insert(format!("{source} reads {name}, which {EXAMPLE} lacks"));
            }
        }
        if !is_local {
            read_by_functions.extend(of_file);
        }
    }
    let nobody =
        |name: &String, read: &BTreeSet<String>| !read.contains(name) && !READ_BY_LIBRARIES.contains(&name.as_str());
    let assignment = Regex::new(r"^([A-Z][A-Z0-9_]*[A-Z0-9])(?:=.*)?$")?;
    for (file, text) in docs {
        let promised = promised(text, &assignment);
        let unread = promised.iter().filter(|name| nobody(name, &read));
        found.extend(unread.map(|name| format!("{file} names the setting {name}, which nobody reads")));
    }
    let unread = examples.iter().filter(|name| nobody(name, &read_by_functions));
    found.extend(unread.map(|name| format!("{EXAMPLE} names {name}, which no function reads")));
    Ok(found.into_iter().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_of_reading_is_seen() {
        let source = r#"
            let a = settings.required::<Vec<u8>>("A_A");
            let b = millis(&mut settings, "B", 5_000);
            let c = settings.or(
                "C", 1);
            let secrets = (settings.secret("S"), settings.secret_source("T"));
            let d = (port("D_PORT", "what", 8080), settings.choice("CHOICE", Choice::A));
            let e = EnvFilter::try_from_env("E_LOG");
            let f = (std::env::var("F"), key.env("F_URL").profile("x"), session.aws("F_AWS"));
            #[arg(long, env = "G")]
            command.env("SET", value).get("lower");
            // settings.or("COMMENT", 1)
        "#;
        let found: Vec<String> = reads(source, &calls().unwrap()).into_iter().collect();
        let secrets = ["S", "S_FILE", "T", "T_FILE", "T_SECRET_ARN"];
        let others = ["A_A", "B", "C", "CHOICE", "D_PORT", "E_LOG", "F", "F_AWS", "F_URL", "G"];
        assert_eq!(found, [&others[..], &secrets].concat());
    }

    fn found(readme: &str, example: &str) -> Vec<String> {
        let sources = [
            ("functions/f/src/config.rs", "settings.or(\"TTL\", 1)"),
            ("shared/s/src/lib.rs", "settings.secret(\"URL\")"),
            ("local/l/src/main.rs", "settings.list(\"TOOL\")"),
        ];
        let of_function = "# f\n\n## Settings\n\n| name |\n|---|\n| `TTL` |\n| `URL` | `http` |\n| `URL_FILE` | |\n\n## Alarms\n\n`OTHER`\n";
        let docs = [("README.md", readme), ("functions/f/README.md", of_function)];
        let files =
            |files: &[(&str, &str)]| files.iter().map(|(file, text)| ((*file).into(), (*text).into())).collect();
        mistakes(&files(&sources), &files(&docs), example).unwrap()
    }

    #[test]
    fn true_docs_pass() {
        let readme = "# r\n\n## Settings\n\n`TOOL=1` and `AWS_REGION`, besides `DB_` variables\n";
        assert_eq!(found(readme, "# All of them.\nTTL=1\n#URL=http\n#URL_FILE=url\n"), Vec::<String>::new());
    }

    #[test]
    fn a_variable_that_nobody_explains_is_found() {
        let unexplained = "local/l/src/main.rs reads TOOL, which no README and no file under docs/ explains";
        assert_eq!(found("TOOL and `TOOLS`", "TTL=1\nURL=a\nURL_FILE=a\n"), [unexplained]);
    }

    #[test]
    fn a_setting_that_the_example_lacks_is_found() {
        assert_eq!(
            found("`TOOL`", "TTL=1\nUR=1\n# URL=1\n#URL_FILE=a\n"),
            [
                ".env.example names UR, which no function reads",
                "shared/s/src/lib.rs reads URL, which .env.example lacks",
            ]
        );
    }

    #[test]
    fn a_setting_that_nobody_reads_is_found() {
        let readme = "# r\n\n## Settings\n\n| `TOOL`, `TTLS` | a |\n\n## Next\n\n`NEXT`\n";
        assert_eq!(
            found(readme, "TTL=1\nURL=a\nURL_FILE=a\nTOOL=1\n"),
            [
                ".env.example names TOOL, which no function reads",
                "README.md names the setting TTLS, which nobody reads",
            ]
        );
    }
}
