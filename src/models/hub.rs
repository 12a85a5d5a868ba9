//! The Hugging Face hub over HTTP: the bytes of one file from any position on, and the hub's metadata of it.

use std::fmt;
use std::time::Duration;

use ureq::http::{HeaderMap, Uri, header};
use ureq::{Agent, BodyReader};

use super::registry::HubFile;
use crate::api::retry_after;
use crate::{Error, Result};

/// The hub's address, the access token and the retries.
#[derive(Clone)]
pub struct Hub {
    /// Address of the hub or of a mirror.
    pub endpoint: String,
    /// Access token for gated files. It is sent only to the endpoint's own host, and appears in no message.
    pub token: Option<String>,
    /// The pause after a first failure; it doubles with every further one.
    pub backoff: Duration,
}

impl Default for Hub {
    fn default() -> Self {
        Hub { endpoint: "https://huggingface.co".to_owned(), token: None, backoff: Duration::from_secs(1) }
    }
}

impl fmt::Debug for Hub {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let token = self.token.as_ref().map(|_| "(secret)");
        f.debug_struct("Hub")
            .field("endpoint", &self.endpoint)
            .field("token", &token)
            .field("backoff", &self.backoff)
            .finish()
    }
}

/// Why a request did not give the file.
pub(super) enum Trouble {
    /// It may succeed later: ask again.
    Transient {
        reason: String,
        /// The pause that the server asks for.
        retry_after: Option<Duration>,
    },
    /// A repeated request would not help.
    Fatal(Error),
}

impl Trouble {
    pub fn transient(reason: String) -> Self {
        Trouble::Transient { reason, retry_after: None }
    }
}

impl From<Error> for Trouble {
    fn from(error: Error) -> Self {
        Trouble::Fatal(error)
    }
}

/// The hub's reply with a file.
pub(super) struct Answer {
    /// SHA-256 in lower-case hexadecimal, if the hub states it.
    pub sha256: Option<String>,
    pub size: Option<u64>,
    /// Position of the first byte of `body`: 0 from a server without ranges.
    pub start: u64,
    /// `None`: the file has no bytes from the requested position on.
    pub body: Option<BodyReader<'static>>,
    /// The host that sent the bytes.
    pub host: String,
}

/// A client of one hub.
pub(super) struct Client<'a> {
    hub: &'a Hub,
    endpoint: Uri,
    agent: Agent,
}

const MAX_REDIRECTS: usize = 10;

impl<'a> Client<'a> {
    pub fn new(hub: &'a Hub) -> Result<Self> {
        let endpoint = hub.endpoint.parse().ok().filter(|uri: &Uri| {
            matches!(uri.scheme_str(), Some("http" | "https")) && uri.authority().is_some() && uri.query().is_none()
        });
        let endpoint = endpoint.ok_or_else(|| {
            Error::input(format!("the hub's address `{}` is not one like https://huggingface.co", hub.endpoint))
        })?;
        let agent = Agent::config_builder()
            // This code handles statuses and redirects itself: the hub's headers are on its redirect, and the token
            // must not follow the redirect to another host.
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            // The checksum and the range refer to the uncompressed bytes.
            .accept_encoding("identity")
            .user_agent(concat!("kvllama/", env!("CARGO_PKG_VERSION")))
            .timeout_resolve(Some(Duration::from_secs(30)))
            .timeout_connect(Some(Duration::from_secs(30)))
            .timeout_recv_response(Some(Duration::from_secs(60)))
            .timeout_per_read(Some(Duration::from_secs(60)))
            .build()
            .new_agent();
        Ok(Client { hub, endpoint, agent })
    }

