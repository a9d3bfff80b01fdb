//! Answers as real servers gave them (`tests/golden/<version>/`, recorded by `tests/golden/record`): every shape is read
//! alike, whatever the version.

use super::etcd_error::EtcdError;
use super::wire::{
    Framed, LeaseReply, MembersReply, RangeReply, StatusReply, TokenReply, TxnReply, WatchFrame, answered,
};
use std::path::PathBuf;

/// Body and HTTP status.
struct Answer {
    body: String,
    status: u16,
}

fn golden(version: &str, name: &str) -> Answer {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(version).join(name);
    let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let (body, status) = text.trim_end().rsplit_once('\n').unwrap();
    Answer { body: body.to_owned(), status: status.parse().unwrap() }
}

const VERSIONS: [&str; 2] = ["3.4.23", "3.5.1"];

fn each(name: &str, check: impl Fn(&str, &Answer)) {
    for version in VERSIONS {
        check(version, &golden(version, name));
    }
}

fn read<T: serde::de::DeserializeOwned>(version: &str, answer: &Answer) -> T {
    assert!(
        answered(answer.body.as_bytes()).is_some_and(|header| header.cluster_id != 0),
        "{version}: {}",
        answer.body
    );
    serde_json::from_str(&answer.body).unwrap_or_else(|e| panic!("{version}: {e}: {}", answer.body))
}

#[test]
fn leases() {
    each("grant", |version, answer| {
        let reply: LeaseReply = read(version, answer);
        assert_eq!((reply.id, reply.ttl_s), (777, 30));
    });
    for (name, ttl_s) in [("keepalive", 30), ("keepalive_gone", 0)] {
        each(name, |version, answer| {
            assert_eq!(answer.status, 200, "also for a lease that is gone");
            assert_eq!(read::<Framed<LeaseReply>>(version, answer).result.unwrap().ttl_s, ttl_s);
        });
    }
}

#[test]
fn transactions_and_ranges() {
    for (name, succeeded, reads) in
        [("txn_created", true, 0), ("txn_refused", false, 0), ("proof", true, 1), ("proof_refused", false, 1)]
    {
        each(name, |version, answer| {
            let reply: TxnReply = read(version, answer);
            assert_eq!(reply.succeeded, succeeded, "{version} {name}");
            let read: Vec<_> = reply.reads().collect();
            assert_eq!(read.len(), reads);
            assert!(read.iter().all(|kv| kv.as_ref().is_some_and(|kv| kv.lease.is_some_and(|lease| lease.0 == 777))));
        });
    }
    each("range", |version, answer| {
        let reply: RangeReply = read(version, answer);
        assert_eq!((reply.header.revision, reply.count), (2, 1));
        let kv = reply.keys().remove(0);
        assert_eq!((kv.key.as_slice(), kv.value.as_slice()), (&b"/service/main/leader"[..], &b"a"[..]));
    });
    each("range_empty", |version, answer| assert_eq!(read::<RangeReply>(version, answer).count, 0));
}

#[test]
fn watches() {
    let frames = |answer: &Answer| -> Vec<WatchFrame> {
        let lines = answer.body.lines().filter(|line| !line.is_empty());
        lines.map(|line| serde_json::from_str::<Framed<WatchFrame>>(line).unwrap().result.unwrap()).collect()
    };
    each("watch_created", |_, answer| assert!(frames(answer)[0].created));
    each("watch_event", |_, answer| assert_eq!(frames(answer)[1].events.len(), 1));
    each("watch_compacted", |_, answer| {
        let last = frames(answer).pop().unwrap();
        assert!(last.canceled && last.compact_revision == 4);
    });
    each("watch_denied", |_, answer| {
        let last = frames(answer).pop().unwrap();
        assert!(last.canceled && last.cancel_reason.contains("etcdserver: "));
    });
}

#[test]
fn etcd_itself() {
    each("members", |version, answer| {
        let members = read::<MembersReply>(version, answer).members;
        assert_eq!((members.len(), members[0].client_urls.len(), members[0].is_learner), (1, 1, false));
        let status: StatusReply = read(version, &golden(version, "status"));
        assert_eq!(status.leader, members[0].id);
        assert!(status.errors.is_empty());
    });
    each("login", |version, answer| assert!(!read::<TokenReply>(version, answer).token.is_empty()));
}

#[test]
fn errors() {
    for (name, code, text) in [
        ("auth_off", 9, "authentication is not enabled"),
        ("bad_password", 3, "authentication failed, invalid user ID or password"),
        ("bad_token", 16, "invalid auth token"),
        ("no_login", 3, "user name is empty"),
        ("denied", 7, "permission denied"),
        ("grant_again", 9, "lease already exists"),
        ("put_lease_gone", 5, "requested lease not found"),
        ("range_future", 11, "required revision is a future revision"),
        ("range_bad_json", 3, ""),
        ("range_bad_base64", 3, ""),
    ] {
        each(name, |version, answer| {
            let error = EtcdError::parse(answer.body.as_bytes()).unwrap_or_else(|| panic!("{version} {name}"));
            assert_eq!(error.code, code, "{version} {name}");
            assert!(error.message.contains(text), "{version} {name}: {}", error.message);
            assert!(answer.status >= 400 && !error.is_no_answer(), "{version} {name}");
            assert_eq!(error.is_about_login(), matches!(name, "bad_token" | "no_login"), "{version} {name}");
            assert_eq!(error.auth_is_off(), name == "auth_off");
            assert_eq!(error.lease_gone(), name == "put_lease_gone");
            assert!(answered(answer.body.as_bytes()).is_none(), "an error is no answer");
        });
    }
    each("not_found", |_, answer| assert!(EtcdError::parse(answer.body.as_bytes()).is_none() && answer.status == 404));
}
