//! Finds an endpoint that answers, before one overall deadline. The endpoint that answered last is asked first; one
//! that refuses is passed over at once; one that is silent costs a short patience, after which the next is asked too
//! and the first usable answer counts. Every request is safe to be delivered twice (see `settle`).

use super::wire::{EtcdError, answered_at};
use awc::error::{ConnectError, SendRequestError};
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use pgherd_clock::left_until;
use pgherd_types::{Instant, PRODUCT_VERSION, Refused};
use std::cell::Cell;
use std::io::ErrorKind;
use std::time::Duration;

const BODY_LIMIT_BYTES: usize = 64 << 20;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// Bounds of the patience with a silent endpoint before the next one is asked too.
const PATIENCE: (Duration, Duration) = (Duration::from_millis(150), Duration::from_millis(500));

/// Why a call brought no result.
#[derive(Debug)]
pub(super) enum Failure {
    /// Nobody answered.
    NoAnswer {
        /// What was tried.
        why: String,
        /// Some endpoint may have received the request and may carry it out.
        maybe_done: bool,
    },
    /// etcd refuses.
    Explicit(EtcdError),
}

impl Failure {
    fn unsure(why: impl Into<String>) -> Self {
        Self::NoAnswer { why: why.into(), maybe_done: true }
    }
    fn unsent(why: impl Into<String>) -> Self {
        Self::NoAnswer { why: why.into(), maybe_done: false }
    }
    /// As the final word on a request.
    pub fn refused(self) -> Refused {
        match self {
            Self::NoAnswer { why, .. } => Refused::Unreachable(why),
            Self::Explicit(e) if e.lease_gone() => Refused::LeaseGone,
            Self::Explicit(e) => Refused::Denied(e.message),
        }
    }
}

/// A usable answer.
pub(super) struct Reply {
    pub body: Vec<u8>,
    /// Another copy of the request went out before this answer's.
    pub maybe_done_before: bool,
}

pub(super) struct Client {
    urls: Vec<String>,
    current: Cell<usize>,
    http: awc::Client,
    streams: awc::Client,
    api: Cell<&'static str>,
    revision: Cell<i64>,
}

/// Where a member of etcd listens for clients.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Endpoint(String);

impl std::fmt::Display for Endpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// `http://host:port`; `host:port` and `host` mean the same, with 2379 as the default port.
impl std::str::FromStr for Endpoint {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let url = if text.contains("://") { text.to_owned() } else { format!("http://{text}") };
        let uri: awc::http::Uri = url.parse().map_err(|_| format!("etcd endpoint {text:?} is not a URL"))?;
        if uri.authority().is_some_and(|a| a.as_str().contains('@')) {
            return Err("an etcd endpoint carries user and password in its URL; that is not supported".into());
        }
        let host = uri.host().filter(|h| !h.is_empty()).ok_or(format!("etcd endpoint {text:?} names no host"))?;
        match uri.scheme_str() {
            Some("http") => Ok(Self(format!("http://{host}:{}", uri.port_u16().unwrap_or(2379)))),
            _ => Err(format!("etcd endpoint {text:?} is not http://; TLS to etcd is not supported yet")),
        }
    }
}

impl Client {
    pub fn new(endpoints: &[Endpoint]) -> Self {
        let base = || {
            awc::Client::builder()
                .disable_timeout()
                .disable_redirects()
                .add_default_header(("User-Agent", format!("pgherd/{PRODUCT_VERSION}")))
                .add_default_header(("Content-Type", "application/json"))
        };
        // No limit on connections: a renewal must not wait for those that a silent endpoint holds. The callers'
        // deadlines bound their number. Streams get their own pool.
        let connector = || awc::Connector::new().timeout(CONNECT_TIMEOUT).limit(0);
        Self {
            urls: endpoints.iter().map(Endpoint::to_string).collect(),
            current: Cell::new(0),
            http: base().connector(connector()).finish(),
            streams: base().connector(connector()).finish(),
            api: Cell::new("/v3"),
            revision: Cell::new(0),
        }
    }

    pub fn revision_seen(&self) -> i64 {
        self.revision.get()
    }
    /// The endpoints' numbers in the order in which to ask them.
    pub fn order(&self) -> impl Iterator<Item = usize> + use<> {
        let (first, n) = (self.current.get(), self.urls.len());
        (0..n).map(move |k| (first + k) % n)
    }
    pub fn prefer(&self, endpoint: usize) {
        self.current.set(endpoint);
    }
    pub fn url(&self, endpoint: usize) -> &str {
        &self.urls[endpoint]
    }
    /// A request whose answer is a stream, on a connection of its own.
    pub fn stream_request(&self, endpoint: usize, path: &str) -> awc::ClientRequest {
        self.streams.post(self.full_url(endpoint, path)).force_close()
    }
    fn full_url(&self, endpoint: usize, path: &str) -> String {
        format!("{}{}{path}", self.urls[endpoint], self.api.get())
    }

    /// One round: every endpoint is asked at most once (a lone one twice, on two connections).
    pub async fn call(&self, path: &str, body: &str, deadline: Instant) -> Result<Reply, Failure> {
        let budget = left_until(deadline);
        if self.urls.is_empty() {
            return Err(Failure::unsent("no etcd endpoint is configured; set etcd3.hosts"));
        }
        if budget.is_zero() {
            return Err(Failure::unsent(format!("no time was left for {path}")));
        }
        match tokio::time::timeout(budget, self.round(path, body, budget)).await {
            Ok(result) => result,
            Err(_) => {
                Err(Failure::unsure(format!("no answer to {path} within {budget:?} from {}", self.urls.join(", "))))
            }
        }
    }