    /// Requests `file` from byte `offset` on.
    pub fn open(&self, file: &HubFile, offset: u64) -> std::result::Result<Answer, Trouble> {
        let path = format!("{}/resolve/{}/{}", file.repo, file.revision, file.file);
        let mut url: Uri =
            self.page(&path).parse().expect("the endpoint is a URI, and a file's parts need no escaping");
        let mut sha256 = None;
        let mut size = None;
        for _ in 0..=MAX_REDIRECTS {
            let ours = same_origin(&url, &self.endpoint);
            let host = url.host().unwrap_or_default().to_owned();
            let response = self.get(&url, ours, offset)?;
            let headers = response.headers();
            if ours {
                sha256 = linked_sha256(headers).or(sha256);
                size = number(headers, "x-linked-size").or(size);
            }
            match response.status().as_u16() {
                301 | 302 | 303 | 307 | 308 => {
                    let next = headers.get(header::LOCATION).and_then(|location| location.to_str().ok());
                    url = next.and_then(|location| redirect(&url, location)).ok_or_else(|| {
                        Error::failed(format!("{host} redirects {file} to an address that cannot be followed"))
                    })?;
                }
                200 => {
                    let size = size.or_else(|| number(headers, "content-length"));
                    let body = Some(response.into_body().into_reader());
                    return Ok(Answer { sha256, size, start: 0, body, host });
                }
                status @ (206 | 416) => {
                    let (start, total) = content_range(headers);
                    let size = size.or(total);
                    let start = start.unwrap_or(offset);
                    let body = (status == 206).then(|| response.into_body().into_reader());
                    return Ok(Answer { sha256, size, start, body, host });
                }
                status @ (408 | 429 | 500..=599) => {
                    let retry_after = retry_after(headers);
                    return Err(Trouble::Transient { reason: format!("{host} answers {status}"), retry_after });
                }
                // A link to the storage behind the hub expires; the hub gives a new one.
                status @ (401 | 403 | 404) if !ours => {
                    return Err(Trouble::transient(format!("{host} answers {status}")));
                }
                status @ (401 | 403 | 404) => return Err(self.refusal(file, status, headers).into()),
                status => return Err(Error::failed(format!("{host} answers {status} for {file}")).into()),
            }
        }
        Err(Error::failed(format!("{} redirects {file} in a circle", self.hub.endpoint)).into())
    }

    fn get(
        &self,
        url: &Uri,
        ours: bool,
        offset: u64,
    ) -> std::result::Result<ureq::http::Response<ureq::Body>, Trouble> {
        let mut request = self.agent.get(url);
        if let Some(token) = self.hub.token.as_ref().filter(|_| ours) {
            request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
        }
        if offset > 0 {
            request = request.header(header::RANGE, format!("bytes={offset}-"));
        }
        let host = url.host().unwrap_or_default();
        request.call().map_err(|error| match error {
            // These errors may quote what was sent, so they are not printed.
            ureq::Error::Http(_) | ureq::Error::BadUri(_) => {
                Error::input(format!("cannot ask {host}: HF_TOKEN or HF_ENDPOINT holds a character that HTTP forbids"))
                    .into()
            }
            ureq::Error::Rustls(_) | ureq::Error::Tls(_) | ureq::Error::TlsRequired | ureq::Error::InvalidProxyUrl => {
                Error::failed(format!("cannot connect to {host}: {error}")).into()
            }
            error => Trouble::transient(format!("cannot reach {host}: {error}")),
        })
    }

    /// The meaning of a refusal by the hub itself.
    fn refusal(&self, file: &HubFile, status: u16, headers: &HeaderMap) -> Error {
        let repo = &file.repo;
        let page = self.page(repo);
        let code = headers.get("x-error-code").and_then(|code| code.to_str().ok()).unwrap_or_default();
        Error::input(match (code, status) {
            // The hub also answers 401 for what does not exist, so that strangers cannot tell what is private.
            ("RepoNotFound", _) => {
                format!("there is no repository {repo} on {}, or it is private and needs HF_TOKEN", self.hub.endpoint)
            }
            ("RevisionNotFound", _) => format!("{repo} has no revision `{}`; see {page}", file.revision),
            (_, 404) => format!("there is no {file}; see {page} for what there is"),
            _ if self.hub.token.is_some() => format!(
                "{repo} is gated, and the hub refuses the token in HF_TOKEN: accept the licence at {page} with the \
                 account of that token, and check that the token is valid and may read gated repositories"
            ),
            _ => format!(
                "{repo} is gated: accept its licence at {page}, then set HF_TOKEN to an access token of that account \
                 (from {}) and run the same command again",
                self.page("settings/tokens")
            ),
        })
    }

