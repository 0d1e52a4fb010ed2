//! A disk small enough to be filled: a tmpfs, which only root can mount.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Write as _};
use std::path::{Path, PathBuf};
use std::process::Command;

/// The file that fills it.
const BALLAST: &str = "ballast";

/// A mounted disk. Dropping it unmounts the disk.
#[derive(Debug)]
pub struct SmallDisk {
    folder: PathBuf,
}

impl SmallDisk {
    /// Creates `folder` and mounts an empty disk of that size on it.
    ///
    /// # Errors
    /// If the folder cannot be created, or this process may not mount disks; the error says why.
    pub fn mount(folder: &Path, megabytes: u32) -> io::Result<Self> {
        fs::create_dir_all(folder)?;
        let size = format!("size={megabytes}m");
        let mount = Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(folder).output()?;
        if !mount.status.success() {
            return Err(io::Error::other(String::from_utf8_lossy(&mount.stderr).trim().to_owned()));
        }
        Ok(SmallDisk { folder: folder.to_owned() })
    }

    /// Why no disk can be mounted here, if so.
    pub fn missing(folder: &Path) -> Option<String> {
        Self::mount(folder, 1).err().map(|error| format!("no small disk could be mounted: {error}"))
    }

    /// Fills all the space that is left.
    ///
    /// # Errors
    /// If writing fails for another reason than a full disk.
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

    /// Frees the space again.
    ///
    /// # Errors
    /// If the disk was not filled.
    pub fn free(&self) -> io::Result<()> {
        fs::remove_file(self.folder.join(BALLAST))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: a file may still be open.
        let unmounted = Command::new("umount").arg("-l").arg(&self.folder).status();
        if !unmounted.is_ok_and(|status| status.success()) {
            tracing::warn!(folder = %self.folder.display(), "cannot unmount a small disk");
        }
    }
}
