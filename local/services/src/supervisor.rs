//! Programs that must not outlive the process that started them.
//!
//! A shell between the two holds one end of a pipe and stops the program when the other end closes: when the value is
//! dropped, or because the process that started it was killed. If the name of a signal is written to the pipe, the
//! shell sends that signal instead. The usual way, `PR_SET_PDEATHSIG`, needs unsafe code.

use std::io::Write as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

/// Runs the program (`$@`) and stops it with `$STOP_SIGNAL` when standard input closes. Removes `$SCRATCH` afterwards,
/// unless that is empty.
const SCRIPT: &str = r#"
exec 3<&0
"$@" 3<&- </dev/null &
program=$!
{ read -r signal <&3; kill -s "${signal:-$STOP_SIGNAL}" "$program"; } 2>/dev/null &
watcher=$!
exec 3<&-
wait "$program"
status=$?
kill "$watcher" 2>/dev/null
[ -z "$SCRATCH" ] || rm -rf -- "$SCRATCH"
exit "$status"
"#;

/// Maximum wait for a program to stop, and the time between two checks.
const PATIENCE: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_millis(20);

/// A running program. Dropping it stops the program and waits until it has ended.
#[derive(Debug)]
pub(crate) struct Supervised {
    shell: Child,
    scratch: Option<PathBuf>,
}

impl Supervised {
    /// Starts `program`, which is stopped with the signal `stop_signal` (`TERM`, `INT`). A `scratch` folder is removed
    /// after it has ended. `prepare` sets up output, folder, user and environment.
    pub(crate) fn start(
        program: &Path,
        arguments: impl IntoIterator<Item = impl AsRef<std::ffi::OsStr>>,
        stop_signal: &str,
        scratch: Option<&Path>,
        prepare: impl FnOnce(&mut Command),
    ) -> std::io::Result<Self> {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", SCRIPT, "supervisor"]).arg(program).args(arguments);
        command.env("STOP_SIGNAL", stop_signal).env("SCRATCH", scratch.unwrap_or(Path::new("")));
        prepare(&mut command);
        // In its own process group: Ctrl-C must reach only the caller, which stops its services last.
        command.stdin(Stdio::piped()).process_group(0);
        Ok(Supervised { shell: command.spawn()?, scratch: scratch.map(Path::to_owned) })
    }

    /// How the program ended; `None` while it runs.
    pub(crate) fn ended(&mut self) -> std::io::Result<Option<ExitStatus>> {
        self.shell.try_wait()
    }

    /// Kills the program with SIGKILL, as in a crash, and waits until it has ended.
    pub(crate) fn kill(&mut self) -> std::io::Result<()> {
        if let Some(mut pipe) = self.shell.stdin.take() {
            pipe.write_all(b"KILL\n")?;
        }
        self.shell.wait().map(drop)
    }

    /// Closes the pipe, as the kernel does when the owner is killed.
    pub(crate) fn abandon(&mut self) {
        drop(self.shell.stdin.take());
    }
}

impl Drop for Supervised {
    fn drop(&mut self) {
        self.abandon();
        // Blocking, because this is a destructor.
        for _ in 0..PATIENCE.as_millis() / PAUSE.as_millis() {
            match self.shell.try_wait() {
                Ok(None) => std::thread::sleep(PAUSE),
                Ok(Some(_)) | Err(_) => break,
            }
        }
        if let Some(scratch) = self.scratch.take().filter(|scratch| scratch.exists()) {
            tracing::warn!(folder = %scratch.display(), "a temporary folder could not be removed");
        }
    }
}

/// The last lines of a log, for an error message.
pub(crate) fn log_tail(log: &Path) -> String {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().rev().take(5).collect();
    lines.into_iter().rev().collect::<Vec<_>>().join(" | ")
}
