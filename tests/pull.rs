//! `kvllama pull` with a hub and a storage server on the loopback device, and with everything that can go wrong between
//! them.

use std::collections::HashMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use kvllama::models::{self, Hub, HubFile, Observer};
use sha2::{Digest as _, Sha256};

const FILE: &str = "owner/repo:dir/model.gguf";
const PATH: &str = "/owner/repo/resolve/main/dir/model.gguf";
const LOCAL: &str = "owner--repo--dir--model.gguf";
const TOKEN: &str = "hf_TopSecret";

#[derive(Debug, Clone)]
struct Request {
    path: String,
    headers: HashMap<String, String>,
}

impl Request {
    fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }

    /// N of `Range: bytes=N-`; 0 without that header.
    fn offset(&self) -> usize {
        self.header("range").map_or(0, |range| {
            range.strip_prefix("bytes=").and_then(|range| range.strip_suffix('-')).unwrap().parse().unwrap()
        })
    }
}

/// An HTTP server whose replies are raw bytes, so that they can be wrong in any way.
struct Server {
    url: String,
    seen: Arc<Mutex<Vec<Request>>>,
}

impl Server {
    /// `answer` gets the request and the number of earlier ones.
    fn start(answer: impl Fn(&Request, usize) -> Vec<u8> + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let seen = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&seen);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let mut lines = BufReader::new(stream.try_clone().unwrap()).lines().map_while(Result::ok);
                let Some(first) = lines.next() else { continue };
                let headers = lines.take_while(|line| !line.is_empty()).map(|line| {
                    let (name, value) = line.split_once(": ").unwrap();
                    (name.to_lowercase(), value.to_owned())
                });
                let headers = headers.collect();
                let request = Request { path: first.split(' ').nth(1).unwrap().to_owned(), headers };
                let before = log.lock().unwrap().len();
                log.lock().unwrap().push(request.clone());
                // A client that closes the connection on a body it does not need is not an error.
                let _ = stream.write_all(&answer(&request, before));
            }
        });
        Server { url, seen }
    }

    fn seen(&self) -> Vec<Request> {
        self.seen.lock().unwrap().clone()
    }
}

fn response(status: &str, headers: &[(&str, &str)], body: &[u8]) -> Vec<u8> {
    let mut head = format!("HTTP/1.1 {status}\r\nConnection: close\r\n");
    if !headers.iter().any(|(name, _)| *name == "Transfer-Encoding") {
        head += &format!("Content-Length: {}\r\n", body.len());
    }
    for (name, value) in headers {
        head += &format!("{name}: {value}\r\n");
    }
    [head.as_bytes(), b"\r\n", body].concat()
}

/// `content` from the requested byte on.
fn ranged(request: &Request, content: &[u8], headers: &[(&str, &str)]) -> Vec<u8> {
    let (offset, size) = (request.offset(), content.len());
    if offset >= size {
        return response("416 Range Not Satisfiable", &[("Content-Range", &format!("bytes */{size}"))], b"");
    }
    if offset == 0 {
        return response("200 OK", headers, content);
    }
    let range = format!("bytes {offset}-{}/{size}", size - 1);
    response("206 Partial Content", &[headers, &[("Content-Range", range.as_str())]].concat(), &content[offset..])
}

/// Adds the hub's headers about `content`, whichever server sends it.
fn described(content: &[u8], mut answer: Vec<u8>) -> Vec<u8> {
    let headers = format!("\r\nX-Linked-Size: {}\r\nX-Linked-ETag: \"{}\"", content.len(), sha256(content));
    let at = answer.windows(2).position(|pair| pair == b"\r\n").unwrap();
    answer.splice(at..at, headers.into_bytes());
    answer
}

fn cut(mut answer: Vec<u8>, bytes: usize) -> Vec<u8> {
    answer.truncate(answer.len() - bytes);
    answer
}

