//! The changing half of the API over real sockets, with actors behind it that remember what they are asked and answer as
//! they are told.

use super::*;
use crate::auth::BasicLogin;
use crate::status::tests::primary;
use crate::{AccessOptions, ApiOptions, ApiServer, ChangeAccess};
use actix::{Actor, Context, Handler};
use arc_swap::ArcSwap;
use pgherd_protocol::request_desk::{Reply, RequestFailover};
use pgherd_types::Lsn;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Remembers every message as text.
#[derive(Clone)]
struct Everyone {
    asked: Arc<Mutex<Vec<String>>>,
    failsafe: FailsafeAnswer,
}

impl Everyone {
    fn note(&self, what: impl std::fmt::Debug) {
        self.asked.lock().unwrap().push(format!("{what:?}"));
    }
}

impl Actor for Everyone {
    type Context = Context<Self>;
}

macro_rules! handle {
    ($message:ty, $this:ident, $result:expr) => {
        impl Handler<$message> for Everyone {
            type Result = actix::MessageResult<$message>;
            fn handle(&mut self, message: $message, _: &mut Self::Context) -> Self::Result {
                self.note(&message);
                let $this = self;
                actix::MessageResult($result)
            }
        }
    };
}

handle!(RequestFailover, _this, Reply::new(200, r#"Successfully switched over to "pg2""#));
handle!(RequestCancelSwitchover, _this, Reply::new(404, "no switchover is scheduled"));
handle!(RequestWish, _this, WishEnd::Done);
handle!(RequestFailsafe, this, this.failsafe);
handle!(ReloadRequested, _this, true);

impl Handler<RequestConfig> for Everyone {
    type Result = actix::MessageResult<RequestConfig>;
    fn handle(&mut self, message: RequestConfig, _: &mut Self::Context) -> Self::Result {
        self.note(&message);
        actix::MessageResult(match message {
            RequestConfig::Patch(_) => Reply::new(200, r#"{"ttl":30}"#),
            RequestConfig::Replace(_) => Reply::new(409, "somebody was faster"),
        })
    }
}

pub(super) struct Served {
    server: actix::Addr<ApiServer>,
    pub(super) address: SocketAddr,
    asked: Arc<Mutex<Vec<String>>>,
}

fn serve(access: AccessOptions, failsafe: FailsafeAnswer) -> Served {
    let asked = Arc::new(Mutex::new(Vec::new()));
    let all = Everyone { asked: asked.clone(), failsafe }.start();
    let requests = Requests {
        failover: Some(all.clone().recipient()),
        cancel_switchover: Some(all.clone().recipient()),
        config: Some(all.clone().recipient()),
        wish: Some(all.clone().recipient()),
        failsafe: Some(all.clone().recipient()),
        look: None,
        explain: None,
        events: None,
        reload: Some(all.recipient()),
    };
    let shared = SharedRequests::default();
    assert!(shared.set(requests).is_ok());
    serve_with(access, shared, asked)
}

fn serve_with(access: AccessOptions, requests: SharedRequests, asked: Arc<Mutex<Vec<String>>>) -> Served {
    let options = ApiOptions { host: "127.0.0.1".into(), port: 0, access, ..ApiOptions::default() };
    let status = Arc::new(ArcSwap::from_pointee(primary()));
    let server = ApiServer::bind(&options, status, EventFeed::default(), requests).unwrap();
    let address = server.addresses()[0];
    Served { server: server.start(), address, asked }
}

pub(super) fn open() -> Served {
    serve(AccessOptions::default(), FailsafeAnswer::Off)
}

impl Served {
    async fn raw(&self, request: &str) -> String {
        let talk = async {
            let mut stream = TcpStream::connect(self.address).await.unwrap();
            let _ = stream.write_all(request.as_bytes()).await;
            let mut answer = String::new();
            let _ = stream.read_to_string(&mut answer).await;
            answer
        };
        tokio::time::timeout(Duration::from_secs(30), talk).await.expect("an answer in time")
    }

    /// Sends a body with its length and no type, as well as these lines of a head.
    pub(super) async fn full(&self, request: &str, head: &str, body: &str) -> String {
        let length = body.len();
        self.raw(&format!(
            "{request} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{head}Content-Length: {length}\r\n\r\n{body}"
        ))
        .await
    }

    pub(super) async fn send(&self, request: &str, body: &str) -> (u16, String) {
        split(&self.full(request, "", body).await)
    }

    pub(super) fn asked(&self) -> Vec<String> {
        std::mem::take(&mut self.asked.lock().unwrap())
    }
}

pub(super) fn split(answer: &str) -> (u16, String) {
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((answer, ""));
    (head.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or(0), body.to_owned())
}

#[actix_rt::test]
async fn every_operation_reaches_its_actor_and_its_answer_the_client() {
    let api = open();
    for (request, body, code, text, asked) in [
        ("POST /switchover", r#"{"leader":"pg1"}"#, 200, r#"Successfully switched over to "pg2""#, "RequestFailover"),
        ("POST //failover/x", r#"{"candidate":"pg2"}"#, 200, r#"Successfully switched over to "pg2""#, "failover"),
        ("DELETE /switchover", "", 404, "no switchover is scheduled", "RequestCancelSwitchover"),
        ("PATCH /config", r#"{"ttl":30}"#, 200, r#"{"ttl":30}"#, "Patch"),
        ("PUT /config", r#"{"ttl":30}"#, 409, "somebody was faster", "Replace"),
        ("POST /restart", "", 200, "restarted successfully", "Restart"),
        ("POST /restart", r#"{"restart_pending":true}"#, 200, "restarted successfully", "pending_only: true"),
        ("DELETE /restart", "", 200, "scheduled restart deleted", "CancelRestart"),
        ("POST /reinitialize", r#"{"force":true}"#, 200, "reinitialize started", "force: true"),
        ("POST /reload", "", 202, "reload scheduled", "ReloadRequested"),
    ] {
        assert_eq!(api.send(request, body).await, (code, text.to_owned()), "{request}");
        let asks = api.asked();
        assert!(asks.len() == 1 && asks[0].contains(asked), "{request}: {asks:?}");
    }
    assert_eq!(api.send("POST /sigterm", "").await, (202, "shutdown scheduled".to_owned()));
    assert_eq!(api.asked().len(), 0);
    for request in ["DELETE /failover", "POST /config", "POST /unknown", "POST /citus", "POST /mpp", "PUT /restart"] {
        let (code, body) = api.send(request, "{}").await;
        assert!(code == 501 && body.contains("Server does not support this operation"), "{request}: {code} {body}");
    }
    assert_eq!(api.send("GET /switchover", "").await.0, 503, "a health check that fails");
}

#[actix_rt::test]
async fn what_is_wrong_is_refused_and_nobody_is_asked() {
    let api = open();
    let large = format!(r#"{{"x":"{}"}}"#, "x".repeat(body::BODY_BYTES_MAX));
    for (request, body, code) in [
        ("POST /switchover", "", 400),
        ("POST /switchover", "{}", 400),
        ("POST /switchover", "[]", 400),
        ("POST /switchover", "{", 400),
        ("POST /switchover", r#"{"candidate":"pg2"}"#, 400),
        ("PATCH /config", "", 400),
        ("PATCH /config", "{}", 400),
        ("PATCH /config", "null", 400),
        ("PATCH /config", &large, 413),
        ("PUT /config", r#"["ttl"]"#, 400),
        ("POST /restart", "{", 400),
        ("POST /restart", "7", 400),
        ("POST /reinitialize", "{force", 400),
        ("POST /reinitialize", "[true]", 400),
        ("POST /failsafe", "{}", 400),
        ("POST /failsafe", r#"{"name":"pg2","conn_url":"x"}"#, 400),
        ("POST /failsafe", r#"{"name":"pg2","conn_url":"x","api_url":"y","slots":{"a":"5"}}"#, 400),
        ("POST /failsafe", r#"{"name":"pg2","conn_url":"x","api_url":"y","slots":[5]}"#, 400),
    ] {
        let (got, text) = api.send(request, body).await;
        assert_eq!(got, code, "{request} {}: {text}", &body[..body.len().min(40)]);
    }
    for request in ["POST /switchover", "PATCH /config", "PUT /config", "POST /failsafe"] {
        let answer = api.raw(&format!("{request} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")).await;
        assert_eq!(split(&answer).0, 411, "{request}");
    }
    assert_eq!(api.asked(), Vec::<String>::new());
    let answer = api.raw("POST /restart HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await;
    assert_eq!(split(&answer).0, 200, "no body is needed here");
}

#[actix_rt::test]
async fn bodies_may_be_of_any_type_and_in_chunks() {
    let api = open();
    let form = "Content-Type: application/x-www-form-urlencoded\r\n";
    assert_eq!(split(&api.full("PATCH /config", form, r#"{"ttl":30}"#).await).0, 200);
    let chunks = "PATCH /config HTTP/1.1\r\nHost: x\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n\
                  6\r\n{\"ttl\"\r\n4\r\n:30}\r\n0\r\n\r\n";
    assert_eq!(split(&api.raw(chunks).await).0, 200);
    assert_eq!(api.asked(), vec![r#"Patch({"ttl": Number(30)})"#; 2]);
}

#[actix_rt::test]
async fn a_peer_that_asks_for_its_life_is_answered() {
    let body =
        r#"{"name":"pg2","conn_url":"postgres://b:5432/postgres","api_url":"http://b:8008/patroni","slots":{"x":5}}"#;
    for (said, code, text, header) in [
        (FailsafeAnswer::Accepted { position: Lsn(67_109_040) }, 200, "Accepted", Some("\r\nlsn: 67109040\r\n")),
        (FailsafeAnswer::Accepted { position: Lsn(0) }, 200, "Accepted", None),
        (FailsafeAnswer::Leading, 500, "Running as a leader", None),
        (FailsafeAnswer::Off, 502, "failsafe_mode is not enabled", None),
    ] {
        let api = serve(AccessOptions::default(), said);
        let answer = api.full("POST /failsafe", "", body).await;
        assert_eq!(split(&answer), (code, text.to_owned()));
        assert_eq!(answer.contains("\r\nlsn:"), header.is_some(), "{answer}");
        assert!(header.is_none_or(|header| answer.contains(header)), "{answer}");
        let asked = api.asked().remove(0);
        assert!(asked.contains("http://b:8008/patroni") && asked.contains(r#"slots: {"x": Lsn(5)}"#), "{asked}");
    }
}

#[actix_rt::test]
async fn access_is_checked_before_the_body_is_read_and_only_for_changes() {
    let login = Some(BasicLogin::new("admin", "secret"));
    let api = serve(AccessOptions { login, ..AccessOptions::default() }, FailsafeAnswer::Off);
    // The body is never sent: who waits for it does not answer.
    let head = "POST /reinitialize HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 100\r\n\r\n";
    let answer = api.raw(head).await;
    assert_eq!(split(&answer), (401, "no auth header received".to_owned()));
    assert!(answer.to_lowercase().contains("\r\nwww-authenticate: basic realm=\"patroni\"\r\n"), "{answer}");
    let wrong = api.full("POST /sigterm", "Authorization: Basic YWRtaW46d3Jvbmc=\r\n", "").await;
    assert_eq!(split(&wrong), (401, "not authenticated".to_owned()));
    assert_eq!(api.asked(), Vec::<String>::new());
    let right = api.full("POST /restart", "Authorization: Basic YWRtaW46c2VjcmV0\r\n", "").await;
    assert_eq!(split(&right).0, 200);
    for request in ["GET /cluster", "HEAD /primary", "OPTIONS /config", "GET /patroni"] {
        assert_ne!(api.send(request, "").await.0, 401, "{request}");
    }
}

#[actix_rt::test]
async fn rules_can_be_changed_while_it_serves() {
    let listed = |item: &str| AccessOptions { allowlist: vec![item.to_owned()], ..AccessOptions::default() };
    let api = serve(listed("10.9.9.0/24"), FailsafeAnswer::Off);
    assert_eq!(api.send("POST /restart", "").await, (403, "Access is denied".to_owned()));
    assert_eq!(api.send("GET /cluster", "").await.0, 200);
    api.server.send(ChangeAccess(listed("127.0.0.1"))).await.unwrap();
    assert_eq!(api.send("POST /restart", "").await.0, 200);
    api.server.send(ChangeAccess(listed("nonsense/8"))).await.unwrap();
    assert_eq!(api.send("POST /restart", "").await.0, 403);
    api.server.send(ChangeAccess(listed("localhost"))).await.unwrap();
    let looked_up = async { while api.send("POST /restart", "").await.0 != 200 {} };
    tokio::time::timeout(Duration::from_secs(30), looked_up).await.expect("the name is looked up");
}

#[actix_rt::test]
async fn what_nobody_handles_yet_is_unavailable() {
    let requests = SharedRequests::default();
    let api = serve_with(AccessOptions::default(), requests.clone(), Arc::default());
    let (code, text) = api.send("POST /restart", "").await;
    assert!(code == 503 && text.contains("still starting"), "{code} {text}");
    assert!(requests.set(Requests::default()).is_ok());
    for request in ["POST /restart", "POST /reload", "DELETE /switchover", "DELETE /restart"] {
        let (code, text) = api.send(request, "").await;
        assert!(code == 503 && text.contains("nothing on this node handles"), "{request}: {code} {text}");
    }
}
