//! The adapter against a scripted server: answers that a healthy etcd 3.4 never gives.

use pgherd_clock::boottime;
use pgherd_dcs::{Dcs, Etcd3, EtcdApi, EtcdLogin, EtcdOptions, EtcdServer};
use pgherd_types::{DcsWrite, Instant, LeaseId, Refused, StatusKey};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// HTTP status and body for a path; `None` sends the head and then nothing.
type Script = fn(&str) -> Option<(u16, &'static str)>;

struct Server {
    url: String,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Server {
    /// Its thread ends with the test's process.
    fn start(script: Script) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let asked = Arc::new(Mutex::new(Vec::new()));
        let log = asked.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let log = log.clone();
                std::thread::spawn(move || serve(stream, script, &log));
            }
        });
        Self { url, asked }
    }
    fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

fn serve(stream: TcpStream, script: Script, log: &Mutex<Vec<String>>) -> Option<()> {
    let mut reader = BufReader::new(stream);
    let mut silent = false;
    loop {
        let (mut path, mut length) = (String::new(), 0);
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line).ok()? == 0 {
                return None;
            }
            if path.is_empty() {
                path = line.split(' ').nth(1)?.to_owned();
            }
            if let Some((name, value)) = line.split_once(':').filter(|(n, _)| n.eq_ignore_ascii_case("content-length"))
            {
                length = value.trim().parse().unwrap_or_else(|_| panic!("{name}"));
            }
            if line.trim().is_empty() {
                break;
            }
        }
        reader.read_exact(&mut vec![0; length]).ok()?;
        log.lock().unwrap().push(path.clone());
        let (status, body) = script(&path).unwrap_or_else(|| {
            silent = true;
            (200, "x")
        });
        let body = if silent { "" } else { body };
        let length = if silent { 10 } else { body.len() };
        let answer = format!("HTTP/1.1 {status} X\r\nContent-Length: {length}\r\n\r\n{body}");
        reader.get_mut().write_all(answer.as_bytes()).ok()?;
    }
}

fn node(servers: &[&Server]) -> Etcd3 {
    let endpoints = servers.iter().map(|server| server.url.parse().unwrap()).collect();
    node_at(EtcdServer { endpoints, ..EtcdServer::default() })
}

fn node_at(server: EtcdServer) -> Etcd3 {
    let server = server.shared();
    Etcd3::new(&EtcdOptions {
        server,
        namespace: "service".into(),
        scope: "main".into(),
        member: "a".into(),
        api: EtcdApi::V3,
    })
}

fn soon() -> Instant {
    boottime() + Duration::from_secs(30)
}

fn shortly() -> Instant {
    boottime() + Duration::from_millis(400)
}

const LEASE: LeaseId = LeaseId(777);
const STATUS: DcsWrite = DcsWrite::Status(StatusKey {
    optime: pgherd_types::Lsn(1),
    slots: std::collections::BTreeMap::new(),
    retain_slots: Vec::new(),
});