    async fn round(&self, path: &str, body: &str, budget: Duration) -> Result<Reply, Failure> {
        let mut to_ask: Vec<usize> = self.order().collect();
        if to_ask.len() == 1 {
            to_ask.push(to_ask[0]);
        }
        let share = budget / u32::try_from(to_ask.len().max(1)).unwrap_or(u32::MAX);
        let patience = share.clamp(PATIENCE.0, PATIENCE.1);
        let mut to_ask = to_ask.into_iter();
        let mut asked = FuturesUnordered::new();
        let (mut copies, mut maybe_done, mut whys) = (0, false, Vec::new());
        loop {
            if let Some(endpoint) = to_ask.next() {
                asked.push(async move { (endpoint, self.attempt(endpoint, path, body).await) });
                copies += 1;
            }
            let answer = tokio::select! {
                answer = asked.next() => answer,
                () = tokio::time::sleep(patience), if to_ask.len() > 0 => continue,
            };
            match answer {
                Some((endpoint, Ok(body))) => {
                    self.prefer(endpoint);
                    return Ok(Reply { body, maybe_done_before: maybe_done || copies > whys.len() + 1 });
                }
                Some((_, Err(Failure::NoAnswer { why, maybe_done: maybe }))) => {
                    whys.push(why);
                    maybe_done |= maybe;
                }
                Some((_, Err(explicit))) => return Err(explicit),
                None => {
                    whys.dedup();
                    return Err(Failure::NoAnswer { why: whys.join("; "), maybe_done });
                }
            }
        }
    }

    async fn attempt(&self, endpoint: usize, path: &str, body: &str) -> Result<Vec<u8>, Failure> {
        if let Some(answer) = self.post(endpoint, path, body).await? {
            return Ok(answer);
        }
        self.find_api(endpoint).await?;
        let answer = self.post(endpoint, path, body).await?;
        answer.ok_or_else(|| Failure::unsent(format!("{}: no etcd API answers there", self.urls[endpoint])))
    }

    /// `None`: there is no such path, and so nothing was done.
    async fn post(&self, endpoint: usize, path: &str, body: &str) -> Result<Option<Vec<u8>>, Failure> {
        let url = self.full_url(endpoint, path);
        let sent = self.http.post(&url).send_body(body.to_owned()).await;
        let mut response = sent.map_err(|e| send_failure(&url, &e))?;
        let status = response.status();
        let body = response.body().limit(BODY_LIMIT_BYTES).await;
        let body = body.map_err(|e| Failure::unsure(format!("{url}: the answer broke off: {e}")))?;
        if let Some(revision) = answered_at(&body).filter(|_| status.is_success()) {
            self.revision.set(revision);
            return Ok(Some(body.to_vec()));
        }
        match EtcdError::parse(&body) {
            Some(e) if e.is_no_answer() => Err(Failure::unsure(format!("{url}: {}", e.message))),
            Some(e) => Err(Failure::Explicit(e)),
            None if status == 404 => Ok(None),
            None if status.is_server_error() => Err(Failure::unsure(format!("{url}: {status}"))),
            None if status.is_success() => {
                Err(Failure::unsure(format!("{url}: the answer is not etcd's; does something else listen there?")))
            }
            None => Err(Failure::unsent(format!("{url}: {status}, {}", excerpt(&body)))),
        }
    }

    /// etcd 3.3 has the same API under another name, which versions after 3.5 do not know any more.
    async fn find_api(&self, endpoint: usize) -> Result<(), Failure> {
        let url = format!("{}/version", self.urls[endpoint]);
        let mut response = self.http.get(&url).send().await.map_err(|e| send_failure(&url, &e))?;
        let body = response.body().limit(BODY_LIMIT_BYTES).await.unwrap_or_default();
        let document: serde_json::Value = serde_json::from_slice(&body).unwrap_or_default();
        let version = document["etcdcluster"].as_str().unwrap_or("unknown");
        let api = if version.starts_with("3.3.") { "/v3beta" } else { "/v3" };
        if self.api.replace(api) == api {
            let why = format!("{url}: cluster version {version} without {api}; etcd 3.3 or later is needed");
            return Err(Failure::unsent(why));
        }
        Ok(())
    }
}

fn excerpt(body: &[u8]) -> String {
    String::from_utf8_lossy(&body[..body.len().min(200)])
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect()
}

/// Only a connection that was never made proves that the request was not delivered.
fn send_failure(url: &str, error: &SendRequestError) -> Failure {
    let why = format!("{url}: {error}");
    let unmade = match error {
        SendRequestError::Url(_) => true,
        SendRequestError::Connect(ConnectError::Io(e)) => matches!(
            e.kind(),
            ErrorKind::ConnectionRefused | ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable
        ),
        SendRequestError::Connect(
            ConnectError::Resolver(_) | ConnectError::NoRecords | ConnectError::Timeout | ConnectError::Unresolved,
        ) => true,
        _ => false,
    };
    if unmade { Failure::unsent(why) } else { Failure::unsure(why) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_are_completed_or_refused() {
        for (text, url) in [
            ("etcd1", "http://etcd1:2379"),
            (" 10.0.0.1:4001 ", "http://10.0.0.1:4001"),
            ("http://[::1]:2379", "http://[::1]:2379"),
            ("http://etcd1/", "http://etcd1:2379"),
        ] {
            assert_eq!(text.parse::<Endpoint>().unwrap().to_string(), url);
        }
        for text in ["", "https://etcd1:2379", "http://", "http://user:secret@etcd1:2379", "a b"] {
            let refused = text.parse::<Endpoint>().unwrap_err();
            assert!(!refused.contains("secret"), "{refused}");
        }
    }
}
