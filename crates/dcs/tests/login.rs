//! etcd with authentication: users, tokens that lapse or are forgotten, a wrong password.

mod common;

use common::*;
use pgherd_dcs::{Dcs, EtcdLogin, EtcdServer, WatchEnded};
use pgherd_testkit::etcd::{Etcd, EtcdSetup};
use pgherd_testkit::postgres::TestDir;
use pgherd_types::{DcsWrite, Refused, SyncGuard};

fn login(username: &str, password: &str) -> Option<EtcdLogin> {
    Some(EtcdLogin { username: username.into(), password: password.into() })
}

fn guarded(etcd: &Etcd, username: &str, password: &str) -> EtcdServer {
    EtcdServer { login: login(username, password), discover: true, ..server(&[etcd.url()]) }
}

/// Three members with authentication; `agent` may do what it needs, `other` only below its own prefix.
fn start(setup: &EtcdSetup) -> Vec<Etcd> {
    let mut etcds = Etcd::start_setup(setup);
    let users = [("agent", "secret of agent", "/service/main/"), ("other", "secret of other", "/elsewhere/")];
    etcds[0].enable_auth("secret of root", &users);
    etcds.iter_mut().skip(1).for_each(|etcd| etcd.knows_root("secret of root"));
    etcds
}

#[actix_rt::test]
async fn everything_works_with_a_password_and_goes_on_when_tokens_are_forgotten() {
    let mut etcds = start(&EtcdSetup::members(3));
    let a = node_at("a", guarded(&etcds[0], "agent", "secret of agent"));
    script(&a, &node_at("b", guarded(&etcds[1], "agent", "secret of agent"))).await;
    let lease = lease_of(&a).await;
    a.acquire(lease, SyncGuard::At(None), soon()).await.unwrap();
    assert_eq!(a.survey(false, soon()).await.unwrap().members, 3, "the token is sent with that, too");
    let mut watch = a.watch(None, soon()).await.unwrap();
    a.write(Some(lease), DcsWrite::Status(status(1)), soon()).await.unwrap();
    assert!(tokio::time::timeout(PATIENCE, watch.next()).await.unwrap().is_ok());

    // a member that was restarted has forgotten all tokens
    for (number, etcd) in etcds.iter_mut().enumerate() {
        etcd.restart();
        a.renew(lease, true, soon()).await.unwrap();
        a.write(Some(lease), DcsWrite::Status(status(2 + number as u64)), soon()).await.unwrap();
    }
    assert!(a.release(lease, None, soon()).await.is_ok());
    let mut watch = a.watch(None, soon()).await.unwrap();
    etcds[0].put("/service/main/leader", "x");
    assert!(tokio::time::timeout(PATIENCE, watch.next()).await.unwrap().is_ok());
}

fn token_of(etcd: &Etcd) -> String {
    let login = r#"{"name":"agent","password":"secret of agent"}"#;
    let (_, answer) = etcd.call("/v3/auth/authenticate", login).expect("an answer");
    serde_json::from_str::<serde_json::Value>(&answer).expect("JSON")["token"].as_str().expect("a token").to_owned()
}

async fn is_valid(etcd: &Etcd, token: &str) -> bool {
    let request = awc::Client::default().post(format!("{}/v3/kv/range", etcd.url()));
    let request = request.insert_header(("Authorization", token));
    let answer = request.send_body(r#"{"key":"L3NlcnZpY2UvbWFpbi9sZWFkZXI="}"#).await.expect("an answer");
    assert!(answer.status() == 200 || answer.status() == 401, "{}", answer.status());
    answer.status() == 200
}

#[actix_rt::test]
async fn tokens_that_lapse_are_replaced_before_anybody_notices() {
    let directory = TestDir::new();
    let secret = directory.path().join("jwt");
    std::fs::write(&secret, "a secret of thirty-two bytes, and more").expect("write a secret");
    let token = format!("--auth-token=jwt,sign-method=HS256,priv-key={},ttl=3s", secret.display());
    let etcd = start(&EtcdSetup::members(1).with(&token)).remove(0);
    let a = node_at("a", guarded(&etcd, "agent", "secret of agent"));
    let lease = lease_of(&a).await;
    a.acquire(lease, SyncGuard::At(None), soon()).await.unwrap();
    let mut watch = a.watch(None, soon()).await.unwrap();
    let mut number = 0;
    for _ in 0..2 {
        let token = token_of(&etcd);
        while is_valid(&etcd, &token).await {
            number += 1;
            a.renew(lease, true, soon()).await.unwrap();
            a.write(Some(lease), DcsWrite::Status(status(number)), soon()).await.unwrap();
            assert!(tokio::time::timeout(PATIENCE, watch.next()).await.unwrap().is_ok(), "an open watch stays");
        }
    }
    // the first attempt may be the one that finds out that the token has lapsed
    eventually(PATIENCE, "a new watch can be opened", async || a.watch(None, soon()).await.ok()).await;
}

#[actix_rt::test]
async fn what_is_wrong_with_a_login_is_said_and_a_new_password_is_taken_over() {
    let etcd = start(&EtcdSetup::members(1)).remove(0);
    let nobody = node("a", &[etcd.url()]);
    let refused = nobody.read(soon()).await.map(drop);
    assert!(matches!(&refused, Err(Refused::Denied(why)) if why.contains("etcd3.username")), "{refused:?}");
    assert_eq!(nobody.login_refused(), None);

    let other = node_at("a", guarded(&etcd, "other", "secret of other"));
    let refused = other.read(soon()).await.map(drop);
    assert!(matches!(&refused, Err(Refused::Denied(why)) if why.contains("grant-permission")), "{refused:?}");
    assert_eq!(other.login_refused(), None, "etcd knows the user");
    let ended = other.watch(None, soon()).await.map(drop);
    assert!(matches!(&ended, Err(WatchEnded::Canceled(why)) if why.contains("permission denied")), "{ended:?}");

    let shared = guarded(&etcd, "agent", "wrong").shared();
    let agent = shared_node("a", shared.clone());
    let refused = agent.read(soon()).await.map(drop);
    assert!(matches!(&refused, Err(Refused::Denied(why)) if why.contains("etcd3.password")), "{refused:?}");
    let why = agent.login_refused().expect("etcd's own last word");
    assert!(why.contains("agent") && why.contains("authentication failed") && !why.contains("wrong"), "{why}");
    shared.store(std::sync::Arc::new(guarded(&etcd, "agent", "secret of agent")));
    agent.read(soon()).await.expect("the new password is in force");
    assert_eq!(agent.login_refused(), None);
    shared.store(std::sync::Arc::new(guarded(&etcd, "agent", "wrong again")));
    assert!(agent.read(soon()).await.is_err());
    assert_eq!(agent.login_refused(), None, "it has answered before: not a mistake of the start");
}

#[actix_rt::test]
async fn a_password_that_is_not_needed_does_no_harm() {
    let etcd = Etcd::start();
    let a = node_at("a", guarded(&etcd, "agent", "secret of agent"));
    a.read(soon()).await.unwrap();
    assert_eq!(a.login_refused(), None);
    let mut etcd = etcd;
    etcd.enable_auth("secret of root", &[("agent", "secret of agent", "/service/main/")]);
    a.read(soon()).await.expect("switched on while the agent runs");
}
