//! Writes the output of a process to its target, keeps the last lines, and counts what its metrics say.

use std::collections::VecDeque;
use std::io::Write as _;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncBufReadExt as _, AsyncRead, BufReader};
use tokio::process::Child;
use tokio::task::JoinSet;

use crate::config::LogTarget;
use crate::error::HostError;
use crate::lock::lock;

/// Number of lines kept for an error message.
const TAIL_LINES: usize = 20;

/// An open [`LogTarget`], shared by all instances of a function.
#[derive(Clone, Debug)]
pub(crate) enum LogSink {
    Stderr,
    File(Arc<std::fs::File>),
    Discard,
}

impl LogSink {
    pub(crate) fn open(name: &str, target: &LogTarget) -> Result<Self, HostError> {
        let path = match target {
            LogTarget::Stderr => return Ok(LogSink::Stderr),
            LogTarget::Discard => return Ok(LogSink::Discard),
            LogTarget::File(path) => path,
        };
        let open = || {
            if let Some(folder) = path.parent() {
                std::fs::create_dir_all(folder)?;
            }
            std::fs::File::options().create(true).append(true).open(path)
        };
        let file = open().map_err(|source| HostError::Log { name: name.to_owned(), path: path.clone(), source })?;
        Ok(LogSink::File(Arc::new(file)))
    }

    /// Writes a line with its line end in one call, so that lines of several instances do not mix.
    fn write(&self, line: &[u8]) {
        let written = match self {
            LogSink::Stderr => std::io::stderr().write_all(line),
            LogSink::File(file) => file.as_ref().write_all(line),
            LogSink::Discard => Ok(()),
        };
        if let Err(error) = written {
            tracing::warn!(%error, "cannot write a log line of a function");
        }
    }
}

/// The last lines of one process.
#[derive(Debug, Default)]
pub(crate) struct LogTail(Mutex<VecDeque<String>>);

impl LogTail {
    pub(crate) fn lines(&self) -> Vec<String> {
        lock(&self.0).iter().cloned().collect()
    }

    fn push(&self, line: &[u8]) {
        let mut lines = lock(&self.0);
        if lines.len() == TAIL_LINES {
            lines.pop_front();
        }
        lines.push_back(String::from_utf8_lossy(line).trim_end().to_owned());
    }
}

/// Starts copying a child's output. The tasks end when the child and every process that inherited its output have
/// closed it.
pub(crate) fn capture(child: &mut Child, sink: &LogSink, tail: &Arc<LogTail>) -> JoinSet<()> {
    let mut copying = JoinSet::new();
    if let Some(stdout) = child.stdout.take() {
        copying.spawn(copy(stdout, sink.clone(), Arc::clone(tail)));
    }
    if let Some(stderr) = child.stderr.take() {
        copying.spawn(copy(stderr, sink.clone(), Arc::clone(tail)));
    }
    copying
}

/// Does with a line of metrics what CloudWatch does: the values go to the metrics of this process. Returns whether it was one.
fn counted(line: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(line) else { return false };
    match telemetry::emf::read(text.trim_end()) {
        Ok(Some(metrics)) => {
            metrics.replay();
            true
        }
        Ok(None) => false,
        Err(error) => {
            tracing::warn!(%error, "a function wrote metrics that cannot be read");
            false
        }
    }
}

async fn copy(output: impl AsyncRead + Unpin, sink: LogSink, tail: Arc<LogTail>) {
    let mut output = BufReader::new(output);
    let mut line = Vec::new();
    loop {
        line.clear();
        match output.read_until(b'\n', &mut line).await {
            Ok(0) => return,
            Ok(_) => {
                if !line.ends_with(b"\n") {
                    line.push(b'\n');
                }
                sink.write(&line);
                if !counted(&line) {
                    tail.push(&line);
                }
            }
            Err(error) => {
                tracing::warn!(%error, "cannot read the output of a function");
                return;
            }
        }
    }
}
