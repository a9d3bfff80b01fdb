//! Requests to the REST API of members, each with a deadline for the whole answer.

use super::console::Stop;
use super::event_stream;
use super::events::Followed;
use crate::settings::ctl::Ctl;
use crate::settings::restapi::Login;
use awc::error::{ConnectError, SendRequestError};
use awc::http::{Method, Uri};
use pgherd_tls::{ClientConfig, ClientFiles};
use pgherd_types::Member;
use serde_json::Value;
use std::cell::OnceCell;
use std::io::ErrorKind;
use std::sync::Arc;
use std::time::Duration;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const BODY_BYTES_MAX: usize = 1 << 20;

/// For answers that no member takes long for.
pub const SHORT: Duration = Duration::from_secs(15);

/// What a member answered.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// The body as text.
    pub body: String,
}

impl Answer {
    /// As messages show it: `status code=503, (body)`.
    pub fn shown(&self) -> String {
        format!("status code={}, ({})", self.status, printable(&self.body))
    }
}

/// Text of others on one line.
pub fn printable(text: &str) -> String {
    text.trim().chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// Why there is no answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum NoAnswer {
    /// The request cannot have arrived.
    Unsent(String),
    /// It may have arrived, and may be carried out.
    Unknown(String),
}

impl NoAnswer {
    /// What was tried and what happened.
    pub fn text(&self) -> &str {
        let (Self::Unsent(text) | Self::Unknown(text)) = self;
        text
    }
}

/// One request.
#[derive(Clone)]
pub struct Request<'a> {
    /// The method.
    pub method: Method,
    /// The path with its slash.
    pub path: &'a str,
    /// The body.
    pub body: Option<Value>,
    /// For the whole answer.
    pub patience: Duration,
}

/// The client. Make it on the thread that uses it.
pub struct Rest {
    http: awc::Client,
    /// Made when a member is reached over https for the first time: only then its files are needed.
    https: OnceCell<Result<awc::Client, String>>,
    files: ClientFiles,
    login: Option<Login>,
}

impl Rest {
    /// As the settings say.
    pub fn new(ctl: Ctl) -> Self {
        let (http, https) = (client(None), OnceCell::new());
        Self { http, https, files: ctl.tls.unwrap_or_default(), login: ctl.login }
    }

    /// The client for this URL.
    fn reaching(&self, url: &str) -> Result<&awc::Client, NoAnswer> {
        if !url.starts_with("https:") {
            return Ok(&self.http);
        }
        let make = || {
            let config = self.files.read().and_then(|material| material.config());
            config.map(|config| client(Some(config))).map_err(|e| format!("ctl: {e}"))
        };
        self.https.get_or_init(make).as_ref().map_err(|why| NoAnswer::Unsent(why.clone()))
    }

    /// Sends it to a member once.
    pub async fn ask(&self, member: &Member, request: Request<'_>) -> Result<Answer, NoAnswer> {
        let url = url(member, request.path).map_err(NoAnswer::Unsent)?;
        let patience = request.patience;
        let late = |_| NoAnswer::Unknown(format!("{url}: no answer within {} s", patience.as_secs()));
        tokio::time::timeout(patience, self.send(&url, request)).await.unwrap_or_else(|e| Err(late(e)))
    }

    /// Follows the events of a member, until the stream ends or does not work any more.
    pub async fn follow(
        &self,
        member: &Member,
        path: &str,
        on_event: impl FnMut(&Value) -> Result<(), Stop>,
    ) -> Result<(), Followed> {
        let lost = |why: String| Followed::Lost(NoAnswer::Unknown(why));
        let url = url(member, path).map_err(lost)?;
        let client = self.reaching(&url).map_err(Followed::Lost)?;
        let mut sent = client.get(&url).insert_header(("Accept", "text/event-stream"));
        if let Some(login) = &self.login {
            sent = sent.basic_auth(&login.username, login.password.expose());
        }
        let response = match tokio::time::timeout(SHORT, sent.send()).await {
            Ok(response) => response.map_err(|e| Followed::Lost(send_failure(&url, &e)))?,
            Err(_) => return Err(lost(format!("{url}: no answer within {} s", SHORT.as_secs()))),
        };
        match response.status().as_u16() {
            200 => event_stream::read(response, on_event).await,
            code => Err(lost(format!("{url}: status code={code}"))),
        }
    }

