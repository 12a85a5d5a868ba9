//! The page on loopback.

use std::collections::HashSet;
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use base64::Engine as _;
use sha2::{Digest as _, Sha256};
use tiny_http::{Header, Request, Response};

use super::Watched;
use super::watched::{State, experiment};
use crate::report::{self, Run, analyze, html};
use crate::{Error, Result, interrupt};

const PAGE: &str = include_str!("page.html");
const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");

/// How often the files are looked at.
const PERIOD: Duration = Duration::from_millis(500);

/// How long the page stays after the end of the run, so that an open browser gets the last rows.
const FAREWELL: Duration = Duration::from_secs(4);

/// A server that nobody but this machine can reach.
pub struct Server {
    http: tiny_http::Server,
    port: u16,
}

impl Server {
    /// Listens on `127.0.0.1`; port 0 takes a free one.
    ///
    /// # Errors
    /// If the port is taken.
    pub fn new(port: u16) -> Result<Self> {
        let http = tiny_http::Server::http((Ipv4Addr::LOCALHOST, port)).map_err(|error| {
            Error::input(format!("cannot listen on 127.0.0.1:{port}: {error}; choose another --port, or leave it out"))
        })?;
        let port = http.server_addr().to_ip().map_or(port, |address| address.port());
        Ok(Server { http, port })
    }

    /// The page's address.
    pub fn address(&self) -> String {
        format!("http://127.0.0.1:{}/", self.port)
    }

    /// Whether a request was meant for this server: a page from elsewhere may have a name that leads here.
    fn is_ours(&self, request: &Request) -> bool {
        let host = request.headers().iter().find(|header| header.field.equiv("Host"));
        let ours = [format!("127.0.0.1:{}", self.port), format!("localhost:{}", self.port)];
        host.is_some_and(|host| ours.iter().any(|ours| host.value.as_str() == ours))
    }
}

/// Shows the watched run until it ends, or until [`interrupt::requested`]; `changed` is called when rows have landed.
///
/// # Errors
/// If a file of the run cannot be read.
pub fn serve(server: &Server, watched: &mut Watched, mut changed: impl FnMut(&Watched)) -> Result<State> {
    let mut report = Report::default();
    let mut looked: Option<Instant> = None;
    let mut ended: Option<Instant> = None;
    loop {
        if looked.is_none_or(|at| at.elapsed() >= PERIOD) {
            if watched.look()? {
                changed(watched);
            }
            looked = Some(Instant::now());
            if watched.state() == State::Done {
                ended = ended.or(Some(Instant::now()));
            }
        }
        if interrupt::requested() || ended.is_some_and(|at| at.elapsed() > FAREWELL) {
            return Ok(watched.state());
        }
        let request = server
            .http
            .recv_timeout(PERIOD / 2)
            .map_err(|source| Error::Io { what: "cannot receive a request on 127.0.0.1".to_owned(), source })?;
        if let Some(request) = request {
            let response = answer(server, &request, watched, &mut report);
            // A browser that was closed meanwhile does not matter.
            let _ = request.respond(response);
        }
    }
}

type Answer = Response<std::io::Cursor<Vec<u8>>>;

fn answer(server: &Server, request: &Request, watched: &Watched, report: &mut Report) -> Answer {
    if !server.is_ours(request) {
        return text("This page is for this machine only.\n", 403);
    }
    let (path, query) = request.url().split_once('?').unwrap_or((request.url(), ""));
    match path {
        "/" => page(),
        "/sums" if query == format!("after={}", watched.version()) => text("", 204),
        "/sums" => {
            let json = serde_json::to_vec(&watched.sums()).expect("plain data");
            typed(json, "application/json")
        }
        "/report" => match report.of(watched) {
            Ok(page) => typed(page, "text/html; charset=utf-8"),
            Err(error) => text(&format!("{error}\n"), 503),
        },
        _ => text("There is nothing here.\n", 404),
    }
}

/// The report as it was made last.
#[derive(Default)]
struct Report {
    made: Option<(u64, Vec<u8>)>,
}

impl Report {
    /// The report of now; it is made anew only if something has changed since.
    fn of(&mut self, watched: &Watched) -> Result<Vec<u8>> {
        if let Some((version, page)) = &self.made
            && *version == watched.version()
        {
            return Ok(page.clone());
        }
        let directories = watched.directories();
        if directories.is_empty() {
            return Err(Error::failed("no trial is finished yet"));
        }
        let runs = united(report::load(&directories)?);
        let analysis = analyze(&runs, 0.95, 1);
        let page = html::page(&runs, &analysis)?.into_bytes();
        self.made = Some((watched.version(), page.clone()));
        Ok(page)
    }
}

/// The shards of a run as one run.
fn united(runs: Vec<Run>) -> Vec<Run> {
    let mut all: Vec<Run> = Vec::new();
    for run in runs {
        match all.iter_mut().find(|whole| experiment(&whole.manifest) == experiment(&run.manifest)) {
            None => all.push(run),
            Some(whole) => {
                whole.manifest.sessions.extend(run.manifest.sessions);
                whole.trials.extend(run.trials);
                whole.instructions.extend(run.instructions);
                let known: HashSet<String> = whole.prompts.iter().flatten().map(|row| row.example_id.clone()).collect();
                let new = run.prompts.into_iter().flatten().filter(|row| !known.contains(&row.example_id));
                whole.prompts.get_or_insert_default().extend(new);
            }
        }
    }
    all
}

fn page() -> Answer {
    let hash = |text: &str| base64::engine::general_purpose::STANDARD.encode(Sha256::digest(text));
    let page = PAGE
        .replace("{{style_hash}}", &hash(STYLE))
        .replace("{{script_hash}}", &hash(SCRIPT))
        .replace("{{style}}", STYLE)
        .replace("{{script}}", SCRIPT);
    typed(page.into_bytes(), "text/html; charset=utf-8")
}

fn text(text: &str, status: u16) -> Answer {
    typed(text.as_bytes().to_vec(), "text/plain; charset=utf-8").with_status_code(status)
}

fn typed(bytes: Vec<u8>, kind: &str) -> Answer {
    let header = |name: &str, value: &str| Header::from_bytes(name, value).expect("plain text");
    Response::from_data(bytes)
        .with_header(header("Content-Type", kind))
        .with_header(header("Cache-Control", "no-store"))
        .with_header(header("X-Content-Type-Options", "nosniff"))
}