    /// The address of something on the hub.
    fn page(&self, path: &str) -> String {
        format!("{}/{path}", self.hub.endpoint.trim_end_matches('/'))
    }
}

/// Same scheme, host and port: only there may the token go, and only its checksum counts.
fn same_origin(a: &Uri, b: &Uri) -> bool {
    let port = |uri: &Uri| uri.port_u16().unwrap_or(if uri.scheme_str() == Some("https") { 443 } else { 80 });
    let host = |uri: &Uri| uri.host().map(str::to_ascii_lowercase);
    a.scheme() == b.scheme() && host(a) == host(b) && port(a) == port(b)
}

/// The target of a `Location` header; `None` if it leads from an encrypted connection to an unencrypted one.
fn redirect(from: &Uri, location: &str) -> Option<Uri> {
    let scheme = from.scheme_str()?;
    let absolute = match location {
        _ if location.starts_with("//") => format!("{scheme}:{location}"),
        _ if location.starts_with('/') => format!("{scheme}://{}{location}", from.authority()?),
        _ => location.to_owned(),
    };
    let to: Uri = absolute.parse().ok()?;
    (to.scheme_str() == Some("https") || (to.scheme_str() == Some("http") && scheme == "http")).then_some(to)
}

/// The hub gives the checksum of a large file as the entity tag of its link.
fn linked_sha256(headers: &HeaderMap) -> Option<String> {
    ["x-linked-etag", "etag"].iter().find_map(|name| {
        let tag = headers.get(*name)?.to_str().ok()?;
        let tag = tag.trim_start_matches("W/").trim_matches('"');
        is_sha256(tag).then(|| tag.to_ascii_lowercase())
    })
}

/// Whether `text` is a SHA-256 in hexadecimal.
pub(super) fn is_sha256(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

fn number(headers: &HeaderMap, name: &str) -> Option<u64> {
    headers.get(name)?.to_str().ok()?.trim().parse().ok()
}

/// First byte and total size from `bytes 5-9/10` or `bytes */10`, as far as given.
fn content_range(headers: &HeaderMap) -> (Option<u64>, Option<u64>) {
    let text = headers.get(header::CONTENT_RANGE).and_then(|range| range.to_str().ok()).unwrap_or_default();
    let (range, total) = text.trim_start_matches("bytes ").split_once('/').unwrap_or_default();
    (range.split_once('-').and_then(|(start, _)| start.parse().ok()), total.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn uri(text: &str) -> Uri {
        text.parse().unwrap()
    }

    #[test]
    fn the_token_stays_with_its_origin() {
        let hub = uri("https://hub.co");
        for same in ["https://hub.co/x", "https://HUB.co:443/x"] {
            assert!(same_origin(&hub, &uri(same)), "{same}");
        }
        for other in ["http://hub.co/x", "https://cdn.hub.co/x", "https://hub.co.evil/x", "https://hub.co:444/x"] {
            assert!(!same_origin(&hub, &uri(other)), "{other}");
        }
    }

    #[test]
    fn redirects_are_resolved_and_never_lose_encryption() {
        let from = uri("https://hub.co/a/b");
        let to = |location| redirect(&from, location).map(|uri| uri.to_string());
        assert_eq!(to("/c?d=1").as_deref(), Some("https://hub.co/c?d=1"));
        assert_eq!(to("//cdn.co/c").as_deref(), Some("https://cdn.co/c"));
        assert_eq!(to("https://cdn.co/c").as_deref(), Some("https://cdn.co/c"));
        for refused in ["http://cdn.co/c", "ftp://cdn.co/c", "c", ""] {
            assert_eq!(to(refused), None, "{refused}");
        }
    }

    #[test]
    fn the_token_is_not_shown_in_debug_output() {
        let hub = Hub { token: Some("hf_secret".to_owned()), ..Hub::default() };
        assert!(!format!("{hub:?}").contains("hf_secret"));
    }
}
