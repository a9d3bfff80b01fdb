//! etcd with authentication: users, tokens that lapse or are forgotten, a wrong password.

mod common;

use common::*;
use pgherd_dcs::{Dcs, EtcdLogin, EtcdServer, WatchEnded};
use pgherd_testkit::etcd::{Etcd, EtcdSetup};
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
