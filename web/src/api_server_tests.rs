//! The real server on a free port, spoken to over plain sockets.

use super::*;
use crate::status::tests::{primary, replica};
use pgherd_types::node_status::NodeStatus;
use std::net::Ipv4Addr;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

const PATIENCE: Duration = Duration::from_secs(30);

fn options() -> ApiOptions {
    ApiOptions {
        host: "127.0.0.1".into(),
        port: 0,
        client_request_timeout: Duration::from_millis(500),
        max_connections: 300,
        ..ApiOptions::default()
    }
}

/// The status with its instants moved to the present.
fn as_of_now(status: NodeStatus) -> NodeStatus {
    let now = pgherd_clock::boottime();
    let postgres = status.postgres.map(|mut looked| {
        Arc::make_mut(&mut looked).looked_at = now;
        looked
    });
    let leader_until = status.leader_until.map(|_| now + PATIENCE * 4);
    NodeStatus { turned_at: now, postgres, leader_until, ..status }
}

fn start(status: NodeStatus) -> (actix::Addr<ApiServer>, SocketAddr, PublishedStatus) {
    let status = Arc::new(ArcSwap::from_pointee(as_of_now(status)));
    let server = ApiServer::bind(&options(), status.clone(), EventFeed::default(), SharedRequests::default()).unwrap();
    let address = server.addresses()[0];
    (server.start(), address, status)
}

/// One request on its own connection: everything the server sends until it closes.
async fn exchange(address: SocketAddr, head: &str, body: &str) -> String {
    let talk = async {
        let mut stream = TcpStream::connect(address).await.unwrap();
        // The server may hang up before it has read everything.
        let _ = stream.write_all(format!("{head}\r\nHost: x\r\nConnection: close\r\n\r\n{body}").as_bytes()).await;
        let mut answer = String::new();
        let _ = stream.read_to_string(&mut answer).await;
        answer
    };
    timeout(PATIENCE, talk).await.expect("an answer in time")
}

/// The status code, and the body.
async fn ask(address: SocketAddr, request: &str) -> (u16, String) {
    let answer = exchange(address, &format!("{request} HTTP/1.1"), "").await;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    (head.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or(0), body.to_owned())
}

