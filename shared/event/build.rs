//! Embeds every event type under `types/`, so that a new one is a new folder and no new code.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{env, fs, io};

use serde::Deserialize;

/// `type.yaml`: see `types/README.md`.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Definition {
    dimensions: Vec<String>,
    pairs: Vec<[String; 2]>,
    measures: Vec<String>,
    distinct: Option<String>,
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let types = Path::new(&variable("CARGO_MANIFEST_DIR")?).join("../../types");
    println!("cargo::rerun-if-changed={}", types.display());

    let mut schemas = String::from("&[\n");
    let mut definitions = String::from("&[\n");
    for folder in sorted(&types)?.into_iter().filter(|path| path.is_dir()) {
        let event_type = name(&folder)?;
        if event_type.len() > 64
            || !event_type.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'.' | b'-'))
        {
            return Err(format!(
                "{}: the name of an event type must have 1 to 64 characters of a-z, 0-9, '_', '.' and '-'",
                folder.display()
            )
            .into());
        }
        println!("cargo::rerun-if-changed={}", folder.display());
        let mut properties = Vec::new();
        let mut definition = Definition::default();
        for file in sorted(&folder)? {
            println!("cargo::rerun-if-changed={}", file.display());
            let text = fs::read_to_string(&file)?;
            if name(&file)? == "type.yaml" {
                definition = serde_saphyr::from_str(&text).map_err(|error| format!("{}: {error}", file.display()))?;
                continue;
            }
            let version = name(&file)?
                .strip_prefix('v')
                .and_then(|name| name.strip_suffix(".json"))
                .and_then(|text| text.parse::<u32>().ok())
                .filter(|version| *version > 0);
            let version = version.ok_or_else(|| {
                format!("{}: a file of an event type is type.yaml or v<version>.json", file.display())
            })?;
            let schema: serde_json::Value =
                serde_json::from_str(&text).map_err(|error| format!("{}: {error}", file.display()))?;
            let named = schema.get("properties").and_then(serde_json::Value::as_object);
            properties.extend(named.into_iter().flat_map(|named| named.keys().cloned()));
            writeln!(schemas, "    ({event_type:?}, {version}, {text:?}),")?;
        }
        check(&definition, &properties).map_err(|problem| format!("{}/type.yaml: {problem}", folder.display()))?;
        let Definition { dimensions, pairs, measures, distinct } = definition;
        writeln!(
            definitions,
            "    ({event_type:?}, TypeDefinition {{ dimensions: &{dimensions:?}, pairs: &{pairs:?}, measures: &{measures:?}, \
             distinct: {distinct:?} }}),"
        )?;
    }
    schemas.push(']');
    definitions.push(']');
    let out = variable("OUT_DIR")?;
    fs::write(Path::new(&out).join("schemas.rs"), schemas)?;
    fs::write(Path::new(&out).join("definitions.rs"), definitions)?;
    Ok(())
}

/// A misspelt member would be counted nowhere, without a word.
fn check(definition: &Definition, properties: &[String]) -> Result<(), String> {
    let Definition { dimensions, pairs, measures, distinct } = definition;
    for member in dimensions.iter().chain(measures).chain(distinct) {
        if !properties.contains(member) {
            return Err(format!("{member} is not a property in any schema of this type"));
        }
        // The names of a pair are written with a comma between them.
        if !member.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_')) {
            return Err(format!("{member}: the name must have only a-z, 0-9 and '_'"));
        }
    }
    for member in pairs.iter().flatten() {
        if !dimensions.contains(member) {
            return Err(format!("{member} is in a pair but not among the dimensions"));
        }
    }
    Ok(())
}

#[expect(clippy::disallowed_methods, reason = "Cargo passes values to build scripts in the environment")]
fn variable(name: &str) -> Result<String, env::VarError> {
    env::var(name)
}

/// The folder's entries in the order of their names, so that builds are reproducible.
fn sorted(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut paths =
        fs::read_dir(folder)?.map(|entry| entry.map(|entry| entry.path())).collect::<io::Result<Vec<_>>>()?;
    paths.sort();
    Ok(paths)
}

fn name(path: &Path) -> Result<&str, String> {
    path.file_name()
        .and_then(|name| name.to_str())
        .ok_or_else(|| format!("{}: the file name is not UTF-8", path.display()))
}
