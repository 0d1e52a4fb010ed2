//! A child process that one task owns: only that task reaps and signals it, so no signal can reach another process
//! that got the same process id.

use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::process::{Child, Command};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use crate::log::{LogSink, LogTail, capture};

/// Time from SIGTERM to SIGKILL: what Lambda allows a function with an external extension.
const TERMINATION_GRACE: Duration = Duration::from_secs(2);
/// Time for the last lines to arrive after the exit. A grandchild may keep the pipe open forever.
const OUTPUT_GRACE: Duration = Duration::from_millis(200);

#[derive(Clone, Copy, Debug)]
enum StopRequest {
    Kill,
    Terminate,
}

/// A running child. Dropping the last handle kills it.
#[derive(Debug)]
pub(crate) struct Process {
    pub(crate) pid: u32,
    /// When the system was asked to start it.
    pub(crate) started: Instant,
    pub(crate) tail: Arc<LogTail>,
    requests: mpsc::UnboundedSender<StopRequest>,
    exit: watch::Receiver<Option<String>>,
}

impl Process {
    /// Starts a program in its own process group, so that Ctrl-C in the terminal reaches only the host, which then
    /// stops the functions in order.
    pub(crate) fn spawn(
        program: &Path,
        env: impl IntoIterator<Item = (String, String)>,
        sink: &LogSink,
    ) -> std::io::Result<Self> {
        let started = Instant::now();
        let mut child = Command::new(program)
            .envs(env)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true)
            .spawn()?;
        let pid = child.id().ok_or_else(|| std::io::Error::other("the process ended at once"))?;
        let tail = Arc::new(LogTail::default());
        let copying = capture(&mut child, sink, &tail);
        let (requests, incoming) = mpsc::unbounded_channel();
        let (ended, exit) = watch::channel(None);
        tokio::spawn(own(child, pid, copying, incoming, ended));
        Ok(Process { pid, started, tail, requests, exit })
    }

    /// Waits for the end and returns how the process ended, in Lambda's words: `exit status: 1`, `signal: 9 (SIGKILL)`.
    pub(crate) async fn ended(&self) -> String {
        let mut exit = self.exit.clone();
        match exit.wait_for(Option::is_some).await {
            Ok(status) => status.clone().unwrap_or_default(),
            Err(_) => "the host is stopping".to_owned(),
        }
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.exit.borrow().is_some()
    }

    /// SIGKILL, without waiting.
    pub(crate) fn kill(&self) {
        // A closed channel means that the process has ended already.
        let _ = self.requests.send(StopRequest::Kill);
    }

    /// SIGTERM, then SIGKILL after 2 s; waits for the end.
    pub(crate) async fn terminate(&self) {
        let _ = self.requests.send(StopRequest::Terminate);
        self.ended().await;
    }
}

async fn own(
    mut child: Child,
    pid: u32,
    mut copying: JoinSet<()>,
    mut requests: mpsc::UnboundedReceiver<StopRequest>,
    ended: watch::Sender<Option<String>>,
) {
    let status = tokio::select! {
        status = child.wait() => status,
        request = requests.recv() => match request {
            Some(StopRequest::Terminate) => terminate(&mut child, pid, &mut requests).await,
            // Without a handle nobody can use or stop the process any more.
            Some(StopRequest::Kill) | None => kill_and_wait(&mut child).await,
        },
    };
    let _ = tokio::time::timeout(OUTPUT_GRACE, async { while copying.join_next().await.is_some() {} }).await;
    let text = match status {
        Ok(status) => status.to_string(),
        Err(error) => format!("unknown: {error}"),
    };
    ended.send_replace(Some(text));
}

async fn terminate(
    child: &mut Child,
    pid: u32,
    requests: &mut mpsc::UnboundedReceiver<StopRequest>,
) -> std::io::Result<ExitStatus> {
    if let Err(error) = kill(Pid::from_raw(pid.cast_signed()), Signal::SIGTERM) {
        tracing::debug!(%error, pid, "cannot send SIGTERM");
    }
    let deadline = tokio::time::Instant::now() + TERMINATION_GRACE;
    loop {
        tokio::select! {
            status = child.wait() => return status,
            () = tokio::time::sleep_until(deadline) => return kill_and_wait(child).await,
            request = requests.recv() => match request {
                Some(StopRequest::Terminate) => {}
                Some(StopRequest::Kill) | None => return kill_and_wait(child).await,
            },
        }
    }
}

async fn kill_and_wait(child: &mut Child) -> std::io::Result<ExitStatus> {
    child.start_kill()?;
    child.wait().await
}

pub(crate) async fn is_file(path: &Path) -> bool {
    tokio::fs::metadata(path).await.is_ok_and(|metadata| metadata.is_file())
}