fn healthy(path: &str) -> Option<(u16, &'static str)> {
    Some(match path {
        "/v3/lease/keepalive" => (200, r#"{"result":{"header":{"revision":"5"},"ID":"777","TTL":"30"}}"#),
        "/v3/kv/txn" => (200, r#"{"header":{"revision":"5"},"succeeded":true}"#),
        "/v3/kv/range" => (200, r#"{"header":{"revision":"5"}}"#),
        _ => (404, "Not Found"),
    })
}

#[actix_rt::test]
async fn errors_that_a_member_cannot_help_lead_to_the_next_one() {
    let sick: [Script; 10] = [
        |_| Some((200, "<html>hello</html>")),
        |_| Some((200, "{}")),
        |_| Some((500, r#"{"error":"context deadline exceeded","message":"context deadline exceeded","code":2}"#)),
        |_| Some((504, r#"{"code":4,"message":"context deadline exceeded"}"#)),
        |_| Some((503, r#"{"error":{"grpc_code":14,"http_code":503,"message":"no leader","http_status":"x"}}"#)),
        |_| Some((200, r#"{"error":{"grpc_code":14,"http_code":503,"message":"no leader","http_status":"x"}}"#)),
        |_| Some((500, r#"{"error":"not a primary lessor","message":"not a primary lessor","code":2}"#)),
        |_| Some((502, "<html>bad gateway</html>")),
        |_| Some((404, "404 page not found")),
        |_| None,
    ];
    for (number, script) in sick.into_iter().enumerate() {
        let (sick, well) = (Server::start(script), Server::start(healthy));
        let a = node(&[&sick, &well]);
        assert_eq!(a.renew(LEASE, true, soon()).await.map(|grant| grant.ttl_ms), Ok(30_000), "script {number}");
        assert_eq!(a.read(soon()).await.unwrap().cluster.revision, 5);
        assert!(!sick.asked().is_empty());
        let alone = node(&[&sick]).renew(LEASE, false, shortly()).await;
        assert!(matches!(alone, Err(Refused::Unreachable(_))), "script {number}: {alone:?}");
    }
}

#[actix_rt::test]
async fn the_endpoint_that_answered_last_is_asked_first() {
    let (sick, well) = (Server::start(|_| Some((503, "x"))), Server::start(healthy));
    let a = node(&[&sick, &well]);
    for _ in 0..5 {
        a.read(soon()).await.unwrap();
    }
    assert_eq!((sick.asked().len(), well.asked().len()), (1, 5));
}

#[actix_rt::test]
async fn refusals_are_final_and_keep_their_reason() {
    let scripts: [(Script, &str); 2] = [
        (|_| Some((429, r#"{"code":8,"message":"etcdserver: mvcc: database space exceeded"}"#)), "space exceeded"),
        (|_| Some((403, r#"{"error":"e","message":"etcdserver: permission denied","code":7}"#)), "permission denied"),
    ];
    for (script, reason) in scripts {
        let server = Server::start(script);
        let answer = node(&[&server]).write(Some(LEASE), STATUS, soon()).await.unwrap_err();
        assert!(matches!(&answer, Refused::Denied(why) if why.contains(reason)), "{answer:?}");
        assert_eq!(server.asked().len(), 1, "a refusal is not repeated");
    }
}

/// That the lease is gone is believed when none of our keys hangs on it any more, and only to who can say so.
#[actix_rt::test]
async fn the_loss_of_the_lease_is_looked_into() {
    let gone: Script = |_| Some((404, r#"{"code":5,"message":"etcdserver: requested lease not found"}"#));
    let server = Server::start(gone);
    let answer = node(&[&server]).write(Some(LEASE), STATUS, shortly()).await;
    assert!(matches!(answer, Err(Refused::Unreachable(_))), "a reading cannot be answered so: {answer:?}");
    let answer = node(&[&server]).renew(LEASE, true, shortly()).await;
    assert!(matches!(answer, Err(Refused::Unreachable(_))), "{answer:?}");
}

/// One burst of refused tokens must neither be taken for a loss nor lead to a storm of logins.
#[actix_rt::test]
async fn refused_tokens_lead_to_few_logins_and_no_loss() {
    let server = Server::start(|path| match path {
        "/v3/auth/authenticate" => Some((200, r#"{"header":{"revision":"5"},"token":"t.1"}"#)),
        _ => Some((401, r#"{"error":"x","message":"etcdserver: invalid auth token","code":16}"#)),
    });
    let login = EtcdLogin { username: "u".into(), password: "p".into() };
    let endpoints = vec![server.url.parse().unwrap()];
    let a = node_at(EtcdServer { endpoints, login: Some(login), ..EtcdServer::default() });
    let deadline = || boottime() + Duration::from_millis(1000);
    let (renewed, read, written) =
        tokio::join!(a.renew(LEASE, true, deadline()), a.read(deadline()), a.write(Some(LEASE), STATUS, deadline()));
    for answer in [renewed.map(drop), read.map(drop), written] {
        assert!(matches!(answer, Err(Refused::Unreachable(_))), "{answer:?}");
    }
    let logins = server.asked().iter().filter(|path| path.ends_with("authenticate")).count();
    assert!((1..=6).contains(&logins), "{logins} logins in a second");
}

#[actix_rt::test]
async fn a_keepalive_answer_without_ttl_is_a_lost_lease() {
    let server = Server::start(|path| match path {
        "/v3/lease/keepalive" => Some((200, r#"{"result":{"header":{"revision":"5"},"ID":"777"}}"#)),
        _ => Some((200, r#"{"header":{"revision":"5"},"responses":[{"response_range":{}},{"response_range":{}}]}"#)),
    });
    let a = node(&[&server]);
    assert_eq!(a.renew(LEASE, false, soon()).await, Err(Refused::LeaseGone));
    assert_eq!(a.renew(LEASE, true, soon()).await, Err(Refused::LeaseGone));
}

/// An etcd leader elected a moment ago may not know a lease yet that has keys.
#[actix_rt::test]
async fn a_lease_on_which_the_leader_key_still_hangs_is_not_lost() {
    let server = Server::start(|path| match path {
        "/v3/lease/keepalive" => Some((200, r#"{"result":{"header":{"revision":"5"},"ID":"777"}}"#)),
        _ => Some((
            200,
            r#"{"header":{"revision":"5"},"responses":[{"response_range":{}},{"response_range":{"kvs":[{"key":"YQ==","lease":"777"}]}}]}"#,
        )),
    });
    let refused = node(&[&server]).renew(LEASE, true, shortly()).await;
    assert!(matches!(refused, Err(Refused::Unreachable(_))), "{refused:?}");
}

#[actix_rt::test]
async fn etcd_3_3_is_spoken_to_under_its_own_path() {
    let server = Server::start(|path| match path {
        "/version" => Some((200, r#"{"etcdserver":"3.3.27","etcdcluster":"3.3.0"}"#)),
        "/v3beta/kv/range" => Some((200, r#"{"header":{"revision":"5"}}"#)),
        _ => Some((404, "404 page not found")),
    });
    let a = node(&[&server]);
    assert_eq!(a.read(soon()).await.unwrap().cluster.revision, 5);
    a.read(soon()).await.unwrap();
    assert_eq!(server.asked(), ["/v3/kv/range", "/version", "/v3beta/kv/range", "/v3beta/kv/range"]);
}

#[actix_rt::test]
async fn answers_that_make_no_sense_are_no_answers() {
    let scripts: [Script; 6] = [
        |_| Some((200, "{}")),
        |_| Some((200, "hello")),
        |_| Some((200, "[]")),
        |_| Some((200, r#"{"result":{"TTL":"soon"},"kvs":[{"key":"?"}],"succeeded":7}"#)),
        |_| Some((200, "")),
        |_| Some((400, "CommonName of client sending a request against gateway will be ignored")),
    ];
    for (number, script) in scripts.into_iter().enumerate() {
        let server = Server::start(script);
        let a = node(&[&server]);
        let answers = [
            a.renew(LEASE, true, shortly()).await.map(drop),
            a.write(Some(LEASE), STATUS, shortly()).await,
            a.grant(Duration::from_secs(30), shortly()).await.map(drop),
            a.read(shortly()).await.map(drop),
        ];
        for answer in answers {
            assert!(matches!(answer, Err(Refused::Unreachable(_))), "script {number}: {answer:?}");
        }
    }
}

#[actix_rt::test]
async fn without_endpoints_nothing_is_reachable() {
    let refused = node(&[]).read(soon()).await.map(drop);
    assert!(matches!(refused, Err(Refused::Unreachable(why)) if why.contains("no etcd endpoint")));
}
