//! Embeds every schema under `schemas/`, so that a new event type is a new file and no new code.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{env, fs, io};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let schemas = Path::new(&variable("CARGO_MANIFEST_DIR")?).join("../../schemas");
    println!("cargo::rerun-if-changed={}", schemas.display());

    let mut table = String::from("&[\n");
    for folder in sorted(&schemas)?.into_iter().filter(|path| path.is_dir()) {
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
        for file in sorted(&folder)? {
            println!("cargo::rerun-if-changed={}", file.display());
            let version = name(&file)?
                .strip_suffix(".json")
                .and_then(|text| text.parse::<u32>().ok())
                .filter(|version| *version > 0);
            let version = version
                .ok_or_else(|| format!("{}: the file name of a schema must be <version>.json", file.display()))?;
            let text = fs::read_to_string(&file)?;
            writeln!(table, "    ({event_type:?}, {version}, {text:?}),")?;
        }
    }
    table.push(']');
    fs::write(Path::new(&variable("OUT_DIR")?).join("schemas.rs"), table)?;
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
