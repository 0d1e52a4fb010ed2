//! Servers that refuse to run as root.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail};
use nix::unistd::{User, geteuid};

/// The user that runs such a server, if this process is root: the package's own user, or `nobody`.
pub(crate) fn server_user() -> anyhow::Result<Option<User>> {
    if !geteuid().is_root() {
        return Ok(None);
    }
    for name in ["postgres", "nobody"] {
        if let Some(user) = User::from_name(name)? {
            return Ok(Some(user));
        }
    }
    bail!("PostgreSQL and PgBouncer refuse to run as root, and there is neither a user `postgres` nor `nobody`")
}

pub(crate) fn run_as(command: &mut Command, user: Option<&User>) {
    if let Some(user) = user {
        command.uid(user.uid.as_raw()).gid(user.gid.as_raw());
    }
}

/// Creates the folder and gives it to the server's user. Returns its absolute path.
pub(crate) fn prepare(root: &Path, user: Option<&User>) -> anyhow::Result<PathBuf> {
    let doing = || format!("cannot prepare {} for a server", root.display());
    std::fs::create_dir_all(root).with_context(doing)?;
    std::fs::set_permissions(root, Permissions::from_mode(0o700)).with_context(doing)?;
    let root = root.canonicalize().with_context(doing)?;
    if let Some(user) = user {
        std::os::unix::fs::chown(&root, Some(user.uid.as_raw()), Some(user.gid.as_raw())).with_context(doing)?;
    }
    Ok(root)
}
