//! A disk so small that it can be filled: a tmpfs, for which one has to be root.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Write as _};
use std::path::{Path, PathBuf};
use std::process::Command;

/// The file that fills it.
const BALLAST: &str = "ballast";

/// Mounted as long as this lives.
#[derive(Debug)]
pub struct SmallDisk {
    folder: PathBuf,
}

impl SmallDisk {
    /// Mounts an empty disk of that size on `folder`, which is made.
    ///
    /// # Errors
    /// If the folder cannot be made, or this process may not mount anything; says why.
    pub fn mount(folder: &Path, megabytes: u32) -> io::Result<Self> {
        fs::create_dir_all(folder)?;
        let size = format!("size={megabytes}m");
        let mount = Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(folder).output()?;
        if !mount.status.success() {
            return Err(io::Error::other(String::from_utf8_lossy(&mount.stderr).trim().to_owned()));
        }
        Ok(SmallDisk { folder: folder.to_owned() })
    }

    /// Takes all the space that is left.
    ///
    /// # Errors
    /// If the disk fails otherwise than by being full.
    pub fn fill(&self) -> io::Result<()> {
        let mut ballast = File::create(self.folder.join(BALLAST))?;
        let zeros = vec![0; 64 * 1024];
        loop {
            match ballast.write(&zeros) {
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::StorageFull => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    }

    /// Gives the space back.
    ///
    /// # Errors
    /// If it was not taken.
    pub fn free(&self) -> io::Result<()> {
        fs::remove_file(self.folder.join(BALLAST))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: a file may still be open.
        let unmounted = Command::new("umount").arg("-l").arg(&self.folder).status();
        if !unmounted.is_ok_and(|status| status.success()) {
            tracing::warn!(folder = %self.folder.display(), "a small disk stays mounted");
        }
    }
}
