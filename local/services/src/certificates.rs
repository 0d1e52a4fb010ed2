//! Certificates for tests, made with the machine's `openssl`.

use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, ensure};

const NEW_KEY: &str = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes";

/// Writes `name.pem` and `name.key` into the folder: a certificate authority that is valid for two days.
///
/// # Errors
/// If `openssl` is missing or fails.
pub fn authority(folder: &Path, name: &str) -> anyhow::Result<()> {
    openssl(folder, &format!("req -x509 {NEW_KEY} -days 2 -subj /CN={name} -keyout {name}.key -out {name}.pem"))?;
    Ok(())
}

/// Writes `name.pem` and `name.key`: a certificate from that authority for the address 127.0.0.1 and no other name.
///
/// # Errors
/// If `openssl` is missing or fails.
pub fn certificate(folder: &Path, authority: &str, name: &str) -> anyhow::Result<()> {
    std::fs::write(folder.join("names"), "subjectAltName=IP:127.0.0.1\n")?;
    openssl(folder, &format!("req {NEW_KEY} -subj /CN={name} -keyout {name}.key -out {name}.csr"))?;
    let signing = format!("-CA {authority}.pem -CAkey {authority}.key -CAcreateserial");
    openssl(folder, &format!("x509 -req -in {name}.csr {signing} -days 2 -extfile names -out {name}.pem"))?;
    Ok(())
}

/// Runs `openssl` in the folder, with arguments that are separated by spaces, and returns what it writes.
///
/// # Errors
/// If it is missing or fails.
pub fn openssl(folder: &Path, arguments: &str) -> anyhow::Result<Vec<u8>> {
    let mut command = Command::new("openssl");
    let output = command.args(arguments.split(' ')).current_dir(folder).output().context("cannot start openssl")?;
    ensure!(output.status.success(), "openssl {arguments}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(output.stdout)
}
