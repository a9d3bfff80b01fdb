//! The adapter against three members of etcd: one that is frozen, cut off or gone costs a fraction of a second, the others
//! are found by themselves, and etcd's own leader is told apart.

mod common;

use common::*;
use pgherd_dcs::{Dcs, EtcdServer};
use pgherd_testkit::etcd::{Etcd, EtcdSetup};
use pgherd_testkit::proxy::Proxy;
use pgherd_types::{DcsWrite, SyncGuard};
use std::time::Duration;

/// The longest that a renewal may take when a member is lost, etcd's leader perhaps: with the default ttl of 30 s the deadline
/// is 27 s away. And when that is known.
const LONGEST: (Duration, Duration) = (Duration::from_secs(5), Duration::from_millis(1500));

#[actix_rt::test]
async fn renewals_survive_any_one_member_that_is_frozen_or_cut_off() {
    let etcds = Etcd::start_cluster(3);
    let links: Vec<_> = etcds.iter().map(|etcd| Proxy::start(etcd.port())).collect();
    let urls: Vec<_> = links.iter().map(Proxy::url).collect();
    let a = node("a", &urls);
    let lease = lease_of(&a).await;
    a.acquire(lease, SyncGuard::At(None), soon()).await.unwrap();
    for (number, etcd) in etcds.iter().enumerate() {
        // whoever of them leads etcd is among the frozen: the others elect another one meanwhile
        etcd.freeze();
        for round in 0..3 {
            let begun = boottime();
            let longest = if round == 0 { LONGEST.0 } else { LONGEST.1 };
            let renewed = a.renew(lease, true, begun + longest).await;
            assert!(renewed.is_ok(), "member {number} frozen, renewal {round}: {renewed:?}");
            assert!(renewed.unwrap().sent_at >= begun);
        }
        a.write(Some(lease), DcsWrite::Status(status(number as u64)), boottime() + LONGEST.1).await.unwrap();
        etcd.thaw();
    }
    for (number, link) in links.iter().enumerate() {
        link.stall();
        for round in 0..3 {
            let renewed = a.renew(lease, true, boottime() + LONGEST.1).await;
            assert!(renewed.is_ok(), "member {number} cut off, renewal {round}: {renewed:?}");
        }
        link.heal();
    }
}

#[actix_rt::test]
async fn the_script_works_on_three_members() {
    let etcds = Etcd::start_cluster(3);
    let urls: Vec<_> = etcds.iter().map(Etcd::url).collect();
    script(&node("a", &urls), &node("b", &[urls[2].clone()])).await;
}

#[actix_rt::test]
async fn a_silent_endpoint_is_left_after_one_request_and_taken_up_again_later() {
    let etcd = Etcd::start();
    let (silent, well) = (Proxy::start(etcd.port()), Proxy::start(etcd.port()));
    let a = node("a", &[silent.url(), well.url()]);
    a.read(soon()).await.unwrap();
    silent.stall();
    a.read(soon()).await.unwrap();
    let begun = boottime();
    for _ in 0..20 {
        a.read(soon()).await.unwrap();
    }
    assert!(boottime().since(begun) < Duration::from_secs(3), "twenty readings, and none waits for the silent one");
    silent.heal();
    well.stall();
    a.read(soon()).await.expect("the first one works again");
}

#[actix_rt::test]
async fn members_are_found_by_the_one_that_is_named() {
    let mut etcds = Etcd::start_cluster(3);
    let server = EtcdServer { discover: true, ..server(&[etcds[0].url()]) };
    let a = node_at("a", server);
    assert_eq!(a.survey(false, soon()).await.unwrap().members, 3);
    etcds[0].kill();
    let lease = lease_of(&a).await;
    a.acquire(lease, SyncGuard::At(None), soon()).await.expect("the others are known");
    // nothing but the named one is known to who never asked
    assert!(node("b", &[etcds[0].url()]).read(in_ms(1000)).await.is_err());
}

#[actix_rt::test]
async fn a_watch_on_a_frozen_member_ends_within_seconds() {
    let etcds = Etcd::start_cluster(3);
    let a = node("a", &etcds.iter().map(Etcd::url).collect::<Vec<_>>());
    let mut watch = a.watch(None, soon()).await.unwrap();
    etcds[0].freeze();
    let ended = tokio::time::timeout(Duration::from_secs(15), watch.next()).await.expect("it is noticed");
    assert!(ended.unwrap_err().to_string().contains("no sign of life"));
    drop(watch);
    let mut watch = a.watch(None, soon()).await.expect("on another member");
    etcds[1].put("/service/main/leader", "x");
    assert!(tokio::time::timeout(PATIENCE, watch.next()).await.unwrap().is_ok());
}

#[actix_rt::test]
async fn a_watch_on_a_member_without_a_majority_ends_within_seconds() {
    let etcds = Etcd::start_cluster(3);
    let a = node("a", &[etcds[0].url()]);
    let mut watch = a.watch(None, soon()).await.unwrap();
    etcds[1].freeze();
    etcds[2].freeze();
    let ended = tokio::time::timeout(Duration::from_secs(20), watch.next()).await.expect("it is noticed");
    assert!(ended.unwrap_err().to_string().contains("no leader"));
}

#[actix_rt::test]
async fn etcds_leader_on_the_primarys_host_is_noticed_and_moved_away() {
    // by the way a packet to them would take, only the first of these addresses is this host's own
    let hosts = ["127.0.0.1", "127.0.0.2", "127.0.0.3"].map(str::to_owned).to_vec();
    let etcds = Etcd::start_setup(&EtcdSetup { hosts, ..EtcdSetup::members(3) });
    let urls: Vec<_> = etcds.iter().map(Etcd::url).collect();
    let leads = |etcd: &Etcd| {
        let status = etcd.call("/v3/maintenance/status", "{}").expect("a status").1;
        let status: serde_json::Value = serde_json::from_str(&status).unwrap();
        status["leader"] == status["header"]["member_id"]
    };
    let first_id = {
        let status: serde_json::Value =
            serde_json::from_str(&etcds[0].call("/v3/maintenance/status", "{}").unwrap().1).unwrap();
        status["header"]["member_id"].as_str().unwrap().parse::<u64>().unwrap()
    };
    if let Some(other) = etcds.iter().position(leads).filter(|leader| *leader != 0) {
        etcds[other].ctl(&["move-leader", &format!("{first_id:x}")]);
        eventually(PATIENCE, "the first member leads etcd", async || leads(&etcds[0]).then_some(())).await;
    }
    let watching = node("a", &urls);
    assert_eq!(watching.survey(false, soon()).await.unwrap().leader_here, None, "it only matters to who leads");
    let seen = eventually(PATIENCE, "all agree who leads", async || {
        watching.survey(true, soon()).await.ok().filter(|survey| survey.leader_here == Some(true))
    });
    assert_eq!(seen.await.moved_to, None, "nobody asked for it");
    let moving = node_at("a", EtcdServer { move_leader: true, ..server(&urls) });
    let moved = eventually(PATIENCE, "it is moved", async || moving.survey(true, soon()).await.ok()?.moved_to).await;
    assert!(["m1", "m2"].contains(&moved.as_str()));
    eventually(PATIENCE, "another member leads etcd", async || {
        moving.survey(true, soon()).await.ok().filter(|survey| survey.leader_here == Some(false))
    })
    .await;
    assert!(!leads(&etcds[0]));
}
