//! Nonsense of every kind, at every endpoint that changes something and as requests of any shape: an answer with a reason or
//! a closed connection, nobody is asked for anything, and the server goes on.

use super::tests::{Served, open, split};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// What takes a body that must be an object.
const TARGETS: &[&str] = &[
    "POST /switchover",
    "POST /failover",
    "PATCH /config",
    "PUT /config",
    "POST /restart",
    "POST /reinitialize",
    "POST /failsafe",
];

/// Numbers that look drawn by lot and are the same every time.
struct Lot(u64);

impl Lot {
    fn next(&mut self, below: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % below
    }
    fn bytes(&mut self, length_max: u64) -> Vec<u8> {
        let length = 1 + self.next(length_max);
        (0..length).map(|_| u8::try_from(self.next(256)).unwrap_or(0)).collect()
    }
}

/// Documents that no one could mean.
fn nonsense(lot: &mut Lot) -> Vec<Vec<u8>> {
    let whole = br#"{"leader":"pg1","candidate":"pg2","force":true,"ttl":30,"role":"replica"}"#;
    let cut = |lot: &mut Lot| whole[..1 + lot.next(whole.len() as u64 - 1) as usize].to_vec();
    let mut bodies = vec![
        b"null".to_vec(),
        b"true".to_vec(),
        b"[{}]".to_vec(),
        b"\"{}\"".to_vec(),
        b"{\"leader\":\"pg1\",\"leader\":\"pg2\"}".to_vec(),
        b"{\"force\":false,\"force\":true}".to_vec(),
        b"{\"a\":{\"b\":1,\"b\":2}}".to_vec(),
        b"{\"leader\":\"\xff\xfe\"}".to_vec(),
        b"{\"\xc3\x28\":1}".to_vec(),
        b"{\"a\":1e999}".to_vec(),
        b"{\"a\":1}{\"a\":1}".to_vec(),
        b"{\"a\":1} x".to_vec(),
        b"leader=pg1&candidate=pg2".to_vec(),
        b"\0".to_vec(),
        format!("{{\"a\":{}1{}}}", "[".repeat(5000), "]".repeat(5000)).into_bytes(),
        "{\"a\":".repeat(50_000).into_bytes(),
    ];
    (0..20).for_each(|_| bodies.push(cut(lot)));
    (0..20).for_each(|_| bodies.push(lot.bytes(300)));
    bodies
}

pub(super) async fn exchange(api: &Served, bytes: &[u8]) -> String {
    let talk = async {
        let mut stream = TcpStream::connect(api.address).await.unwrap();
        let _ = stream.write_all(bytes).await;
        let _ = stream.shutdown().await;
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        String::from_utf8_lossy(&answer).into_owned()
    };
    tokio::time::timeout(Duration::from_secs(30), talk).await.expect("an answer, or the end, in time")
}

#[actix_rt::test]
async fn nonsense_in_bodies_is_refused_with_a_reason_and_changes_nothing() {
    let (api, mut lot) = (open(), Lot(7));
    for target in TARGETS {
        for body in nonsense(&mut lot) {
            let head =
                format!("{target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {}\r\n\r\n", body.len());
            let answer = exchange(&api, &[head.as_bytes(), &body].concat()).await;
            let (code, reason) = split(&answer);
            let shown = String::from_utf8_lossy(&body[..body.len().min(60)]).into_owned();
            assert!((400..500).contains(&code) && !reason.is_empty(), "{target} {shown}: {answer}");
        }
    }
    assert_eq!(api.asked(), Vec::<String>::new(), "nobody was asked for anything");
    assert_eq!(api.send("GET /patroni", "").await.0, 200, "it goes on");
}

