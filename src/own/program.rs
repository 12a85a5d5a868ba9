//! A program that kvllama starts once and asks over stdin and stdout, one JSON object per line each way.

use std::collections::VecDeque;
use std::io::{BufRead as _, BufReader, Read, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::{Error, Result, interrupt, threads};

/// Longest reply. Long arrays belong into a file.
const LONGEST: u64 = 1 << 28;
/// Lines of stderr that are remembered for an error message.
const LAST_WORDS: usize = 3;
/// How often a wait looks whether the user wants to stop.
const TICK: Duration = Duration::from_millis(50);
/// How long a program may take to end by itself once its stdin is closed.
const GRACE: Duration = Duration::from_secs(2);

/// What came from the program's stdout.
enum Reply {
    Line(Vec<u8>),
    TooLong,
}

/// A running program. It is killed when this value is dropped, unless it ends by itself when its stdin is closed.
pub(super) struct Program {
    path: PathBuf,
    child: Child,
    /// Closed to end the program.
    requests: Option<Sender<String>>,
    replies: Receiver<Reply>,
    last_words: Arc<Mutex<VecDeque<String>>>,
    timeout: Duration,
}

impl Program {
    /// Starts the program at `path`, relative to the current directory.
    ///
    /// # Errors
    /// If there is no such file, or if it cannot be executed.
    pub fn start(path: &Path, timeout: Duration) -> Result<Self> {
        // Without a slash, the system would look the name up in PATH.
        let there = if path.components().count() == 1 { Path::new(".").join(path) } else { path.to_owned() };
        let mut command = Command::new(&there);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        // Ctrl-C goes to kvllama, which then ends the program.
        #[cfg(unix)]
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        let mut child = command.spawn().map_err(|error| {
            Error::input(format!(
                "the program {} cannot be started: {error}; it must be executable (chmod +x) and begin with a line such as \
                 #!/usr/bin/env python3, and the interpreter named there must exist",
                path.display()
            ))
        })?;
        let mut stdin = child.stdin.take().expect("piped");
        let (stdout, stderr) = (child.stdout.take().expect("piped"), child.stderr.take().expect("piped"));
        let (requests, to_write) = channel::<String>();
        // Written by a thread of its own, so that a program that does not read cannot hold kvllama up.
        let write = move || {
            for request in to_write {
                if stdin.write_all(request.as_bytes()).and_then(|()| stdin.flush()).is_err() {
                    break; // it has ended, which the end of its stdout tells
                }
            }
        };
        let (replied, replies) = channel();
        let read = move || {
            let mut stdout = BufReader::new(stdout);
            loop {
                let mut line = Vec::new();
                let reply = match stdout.by_ref().take(LONGEST).read_until(b'\n', &mut line) {
                    Ok(0) | Err(_) => break,
                    Ok(length) if length as u64 == LONGEST => Reply::TooLong,
                    Ok(_) => Reply::Line(line),
                };
                if replied.send(reply).is_err() {
                    break;
                }
            }
        };
        let last_words = Arc::new(Mutex::new(VecDeque::new()));
        let (heard, name) = (Arc::clone(&last_words), path.display().to_string());
        let listen = move || {
            for line in BufReader::new(stderr).lines().map_while(std::result::Result::ok) {
                tracing::info!("{name}: {line}");
                let mut words = heard.lock().expect("no thread panics while it holds this");
                words.push_back(line);
                if words.len() > LAST_WORDS {
                    words.pop_front();
                }
            }
        };
        let started = threads::start(write).and_then(|()| threads::start(read)).and_then(|()| threads::start(listen));
        if let Err(error) = started {
            let _ = child.kill().and_then(|()| child.wait()); // it may have ended just now
            return Err(error);
        }
        Ok(Program { path: path.to_owned(), child, requests: Some(requests), replies, last_words, timeout })
    }

    /// Sends one message and waits for the reply, a JSON object. A program that failed once is not asked again.
    ///
    /// # Errors
    /// If the program ends, does not answer in time, or answers something else; the sentence says which.
    pub fn ask(&mut self, request: &Value) -> Result<Value> {
        let asked = self.exchange(request);
        if asked.is_err() {
            self.end(Duration::ZERO);
        }
        asked
    }

    fn exchange(&mut self, request: &Value) -> Result<Value> {
        let Some(requests) = &self.requests else {
            return Err(self.fault("has failed before"));
        };
        if let Ok(Reply::Line(line)) = self.replies.try_recv() {
            return Err(self.fault(&format!(
                "wrote a line that nobody asked for: `{}`; it must print one line per request, and anything else to stderr",
                shown(&line)
            )));
        }
        let _ = requests.send(format!("{request}\n"));
        let line = match self.wait()? {
            Reply::Line(line) => line,
            Reply::TooLong => {
                return Err(self.fault("wrote a line of more than 256 MB; long arrays belong into a .npy file"));
            }
        };
        match serde_json::from_slice::<Value>(&line) {
            Ok(reply @ Value::Object(_)) => match reply.get("error").and_then(Value::as_str) {
                Some(error) => Err(self.fault(&format!("says: {error}"))),
                None => Ok(reply),
            },
            _ => Err(self.fault(&format!(
                "answered `{}`, which is no JSON object on one line (NaN is not JSON either); anything else that it prints \
                 belongs on stderr",
                shown(&line)
            ))),
        }
    }

    /// The next line of the program.
    fn wait(&mut self) -> Result<Reply> {
        let start = Instant::now();
        loop {
            match self.replies.recv_timeout(TICK) {
                Ok(reply) => return Ok(reply),
                Err(RecvTimeoutError::Disconnected) => return Err(self.ended()),
                Err(RecvTimeoutError::Timeout) if interrupt::requested() => return Err(Error::Interrupted),
                Err(RecvTimeoutError::Timeout) if start.elapsed() >= self.timeout => {
                    let seconds = self.timeout.as_secs();
                    return Err(self.fault(&format!(
                        "gave no answer within {seconds} s; if it needs longer, raise the limit (timeout={})",
                        seconds * 10
                    )));
                }
                Err(RecvTimeoutError::Timeout) => {}
            }
        }
    }

    /// The error of a program that closed its stdout.
    fn ended(&mut self) -> Error {
        let start = Instant::now();
        let status = loop {
            match self.child.try_wait() {
                Ok(Some(status)) => break status.to_string(),
                Ok(None) if start.elapsed() < GRACE => std::thread::sleep(Duration::from_millis(5)),
                _ => break "it still runs, but its stdout is closed".to_owned(),
            }
        };
        // The thread that reads stderr may be a moment behind.
        std::thread::sleep(TICK);
        let words: Vec<String> =
            self.last_words.lock().expect("no thread panics while it holds this").iter().cloned().collect();
        let words = if words.is_empty() { String::new() } else { format!("; its last words: {}", words.join(" | ")) };
        self.fault(&format!("ended ({status}) instead of answering{words}"))
    }

    /// An error of this program.
    pub fn fault(&self, what: &str) -> Error {
        Error::Program(format!("the program {} {what}", self.path.display()))
    }

    fn end(&mut self, grace: Duration) {
        self.requests = None;
        let start = Instant::now();
        while start.elapsed() < grace {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        self.end(if self.requests.is_some() { GRACE } else { Duration::ZERO });
    }
}

/// The beginning of a line, for a message.
fn shown(line: &[u8]) -> String {
    const MOST: usize = 80;
    let text = String::from_utf8_lossy(&line[..line.len().min(4 * MOST)]);
    let text = text.trim_end();
    match text.char_indices().nth(MOST) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text.to_owned(),
    }
}