#[actix_rt::test]
async fn every_method_has_its_answer_and_changes_are_seen_at_once() {
    let (_server, address, status) = start(primary());
    for path in ["/", "/primary", "/leader", "/health", "/patroni", "/cluster", "/history", "/liveness", "/readiness"] {
        for method in ["GET", "HEAD", "OPTIONS"] {
            let (code, body) = ask(address, &format!("{method} {path}")).await;
            assert_eq!(code, 200, "{method} {path}");
            let has_body = method == "GET" && !["/liveness", "/readiness"].contains(&path);
            assert_eq!(!body.is_empty(), has_body, "{method} {path}: {body}");
        }
    }
    assert_eq!(ask(address, "OPTIONS /replica").await.0, 503);
    assert_eq!(ask(address, "GET http://anywhere/primary").await.0, 200);
    status.store(Arc::new(as_of_now(replica())));
    assert_eq!(ask(address, "HEAD /primary").await.0, 503);
    let (code, body) = ask(address, "GET /replica?lag=1kB").await;
    assert_eq!(code, 200);
    assert!(body.contains(r#""role":"replica""#), "{body}");
    assert_eq!(ask(address, "GET /replica?lag=1mb").await.0, 400);
    for method in ["POST", "PUT", "PATCH", "DELETE", "BREW"] {
        assert_eq!(ask(address, &format!("{method} /primary")).await.0, 501, "{method}");
    }
}

#[actix_rt::test]
async fn the_page_and_the_description_are_served() {
    let (_server, address, _status) = start(primary());
    let answer = exchange(address, "GET /ui HTTP/1.1", "").await;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let head = head.to_ascii_lowercase();
    assert!(head.starts_with("http/1.1 200") && head.contains("content-type: text/html; charset=utf-8"), "{head}");
    assert!(head.contains("content-security-policy: default-src 'none'; script-src 'sha256-"), "{head}");
    assert!(body.starts_with("<!DOCTYPE html>") && body.trim_end().ends_with("</html>"));
    assert!(ask(address, "HEAD /ui/").await.1.is_empty());
    let (code, text) = ask(address, "GET /openapi.json").await;
    let document: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!((code, &document["info"]["title"]), (200, &"pgherd".into()));
    assert_eq!(ask(address, "POST /ui").await.0, 501);
}

#[actix_rt::test]
async fn bodies_are_ignored_and_endless_heads_refused() {
    let (_server, address, _status) = start(primary());
    let head = "GET /cluster HTTP/1.1\r\nContent-Type: application/json\r\nContent-Length: 4";
    assert!(exchange(address, head, "null").await.starts_with("HTTP/1.1 200"));
    let head = "POST /primary HTTP/1.1\r\nContent-Length: 10000000";
    assert!(exchange(address, head, &"x".repeat(100_000)).await.starts_with("HTTP/1.1 501"));
    let endless = format!("GET /primary HTTP/1.1\r\nX: {}", "x".repeat(1 << 20));
    assert!(!exchange(address, &endless, "").await.starts_with("HTTP/1.1 200"));
    assert_eq!(ask(address, "GET /primary").await.0, 200);
}

#[actix_rt::test]
async fn silent_clients_are_cut_and_health_stays_answered() {
    let (_server, address, _status) = start(primary());
    let mut silent = Vec::new();
    for number in 0..200 {
        let mut stream = TcpStream::connect(address).await.unwrap();
        if number % 2 == 0 {
            stream.write_all(b"GET /primary HT").await.unwrap();
        }
        silent.push(stream);
    }
    assert_eq!(ask(address, "GET /primary").await.0, 200);
    for mut stream in silent {
        let mut bytes = Vec::new();
        let _ = timeout(PATIENCE, stream.read_to_end(&mut bytes)).await.expect("the server cuts silent clients");
    }
    assert_eq!(ask(address, "GET /primary").await.0, 200);
}

#[actix_rt::test]
async fn silent_and_slow_clients_do_not_hold_up_a_health_check() {
    // nobody is cut off while this goes on: what is answered was answered beside them, not after them
    let patient = ApiOptions { client_request_timeout: PATIENCE * 4, ..options() };
    let status = Arc::new(ArcSwap::from_pointee(as_of_now(primary())));
    let server = ApiServer::bind(&patient, status, EventFeed::default(), SharedRequests::default()).unwrap();
    let address = server.addresses()[0];
    let _server = server.start();
    let beginnings = ["", "GET /primary HT", "PATCH /config HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n{"];
    let mut slow = Vec::new();
    for number in 0..210 {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(beginnings[number % beginnings.len()].as_bytes()).await.unwrap();
        slow.push(stream);
    }
    for path in ["/primary", "/patroni", "/health", "/liveness"] {
        assert_eq!(ask(address, &format!("GET {path}")).await.0, 200, "{path}");
    }
    for stream in slow {
        let told = stream.try_read(&mut [0]).map_err(|e| e.kind());
        assert_eq!(told, Err(io::ErrorKind::WouldBlock), "it was answered or cut off");
    }
}

#[actix_rt::test]
async fn a_stopped_server_refuses_connections() {
    let (server, address, _status) = start(primary());
    assert_eq!(ask(address, "GET /primary").await.0, 200);
    timeout(PATIENCE, server.send(StopServing)).await.expect("it stops").unwrap();
    assert!(TcpStream::connect(address).await.is_err());
}

#[actix_rt::test]
async fn an_address_in_use_is_told() {
    let (_server, address, status) = start(primary());
    let taken = ApiOptions { port: address.port(), ..options() };
    let error =
        ApiServer::bind(&taken, status, EventFeed::default(), SharedRequests::default()).err().unwrap().to_string();
    assert!(error.starts_with(&format!("cannot listen on 127.0.0.1:{} for the REST API: ", address.port())), "{error}");
}

#[actix_rt::test]
async fn every_address_means_both_families() {
    let status = Arc::new(ArcSwap::from_pointee(as_of_now(primary())));
    for host in ["", "*"] {
        let options = ApiOptions { host: host.into(), ..options() };
        let server =
            ApiServer::bind(&options, status.clone(), EventFeed::default(), SharedRequests::default()).unwrap();
        let port = server.addresses()[0].port();
        let _server = server.start();
        assert_eq!(ask((Ipv4Addr::LOCALHOST, port).into(), "GET /primary").await.0, 200);
    }
}

#[actix_rt::test]
async fn a_panic_in_a_handler_cuts_one_connection_on_a_marked_thread() {
    let access = Arc::new(ArcSwap::from_pointee(Access::without_names(&AccessOptions::default())));
    let app = |app: &mut web::ServiceConfig| {
        app.route("/bug", web::get().to(|| async { panic!("a bug") as &'static str }));
        app.route("/who", web::get().to(|| async { worker::is_http_worker().to_string() }));
    };
    let server =
        ApiServer::bind_app(&options(), (access, SharedHeaders::default(), EventFeed::default()), app).unwrap();
    let address = server.addresses()[0];
    let _server = server.start();
    assert_eq!(exchange(address, "GET /bug HTTP/1.1", "").await, "");
    for _ in 0..4 {
        assert_eq!(ask(address, "GET /who").await, (200, "true".to_owned()));
    }
    assert!(!worker::is_http_worker());
    let arbiter = actix::Arbiter::new();
    let (tell, told) = tokio::sync::oneshot::channel();
    arbiter.spawn_fn(move || tell.send(worker::is_http_worker()).unwrap());
    assert!(!timeout(PATIENCE, told).await.unwrap().unwrap(), "an actor's thread must not count as one");
}