#[actix_rt::test]
async fn values_of_wrong_kinds_are_refused_and_change_nothing() {
    let api = open();
    let values = ["7", "true", "[]", "{}", "1.5", "[[\"pg1\"]]"];
    for (target, key, more) in [
        ("POST /switchover", "leader", r#","candidate":"pg2""#),
        ("POST /switchover", "candidate", r#","leader":"pg1""#),
        ("POST /failover", "candidate", ""),
        ("POST /failsafe", "name", r#","conn_url":"x","api_url":"y""#),
        ("POST /restart", "role", ""),
        ("POST /restart", "schedule", ""),
        ("POST /restart", "no_such_condition", ""),
    ] {
        for value in values {
            let body = format!(r#"{{"{key}":{value}{more}}}"#);
            let (code, reason) = api.send(target, &body).await;
            assert!((400..500).contains(&code) && !reason.is_empty(), "{target} {body}: {code} {reason}");
        }
    }
    for value in ["\"perhaps\"", "2", "[]", "{}"] {
        assert_eq!(api.send("POST /reinitialize", &format!(r#"{{"force":{value}}}"#)).await.0, 400, "{value}");
    }
    assert_eq!(api.asked(), Vec::<String>::new());
}

#[actix_rt::test]
async fn requests_of_any_shape_end_and_the_server_goes_on() {
    let (api, mut lot) = (open(), Lot(11));
    let long = "x".repeat(200_000);
    let heads = [
        format!("GET /{long} HTTP/1.1\r\nHost: x\r\n\r\n"),
        format!("GET / HTTP/1.1\r\nHost: x\r\nX: {long}\r\n\r\n"),
        format!("GET / HTTP/1.1\r\nHost: x\r\n{}\r\n", "X: y\r\n".repeat(5000)),
        "GET / HTTP/9.9\r\n\r\n".to_owned(),
        "GET /%zz%00%ff HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".to_owned(),
        "GET /replica?lag=1e999 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".to_owned(),
        "GET /replica?%ff=%fe&&&==& HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".to_owned(),
        "PATCH /config HTTP/1.1\r\nHost: x\r\nContent-Length: -5\r\n\r\n{}".to_owned(),
        "PATCH /config HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n{\"a\":1".to_owned(),
        "PATCH /config HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n0\r\n\r\n".to_owned(),
        "PATCH /config HTTP/1.1\r\nHost: x\r\nContent-Encoding: gzip\r\nContent-Length: 2\r\n\r\n{}".to_owned(),
    ];
    for head in heads {
        let answer = exchange(&api, head.as_bytes()).await;
        let code = split(&answer).0;
        assert!(code == 0 || (400..=505).contains(&code) && code != 500, "{}: {answer}", &head[..head.len().min(60)]);
    }
    for _ in 0..200 {
        let mut bytes = lot.bytes(200);
        if lot.next(2) == 0 {
            let target = TARGETS[lot.next(TARGETS.len() as u64) as usize];
            bytes = [target.as_bytes(), b" HTTP/1.1\r\n", &bytes, b"\r\n\r\n"].concat();
        }
        let code = split(&exchange(&api, &bytes).await).0;
        assert!(code == 0 || (400..500).contains(&code), "{code} to {}", String::from_utf8_lossy(&bytes));
    }
    assert_eq!(api.asked(), Vec::<String>::new());
    let absolute =
        exchange(&api, b"GET http://somewhere:1/patroni HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await;
    assert_eq!(split(&absolute).0, 200, "{absolute}");
}

#[actix_rt::test]
async fn errors_are_json_for_who_asks_for_it() {
    let api = open();
    for (request, plain, key) in [
        ("POST /switchover", "the body", "error"),
        ("POST /unknown", "Server does not support this operation", "error"),
        ("GET /replica?lag=x", "lag=x", "error"),
        ("DELETE /switchover", "no switchover is scheduled", "error"),
        ("POST /reload", "reload scheduled", "message"),
    ] {
        let (_, text) = api.send(request, "").await;
        assert!(text.starts_with(plain), "{request}: {text}");
        let json = split(&api.full(request, "Accept: application/json\r\n", "").await).1;
        let document: serde_json::Value = serde_json::from_str(&json).expect(&json);
        assert_eq!(document[key], text.as_str(), "{request}");
    }
}