fn sha256(content: &[u8]) -> String {
    Sha256::digest(content).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn content() -> Vec<u8> {
    (0..700_000u32).flat_map(|n| (n.wrapping_mul(2_654_435_761) >> 16).to_le_bytes()).collect()
}

#[derive(Default)]
struct Log {
    notes: Vec<String>,
    last: (u64, Option<u64>),
}

impl Observer for Log {
    fn progress(&mut self, done: u64, total: Option<u64>) {
        self.last = (done, total);
    }

    fn note(&mut self, text: &str) {
        self.notes.push(text.to_owned());
    }
}

fn hub(server: &Server) -> Hub {
    Hub { endpoint: server.url.clone(), token: None, backoff: Duration::from_micros(100) }
}

fn pull(hub: &Hub, directory: &Path, log: &mut Log) -> Result<PathBuf, String> {
    let file = HubFile::parse(FILE).unwrap();
    models::pull(hub, &file, directory, None, log).map_err(|error| error.to_string())
}

/// The path of an unfinished pull of `content`.
fn part(directory: &Path, content: &[u8]) -> PathBuf {
    directory.join(format!("{LOCAL}.{}.part", &sha256(content)[..12]))
}

fn names(directory: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(directory).unwrap();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

#[test]
fn the_hub_redirects_to_its_storage_and_the_token_stays_behind() {
    let content = content();
    let storage = Server::start({
        let content = content.clone();
        move |request, _| ranged(request, &content, &[])
    });
    let main = Server::start({
        let (content, storage) = (content.clone(), storage.url.clone());
        move |request, _| {
            // A renamed repository first redirects within the hub: there the token is needed.
            let to = if request.path == PATH { "/renamed".to_owned() } else { format!("{storage}/blob?signature=1") };
            described(&content, response("302 Found", &[("Location", &to)], b""))
        }
    });
    let directory = tempfile::tempdir().unwrap();
    let mut log = Log::default();
    let path = pull(&Hub { token: Some(TOKEN.to_owned()), ..hub(&main) }, directory.path(), &mut log).unwrap();

    assert_eq!(path, directory.path().join(LOCAL));
    assert_eq!(std::fs::read(path).unwrap(), content);
    assert_eq!(names(directory.path()), [LOCAL], "nothing else is left");
    assert_eq!(log.last, (content.len() as u64, Some(content.len() as u64)));
    let bearer = format!("Bearer {TOKEN}");
    assert!(main.seen().iter().all(|request| request.header("authorization") == Some(bearer.as_str())));
    assert_eq!(main.seen().iter().map(|request| request.path.clone()).collect::<Vec<_>>(), [PATH, "/renamed"]);
    assert_eq!(storage.seen().len(), 1);
    assert_eq!(storage.seen()[0].header("authorization"), None);
    assert!(!format!("{:?}", storage.seen()).contains(TOKEN));

    // A file that is here is not requested again.
    pull(&hub(&main), directory.path(), &mut log).unwrap();
    assert_eq!(main.seen().len(), 2);
}

#[test]
fn a_dropped_connection_is_resumed_where_it_broke() {
    let content = content();
    let server = Server::start({
        let content = content.clone();
        move |request, before| {
            let answer = described(&content, ranged(request, &content, &[]));
            if before < 2 { cut(answer, 1_000_000 * (2 - before)) } else { answer }
        }
    });
    let directory = tempfile::tempdir().unwrap();
    let mut log = Log::default();
    let path = pull(&hub(&server), directory.path(), &mut log).unwrap();
    assert_eq!(std::fs::read(path).unwrap(), content);
    let offsets: Vec<_> = server.seen().iter().map(Request::offset).collect();
    assert_eq!(offsets, [0, 800_000, 1_800_000]);
    assert!(log.notes.iter().all(|note| note.contains("trying again")), "{:?}", log.notes);
}

#[test]
fn a_later_pull_goes_on_from_what_an_earlier_one_left() {
    let content = content();
    let broken = Server::start({
        let content = content.clone();
        move |request, before| match before {
            0 => cut(described(&content, ranged(request, &content, &[])), 1_000_000),
            _ => response("418 I'm a teapot", &[], b""),
        }
    });
    let sound = Server::start({
        let content = content.clone();
        move |request, _| described(&content, ranged(request, &content, &[]))
    });
    // Interrupted halfway, or after the last byte and before the rename.
    for missing in [1_000_000, 0] {
        let directory = tempfile::tempdir().unwrap();
        if missing > 0 {
            let error = pull(&hub(&broken), directory.path(), &mut Log::default()).unwrap_err();
            assert!(error.contains("answers 418"), "{error}");
        } else {
            std::fs::write(part(directory.path(), &content), &content).unwrap();
        }
        let asked = sound.seen().len();
        let path = pull(&hub(&sound), directory.path(), &mut Log::default()).unwrap();
        assert_eq!(std::fs::read(path).unwrap(), content);
        assert_eq!(names(directory.path()), [LOCAL]);
        let offsets: Vec<_> = sound.seen()[asked..].iter().map(Request::offset).collect();
        assert_eq!(offsets, if missing > 0 { vec![0, content.len() - missing] } else { vec![0] });
    }
}

#[test]
fn a_file_that_changed_on_the_hub_starts_anew() {
    let (old, new) = (vec![1; 500_000], content());
    let server = Server::start({
        let (old, new) = (old.clone(), new.clone());
        move |request, before| match before {
            0 => cut(described(&old, ranged(request, &old, &[])), 100_000),
            _ => described(&new, ranged(request, &new, &[])),
        }
    });
    let directory = tempfile::tempdir().unwrap();
    // A part of an even older content, from an earlier run.
    std::fs::write(part(directory.path(), b"older"), b"old").unwrap();
    let mut log = Log::default();
    let path = pull(&hub(&server), directory.path(), &mut log).unwrap();
    assert_eq!(std::fs::read(path).unwrap(), new);
    assert_eq!(names(directory.path()), [LOCAL]);
    assert!(log.notes.iter().any(|note| note.contains("has changed on the hub")), "{:?}", log.notes);
}

#[test]
fn a_server_without_ranges_starts_from_zero_and_says_so() {
    let content = content();
    let server = Server::start({
        let content = content.clone();
        move |_, before| {
            let answer = described(&content, response("200 OK", &[], &content));
            if before == 0 { cut(answer, 1_000_000) } else { answer }
        }
    });
    let directory = tempfile::tempdir().unwrap();
    let mut log = Log::default();
    let path = pull(&hub(&server), directory.path(), &mut log).unwrap();
    assert_eq!(std::fs::read(path).unwrap(), content);
    assert!(log.notes.iter().any(|note| note.contains("cannot resume")), "{:?}", log.notes);
}

#[test]
fn a_wrong_checksum_removes_the_file() {
    let server =
        Server::start(|request, _| described(b"what the hub means", ranged(request, b"what the wire gave", &[])));
    let directory = tempfile::tempdir().unwrap();
    let error = pull(&hub(&server), directory.path(), &mut Log::default()).unwrap_err();
    assert!(
        error.contains(&sha256(b"what the hub means")) && error.contains(&sha256(b"what the wire gave")),
        "{error}"
    );
    assert!(names(directory.path()).is_empty());
}

#[test]
fn a_file_without_a_checksum_is_refused_unless_one_is_given() {
    let server = Server::start(|request, _| ranged(request, b"GGUF", &[("ETag", "\"abc\"")]));
    let directory = tempfile::tempdir().unwrap();
    let error = pull(&hub(&server), directory.path(), &mut Log::default()).unwrap_err();
    assert!(error.contains("--sha256"), "{error}");
    let pull = |sha256: &str| {
        let file = HubFile::parse(FILE).unwrap();
        models::pull(&hub(&server), &file, directory.path(), Some(sha256), &mut Log::default())
    };
    assert!(pull("abc").is_err());
    assert!(pull(&sha256(b"other")).is_err());
    assert!(pull(&sha256(b"GGUF").to_uppercase()).is_ok());
}

#[test]
fn refusals_are_explained_and_never_show_the_token() {
    let cases: [(&str, &str, &[&str]); 5] = [
        ("401 Unauthorized", "GatedRepo", &["owner/repo is gated", "licence", "HF_TOKEN"]),
        ("403 Forbidden", "", &["owner/repo is gated", "licence", "HF_TOKEN"]),
        ("401 Unauthorized", "RepoNotFound", &["no repository owner/repo", "private"]),
        ("404 Not Found", "RevisionNotFound", &["owner/repo has no revision `main`"]),
        ("404 Not Found", "EntryNotFound", &["no dir/model.gguf of owner/repo"]),
    ];
    for (status, code, expected) in cases {
        let server = Server::start(move |_, _| response(status, &[("X-Error-Code", code)], b""));
        for token in [None, Some(TOKEN.to_owned())] {
            let directory = tempfile::tempdir().unwrap();
            let error = pull(&Hub { token, ..hub(&server) }, directory.path(), &mut Log::default()).unwrap_err();
            assert!(expected.iter().all(|text| error.contains(text)), "{error}");
            assert!(!error.contains(TOKEN), "{error}");
        }
        assert_eq!(server.seen().len(), 2, "asking again would not help");
    }
    // The token is not shown even if the token itself is malformed.
    let server = Server::start(|_, _| response("200 OK", &[], b""));
    let broken = Hub { token: Some(format!("{TOKEN}\n")), ..hub(&server) };
    let error = pull(&broken, tempfile::tempdir().unwrap().path(), &mut Log::default()).unwrap_err();
    assert!(error.contains("HF_TOKEN") && !error.contains(TOKEN), "{error}");
}

#[test]
fn a_busy_server_is_asked_again_but_not_for_ever() {
    let content = content();
    let server = Server::start({
        let content = content.clone();
        move |request, before| match before {
            0 => response("503 Service Unavailable", &[], b""),
            1 => response("429 Too Many Requests", &[("Retry-After", "1")], b""),
            _ => described(&content, ranged(request, &content, &[])),
        }
    });
    let directory = tempfile::tempdir().unwrap();
    let (began, mut log) = (Instant::now(), Log::default());
    assert_eq!(std::fs::read(pull(&hub(&server), directory.path(), &mut log).unwrap()).unwrap(), content);
    assert!(log.notes[0].contains("answers 503"), "{:?}", log.notes);
    assert!(log.notes[1].contains("answers 429; trying again in 1 s"), "{:?}", log.notes);
    assert!(began.elapsed() >= Duration::from_secs(1), "the server asked for a second");

    let server = Server::start(|_, _| response("500 Internal Server Error", &[], b""));
    let error = pull(&hub(&server), tempfile::tempdir().unwrap().path(), &mut Log::default()).unwrap_err();
    assert!(error.contains("answers 500") && error.contains("run the same command again"), "{error}");
    assert!((3..10).contains(&server.seen().len()));
}

#[test]
fn a_file_larger_than_the_disk_is_refused_before_it_is_loaded() {
    let server = Server::start(|_, _| {
        let headers = [("X-Linked-Size", "4611686018427387904"), ("X-Linked-ETag", &sha256(b"huge"))];
        response("200 OK", &headers, b"begin")
    });
    let error = pull(&hub(&server), tempfile::tempdir().unwrap().path(), &mut Log::default()).unwrap_err();
    assert!(error.contains("4.00 EiB") && error.contains("iB are free"), "{error}");
}

/// A disk of 64 KiB, unmounted when dropped.
#[cfg(target_os = "linux")]
struct SmallDisk(tempfile::TempDir);

#[cfg(target_os = "linux")]
impl SmallDisk {
    fn mount() -> Option<Self> {
        let directory = tempfile::tempdir().unwrap();
        let mount =
            Command::new("mount").args(["-t", "tmpfs", "-o", "size=64k", "tmpfs"]).arg(directory.path()).output();
        mount.is_ok_and(|output| output.status.success()).then_some(SmallDisk(directory))
    }
}

#[cfg(target_os = "linux")]
impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.0.path()).output();
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_disk_that_fills_up_keeps_what_it_holds() {
    let Some(disk) = SmallDisk::mount() else {
        // Written past the test harness, which would hide it.
        let _ = writeln!(std::io::stderr(), "skipped: mounting a small disk takes root");
        return;
    };
    let content = content();
    let server = Server::start({
        let content = content.clone();
        move |_, _| {
            // The size is not stated, so it cannot be checked first.
            let headers = [("Transfer-Encoding", "chunked"), ("X-Linked-ETag", &sha256(&content))];
            let chunk = [format!("{:x}\r\n", content.len()).as_bytes(), &content, b"\r\n0\r\n\r\n"].concat();
            response("200 OK", &headers, &chunk)
        }
    });
    let error = pull(&hub(&server), disk.0.path(), &mut Log::default()).unwrap_err();
    assert!(error.contains("the disk is full") && error.contains("run the same command again"), "{error}");
    let kept = std::fs::read(part(disk.0.path(), &content)).unwrap();
    assert!(!kept.is_empty() && content.starts_with(&kept));
}

#[test]
fn a_second_pull_of_the_same_file_is_refused() {
    let content = content();
    let (go, wait) = channel();
    let server = Server::start({
        let content = content.clone();
        move |request, before| match before {
            // The first pull gets half of it; the rest follows after the second pull was refused.
            0 => cut(described(&content, ranged(request, &content, &[])), 1_000_000),
            1 => {
                wait.recv().unwrap();
                described(&content, ranged(request, &content, &[]))
            }
            _ => unreachable!(),
        }
    });
    let other = Server::start({
        let content = content.clone();
        move |request, _| described(&content, ranged(request, &content, &[]))
    });
    let directory = tempfile::tempdir().unwrap();
    let path = std::thread::scope(|scope| {
        let first = scope.spawn(|| pull(&hub(&server), directory.path(), &mut Log::default()));
        while server.seen().len() < 2 {
            std::thread::sleep(Duration::from_millis(1));
        }
        let error = pull(&hub(&other), directory.path(), &mut Log::default()).unwrap_err();
        assert!(error.contains("another process is writing to"), "{error}");
        go.send(()).unwrap();
        first.join().unwrap().unwrap()
    });
    assert_eq!(std::fs::read(path).unwrap(), content);
}

#[test]
fn the_command_reads_the_environment_and_prints_the_path() {
    let server = Server::start(|request, _| match request.path.as_str() {
        PATH => described(b"GGUF", ranged(request, b"GGUF", &[])),
        _ => response("401 Unauthorized", &[], b""),
    });
    let directory = tempfile::tempdir().unwrap();
    let run = |name: &str| {
        Command::new(env!("CARGO_BIN_EXE_kvllama"))
            .args(["pull", name])
            .env("HF_ENDPOINT", format!("{}/", server.url))
            .env("HF_TOKEN", format!(" {TOKEN}\n"))
            .env("KVLLAMA_MODELS", directory.path())
            .env("RUST_LOG", "trace")
            .output()
            .unwrap()
    };
    let done = run(FILE);
    assert!(done.status.success(), "{done:?}");
    assert_eq!(String::from_utf8(done.stdout).unwrap(), format!("{}\n", directory.path().join(LOCAL).display()));
    assert_eq!(server.seen()[0].header("authorization"), Some(format!("Bearer {TOKEN}").as_str()));

    let refused = run("owner/gated:model.gguf");
    assert_eq!(refused.status.code(), Some(2), "{refused:?}");
    let climbing = run("owner/repo:../../model.gguf");
    assert_eq!(climbing.status.code(), Some(2), "{climbing:?}");
    for output in [done.stderr, refused.stderr] {
        let output = String::from_utf8_lossy(&output).into_owned();
        assert!(!output.contains(TOKEN));
        // The start of a request in hexadecimal: a dump of it would contain the token.
        assert!(!output.contains("4745 5420"), "{output}");
    }
    assert_eq!(names(directory.path()), [LOCAL]);
}