    async fn send(&self, url: &str, request: Request<'_>) -> Result<Answer, NoAnswer> {
        let mut sent = self.reaching(url)?.request(request.method, url);
        if let Some(login) = &self.login {
            sent = sent.basic_auth(&login.username, login.password.expose());
        }
        let sent = match &request.body {
            Some(body) => sent.content_type("application/json").send_body(body.to_string()).await,
            None => sent.send().await,
        };
        let mut response = sent.map_err(|e| send_failure(url, &e))?;
        let body = response.body().limit(BODY_BYTES_MAX).await;
        let body = body.map_err(|e| NoAnswer::Unknown(format!("{url}: the answer broke off: {e}")))?;
        Ok(Answer { status: response.status().as_u16(), body: String::from_utf8_lossy(&body).into_owned() })
    }
}

fn client(tls: Option<Arc<ClientConfig>>) -> awc::Client {
    let agent = ("User-Agent", format!("pgherd/{}", pgherd_types::PRODUCT_VERSION));
    let connector = awc::Connector::new().timeout(CONNECT_TIMEOUT).handshake_timeout(CONNECT_TIMEOUT);
    let connector = match tls {
        Some(config) => connector.rustls_0_23(config),
        None => connector,
    };
    let builder = awc::Client::builder().disable_timeout().disable_redirects().add_default_header(agent);
    builder.connector(connector).finish()
}

/// The member's own address with another path.
fn url(member: &Member, path: &str) -> Result<String, String> {
    let name = &member.name;
    let api = member.doc.api_url.as_deref().ok_or_else(|| format!("member {name} names no api_url"))?;
    let uri: Uri = api.parse().map_err(|e| format!("the api_url {api} of member {name} is no URL: {e}"))?;
    match (uri.scheme_str(), uri.authority()) {
        (Some(scheme @ ("http" | "https")), Some(authority)) => Ok(format!("{scheme}://{authority}{path}")),
        _ => Err(format!("the api_url {api} of member {name} is not http[s]://host:port")),
    }
}

/// Only a connection that was never made proves that the request was not delivered.
fn send_failure(url: &str, error: &SendRequestError) -> NoAnswer {
    let text = format!("{url}: {error}");
    let refused = |e: &std::io::Error| {
        matches!(e.kind(), ErrorKind::ConnectionRefused | ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable)
    };
    match error {
        SendRequestError::Url(_) => NoAnswer::Unsent(text),
        SendRequestError::Connect(ConnectError::Io(e)) if refused(e) => NoAnswer::Unsent(text),
        SendRequestError::Connect(
            ConnectError::Resolver(_) | ConnectError::NoRecords | ConnectError::Timeout | ConnectError::Unresolved,
        ) => NoAnswer::Unsent(text),
        _ => NoAnswer::Unknown(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pgherd_types::MemberDoc;

    #[test]
    fn only_host_and_port_of_the_address_are_used() {
        let of = |api: Option<&str>| {
            let doc = MemberDoc { api_url: api.map(str::to_owned), ..MemberDoc::default() };
            url(&Member { name: "a".into(), lease: None, doc }, "/restart")
        };
        assert_eq!(of(Some("http://10.0.0.1:8008/patroni")).as_deref(), Ok("http://10.0.0.1:8008/restart"));
        assert_eq!(of(Some("http://[::1]:8008/patroni")).as_deref(), Ok("http://[::1]:8008/restart"));
        assert_eq!(of(Some("https://db1:8008/patroni")).as_deref(), Ok("https://db1:8008/restart"));
        for bad in [None, Some("x y"), Some("10.0.0.1:8008"), Some("ftp://h:1/"), Some("/patroni")] {
            assert!(of(bad).unwrap_err().contains("member a"), "{bad:?}");
        }
    }
}
