//! The adapter against real etcd servers: every guard passes and refuses, lost answers are read back, silent and dead
//! endpoints cost only their share.

mod common;

use common::*;
use pgherd_dcs::{Dcs, WatchEnded};
use pgherd_testkit::etcd::Etcd;
use pgherd_testkit::proxy::Proxy;
use pgherd_types::{
    DcsWrite, HistoryRow, Initialize, LeaseId, Lsn, MemberDoc, Refused, Role, SyncGuard, SystemId, Timeline,
};
use std::time::Duration;

const GONE: LeaseId = LeaseId(777);

fn rows() -> Vec<HistoryRow> {
    let (at, new_leader) = (Some("2026-01-02T03:04:05+00:00".to_owned()), Some("a".to_owned()));
    vec![HistoryRow { timeline: Timeline(1), switch_lsn: Lsn(67_109_040), reason: "no reason".into(), at, new_leader }]
}

#[actix_rt::test]
async fn the_script_works_on_one_member() {
    let etcd = Etcd::start();
    script(&node("a", &[etcd.url()]), &node("b", &[etcd.url()])).await;
}

#[actix_rt::test]
async fn a_lease_lives_by_renewal_and_its_loss_is_seen() {
    let etcd = Etcd::start();
    let a = node("a", &[etcd.url()]);
    let before = boottime();
    let grant = a.grant(TTL, soon()).await.unwrap();
    assert!(grant.sent_at >= before && grant.sent_at <= boottime());
    assert_eq!(grant.ttl_ms, 60_000);
    let renewed = a.renew(grant.lease, false, soon()).await.unwrap();
    assert_eq!((renewed.lease, renewed.ttl_ms), (grant.lease, 60_000));
    assert!(renewed.sent_at >= grant.sent_at);
    etcd.ctl(&["lease", "revoke", &format!("{:x}", grant.lease.0)]);
    assert_eq!(a.renew(grant.lease, false, soon()).await, Err(Refused::LeaseGone));
    assert_eq!(a.renew(grant.lease, true, soon()).await, Err(Refused::LeaseGone));
    assert_eq!(a.acquire(grant.lease, SyncGuard::At(None), soon()).await, Err(Refused::LeaseGone));
}

#[actix_rt::test]
async fn the_granted_ttl_counts_not_the_one_asked_for() {
    let etcd = Etcd::start();
    let grant = node("a", &[etcd.url()]).grant(Duration::from_millis(300), soon()).await.unwrap();
    assert!(grant.ttl_ms >= 1000, "{grant:?}");
}

#[actix_rt::test]
async fn one_of_two_gets_the_leader_key_and_only_that_one_can_prove_it() {
    let etcd = Etcd::start();
    let (a, on_a) = leader("a", &etcd).await;
    let b = node("b", &[etcd.url()]);
    let on_b = lease_of(&b).await;
    assert_eq!(b.acquire(on_b, SyncGuard::At(None), soon()).await, Err(Refused::Compare));
    assert_eq!(a.acquire(on_a, SyncGuard::At(None), soon()).await, Ok(()), "what we hold already is acquired");
    assert_eq!(a.renew(on_a, true, soon()).await.unwrap().lease, on_a);
    assert_eq!(b.renew(on_b, true, soon()).await, Err(Refused::Compare));
    assert!(b.renew(on_b, false, soon()).await.is_ok());
    assert_eq!(etcd.get(&key("leader")).unwrap(), "a");
    etcd.delete(&key("leader"));
    assert_eq!(a.renew(on_a, true, soon()).await, Err(Refused::Absent), "the lease lives but the key is gone");
}

#[actix_rt::test]
async fn our_name_on_a_foreign_lease_is_not_our_key() {
    let etcd = Etcd::start();
    let (_clone, _) = leader("a", &etcd).await;
    let a = node("a", &[etcd.url()]);
    let lease = lease_of(&a).await;
    assert_eq!(a.renew(lease, true, soon()).await, Err(Refused::Compare));
    assert_eq!(a.acquire(lease, SyncGuard::At(None), soon()).await, Err(Refused::Compare));
    assert_eq!(a.release(lease, None, soon()).await, Err(Refused::Compare));
    assert_eq!(a.write(Some(lease), DcsWrite::Status(status(1)), soon()).await, Err(Refused::Compare));
}

#[actix_rt::test]
async fn release_writes_status_and_frees_the_key_in_one_step() {
    let etcd = Etcd::start();
    let (a, on_a) = leader("a", &etcd).await;
    let b = node("b", &[etcd.url()]);
    let on_b = lease_of(&b).await;
    assert_eq!(b.release(on_b, Some(status(5)), soon()).await, Err(Refused::Compare));
    assert_eq!(etcd.get(&key("status")), None);
    a.release(on_a, Some(status(7)), soon()).await.unwrap();
    assert_eq!(etcd.get(&key("status")).unwrap(), r#"{"optime":7}"#);
    assert_eq!(etcd.get(&key("leader")), None);
    b.acquire(on_b, SyncGuard::At(None), soon()).await.unwrap();
    assert_eq!(a.release(on_a, Some(status(9)), soon()).await, Err(Refused::Compare));
    assert_eq!(etcd.get(&key("status")).unwrap(), r#"{"optime":7}"#);
}

#[actix_rt::test]
async fn a_deposed_leader_writes_nothing() {
    let etcd = Etcd::start();
    let (a, on_a) = leader("a", &etcd).await;
    a.write(Some(on_a), DcsWrite::Status(status(1)), soon()).await.unwrap();
    a.write(Some(on_a), DcsWrite::History(rows()), soon()).await.unwrap();
    let reserve = |timeline, seen: Option<u32>| DcsWrite::ReserveTimeline {
        timeline: Timeline(timeline),
        seen: seen.map(Timeline),
    };
    a.write(Some(on_a), reserve(2, None), soon()).await.unwrap();
    a.release(on_a, None, soon()).await.unwrap();
    let (b, on_b) = leader("b", &etcd).await;
    let late = [
        DcsWrite::Status(status(99)),
        DcsWrite::History(Vec::new()),
        reserve(3, Some(2)),
        DcsWrite::Config("{}".into()),
    ];
    for write in late {
        assert_eq!(a.write(Some(on_a), write.clone(), soon()).await, Err(Refused::Compare), "{write:?}");
        assert_eq!(a.write(None, write.clone(), soon()).await, Err(Refused::LeaseGone), "{write:?}");
    }
    let cluster = b.read(soon()).await.unwrap().cluster;
    assert_eq!((cluster.status, cluster.history), (status(1), Some(rows())));
    assert_eq!((cluster.timeline_reserved, cluster.config), (Some(Timeline(2)), None));
    b.write(Some(on_b), reserve(3, Some(2)), soon()).await.unwrap();
}

#[actix_rt::test]
async fn a_timeline_is_reserved_once() {
    let etcd = Etcd::start();
    let (a, lease) = leader("a", &etcd).await;
    let reserve = |timeline, seen: Option<u32>| {
        let write = DcsWrite::ReserveTimeline { timeline: Timeline(timeline), seen: seen.map(Timeline) };
        a.write(Some(lease), write, soon())
    };
    reserve(2, None).await.unwrap();
    assert_eq!(etcd.get(&key("timeline")).unwrap(), "2");
    assert_eq!(reserve(2, None).await, Err(Refused::Compare), "the number is taken, even by ourselves");
    assert_eq!(reserve(4, Some(3)).await, Err(Refused::Compare));
    reserve(3, Some(2)).await.unwrap();
    etcd.put(&key("timeline"), "rubbish");
    reserve(4, None).await.expect("garbage counts as absent");
}

#[actix_rt::test]
async fn both_keys_move_to_another_lease_in_one_step() {
    let etcd = Etcd::start();
    let (a, old) = leader("a", &etcd).await;
    a.write(Some(old), DcsWrite::Member(Box::default()), soon()).await.unwrap();
    let before = a.read(soon()).await.unwrap().cluster;
    let new = a.grant(Duration::from_secs(90), soon()).await.unwrap();
    assert_eq!((new.ttl_ms, new.asked_ttl_ms), (90_000, Some(90_000)));
    a.move_keys(old, new.lease, true, soon()).await.unwrap();
    let after = a.read(soon()).await.unwrap().cluster;
    let on = |cluster: &pgherd_types::Cluster| {
        (cluster.leader.as_ref().unwrap().lease.unwrap(), cluster.members[&"a".into()].lease.unwrap())
    };
    assert_eq!((on(&before), on(&after)), ((old, old), (new.lease, new.lease)));
    assert_eq!(after.members[&"a".into()].doc, before.members[&"a".into()].doc);
    assert_eq!(etcd.get(&key("leader")).unwrap(), "a");
    a.revoke(old, soon()).await;
    assert_eq!(a.renew(old, false, soon()).await, Err(Refused::LeaseGone));
    assert_eq!(a.renew(new.lease, true, soon()).await.unwrap().ttl_ms, 90_000);
    assert_eq!(a.move_keys(old, new.lease, true, soon()).await, Ok(()), "what has moved already has moved");
    assert_eq!(a.move_keys(new.lease, GONE, true, soon()).await, Err(Refused::LeaseGone));
}

#[actix_rt::test]
async fn a_key_that_is_not_ours_does_not_move() {
    let etcd = Etcd::start();
    let (b, on_b) = leader("b", &etcd).await;
    let a = node("a", &[etcd.url()]);
    let (old, new) = (lease_of(&a).await, lease_of(&a).await);
    a.write(Some(old), DcsWrite::Member(Box::default()), soon()).await.unwrap();
    assert_eq!(a.move_keys(old, new, true, soon()).await, Err(Refused::Compare));
    assert_eq!(a.read(soon()).await.unwrap().cluster.members[&"a".into()].lease, Some(old), "neither key moves");
    a.move_keys(old, new, false, soon()).await.unwrap();
    assert_eq!(a.read(soon()).await.unwrap().cluster.members[&"a".into()].lease, Some(new));
    assert!(b.renew(on_b, true, soon()).await.is_ok());
    etcd.delete(&key("leader"));
    assert_eq!(a.move_keys(new, old, true, soon()).await, Err(Refused::Absent));
}

#[actix_rt::test]
async fn a_move_whose_answer_is_lost_is_read_back() {
    let etcd = Etcd::start();
    let proxy = Proxy::start(etcd.port());
    let a = node("a", &[proxy.url()]);
    let (old, new) = (lease_of(&a).await, lease_of(&a).await);
    a.acquire(old, SyncGuard::At(None), soon()).await.unwrap();
    proxy.cut_one_reply(1);
    assert_eq!(a.move_keys(old, new, true, soon()).await, Ok(()));
    assert!(proxy.has_healed());
    assert!(a.renew(new, true, soon()).await.is_ok());
    proxy.stall_replies();
    let unknown = a.move_keys(new, old, true, in_ms(1500)).await;
    assert!(matches!(unknown, Err(Refused::Unreachable(_))), "{unknown:?}");
    proxy.heal();
    assert_eq!(a.move_keys(new, old, true, soon()).await, Ok(()), "whether or not the first copy arrived");
    assert!(a.renew(old, true, soon()).await.is_ok());
}

#[actix_rt::test]
async fn initialize_is_claimed_finished_dropped_and_adopted() {
    let etcd = Etcd::start();
    let (a, b) = (node("a", &[etcd.url()]), node("b", &[etcd.url()]));
    let (on_a, on_b) = (lease_of(&a).await, lease_of(&b).await);
    let id = SystemId(7_123_456_789_012_345_678);
    let refused = Err(Refused::Compare);
    for write in [DcsWrite::FinishInitialize(id), DcsWrite::DropInitialize] {
        assert_eq!(a.write(Some(on_a), write, soon()).await, refused, "nothing was claimed");
    }
    a.write(Some(on_a), DcsWrite::ClaimInitialize, soon()).await.unwrap();
    assert_eq!(b.read(soon()).await.unwrap().cluster.initialize, Some(Initialize::InProgress { lease: Some(on_a) }));
    for write in [
        DcsWrite::ClaimInitialize,
        DcsWrite::FinishInitialize(id),
        DcsWrite::DropInitialize,
        DcsWrite::AdoptInitialize(id),
    ] {
        assert_eq!(b.write(Some(on_b), write, soon()).await, refused, "the claim is a's");
    }
    a.write(Some(on_a), DcsWrite::DropInitialize, soon()).await.unwrap();
    b.write(Some(on_b), DcsWrite::ClaimInitialize, soon()).await.unwrap();
    b.write(Some(on_b), DcsWrite::FinishInitialize(id), soon()).await.unwrap();
    for write in [DcsWrite::FinishInitialize(id), DcsWrite::DropInitialize, DcsWrite::ClaimInitialize] {
        assert_eq!(b.write(Some(on_b), write, soon()).await, refused, "it is finished");
    }
    etcd.ctl(&["lease", "revoke", &format!("{:x}", on_b.0)]);
    assert_eq!(etcd.get(&key("initialize")).unwrap(), id.to_string(), "a finished key hangs on no lease");
    etcd.delete(&key("initialize"));
    a.write(None, DcsWrite::AdoptInitialize(id), soon()).await.unwrap();
    assert_eq!(a.read(soon()).await.unwrap().cluster.initialize, Some(Initialize::Done(id)));
}

#[actix_rt::test]
async fn a_claim_dies_with_its_bootstrapper() {
    let etcd = Etcd::start();
    let a = node("a", &[etcd.url()]);
    let lease = lease_of(&a).await;
    a.write(Some(lease), DcsWrite::ClaimInitialize, soon()).await.unwrap();
    etcd.ctl(&["lease", "revoke", &format!("{:x}", lease.0)]);
    assert_eq!(a.read(soon()).await.unwrap().cluster.initialize, None);
}

#[actix_rt::test]
async fn a_member_key_hangs_on_its_lease() {
    let etcd = Etcd::start();
    let a = node("a", &[etcd.url()]);
    let lease = lease_of(&a).await;
    let doc = MemberDoc { state: "running".into(), role: Some(Role::Replica), ..MemberDoc::default() };
    let write = DcsWrite::Member(Box::new(doc.clone()));
    a.write(Some(lease), write.clone(), soon()).await.unwrap();
    let member = a.read(soon()).await.unwrap().cluster.members[&"a".into()].clone();
    assert_eq!((member.doc, member.lease), (doc, Some(lease)));
    assert_eq!(a.write(Some(GONE), write, soon()).await, Err(Refused::LeaseGone));
}

#[actix_rt::test]
async fn config_is_repaired_but_never_overwritten() {
    let etcd = Etcd::start();
    let (a, lease) = leader("a", &etcd).await;
    let write = |text: &str| a.write(Some(lease), DcsWrite::Config(text.into()), soon());
    write(r#"{"ttl":30}"#).await.unwrap();
    assert_eq!(write(r#"{"ttl":40}"#).await, Err(Refused::Compare));
    assert_eq!(etcd.get(&key("config")).unwrap(), r#"{"ttl":30}"#);
    etcd.put(&key("config"), "[1]");
    write(r#"{"ttl":50}"#).await.unwrap();
    assert_eq!(etcd.get(&key("config")).unwrap(), r#"{"ttl":50}"#);
    assert!(matches!(write("[]").await, Err(Refused::Denied(_))));
}

#[actix_rt::test]
async fn garbage_from_others_is_read_and_complained_about() {
    let etcd = Etcd::start();
    let a = node("a", &[etcd.url()]);
    for name in ["status", "history", "config", "members/x", "timeline", "initialize"] {
        etcd.put(&key(name), "\u{1}{[");
    }
    let reading = a.read(soon()).await.unwrap();
    assert_eq!(reading.complaints.len(), 6, "{:?}", reading.complaints);
    assert!(reading.complaints.iter().all(|c| c.mod_revision > 0 && c.key.starts_with("/service/main/")));
    assert_eq!(reading.changed_at, reading.cluster.revision);
}

#[actix_rt::test]
async fn a_watch_sees_changes_of_the_prefix_only() {
    let etcd = Etcd::start();
    let a = node("a", &[etcd.url()]);
    let mut watch = a.watch(None, soon()).await.unwrap();
    etcd.put("/service/other/leader", "x");
    etcd.put(&key("leader"), "x");
    let event = tokio::time::timeout(PATIENCE, watch.next()).await.unwrap().unwrap();
    assert_eq!(event.revision, a.read(soon()).await.unwrap().cluster.revision);
    etcd.put(&key("status"), &"x".repeat(300_000)[..100_000]);
    let event = tokio::time::timeout(PATIENCE, watch.next()).await.unwrap().unwrap();
    assert_eq!(event.revision, a.read(soon()).await.unwrap().cluster.revision);
}

#[actix_rt::test]
async fn a_watch_from_a_compacted_revision_ends_and_a_new_one_works() {
    let etcd = Etcd::start();
    let a = node("a", &[etcd.url()]);
    for n in 0..5 {
        etcd.put(&key("leader"), &n.to_string());
    }
    let revision = a.read(soon()).await.unwrap().cluster.revision;
    etcd.ctl(&["compact", &revision.to_string()]);
    let ended = match a.watch(Some(1), soon()).await {
        Ok(mut watch) => tokio::time::timeout(PATIENCE, watch.next()).await.unwrap().map(|_| ()).unwrap_err(),
        Err(ended) => ended,
    };
    assert_eq!(ended, WatchEnded::Compacted { oldest: revision });
    let mut watch = a.watch(Some(revision), soon()).await.unwrap();
    etcd.put(&key("leader"), "x");
    assert_eq!(tokio::time::timeout(PATIENCE, watch.next()).await.unwrap().unwrap().revision, revision + 1);
}

#[actix_rt::test]
async fn an_open_watch_survives_a_compaction() {
    let etcd = Etcd::start();
    let a = node("a", &[etcd.url()]);
    let mut watch = a.watch(None, soon()).await.unwrap();
    for n in 0..3 {
        etcd.put(&key("leader"), &n.to_string());
    }
    let revision = a.read(soon()).await.unwrap().cluster.revision;
    etcd.ctl(&["compact", &revision.to_string()]);
    etcd.put(&key("leader"), "x");
    let mut seen = 0;
    while seen <= revision {
        seen = tokio::time::timeout(PATIENCE, watch.next()).await.unwrap().unwrap().revision;
    }
}

#[actix_rt::test]
async fn a_store_that_went_back_is_noticed() {
    let etcd = Etcd::start();
    let ended = node("a", &[etcd.url()]).watch(Some(1000), soon()).await.map(|_| ()).unwrap_err();
    assert!(matches!(ended, WatchEnded::WentBack { revision } if revision < 1000), "{ended:?}");
}

#[actix_rt::test]
async fn a_watch_ends_with_its_server() {
    let mut etcd = Etcd::start();
    let a = node("a", &[etcd.url()]);
    let mut watch = a.watch(None, soon()).await.unwrap();
    etcd.kill();
    assert!(tokio::time::timeout(PATIENCE, watch.next()).await.unwrap().is_err());
    assert!(a.watch(None, in_ms(500)).await.is_err());
}

#[actix_rt::test]
async fn requests_whose_answers_are_lost_are_read_back() {
    let etcd = Etcd::start();
    let proxy = Proxy::start(etcd.port());
    let a = node("a", &[proxy.url()]);
    let lease = lease_of(&a).await;
    // A comparison that fails because of our own first copy is not a rival. Each is cut in its transaction's answer,
    // after so many reads that come first.
    proxy.cut_one_reply(0);
    assert_eq!(a.acquire(lease, SyncGuard::At(None), soon()).await, Ok(()));
    assert!(proxy.has_healed());
    let id = SystemId(7_123_456_789_012_345_678);
    let timeline = Timeline(2);
    for (write, reads) in [
        (DcsWrite::ClaimInitialize, 0),
        (DcsWrite::DropInitialize, 1),
        (DcsWrite::ClaimInitialize, 0),
        (DcsWrite::FinishInitialize(id), 0),
        (DcsWrite::ReserveTimeline { timeline, seen: None }, 1),
        (DcsWrite::Config("{}".into()), 1),
        (DcsWrite::Status(status(3)), 0),
        (DcsWrite::History(rows()), 0),
        (DcsWrite::Member(Box::default()), 0),
    ] {
        proxy.cut_one_reply(reads);
        assert_eq!(a.write(Some(lease), write.clone(), soon()).await, Ok(()), "{write:?}");
        assert!(proxy.has_healed(), "{write:?}");
    }
    proxy.cut_one_reply(0);
    assert!(a.renew(lease, true, soon()).await.is_ok());
    proxy.cut_one_reply(1);
    assert_eq!(a.release(lease, Some(status(4)), soon()).await, Ok(()));
    assert!(proxy.has_healed());
    let cluster = a.read(soon()).await.unwrap().cluster;
    assert_eq!((cluster.leader, cluster.status), (None, status(4)));
    assert_eq!((cluster.initialize, cluster.timeline_reserved), (Some(Initialize::Done(id)), Some(timeline)));
}

#[actix_rt::test]
async fn a_lost_answer_that_cannot_be_read_back_is_unreachable() {
    let etcd = Etcd::start();
    let proxy = Proxy::start(etcd.port());
    let a = node("a", &[proxy.url()]);
    let lease = lease_of(&a).await;
    proxy.stall_replies();
    let refused = a.acquire(lease, SyncGuard::At(None), in_ms(1500)).await;
    assert!(matches!(refused, Err(Refused::Unreachable(_))), "{refused:?}");
    proxy.heal();
    assert_eq!(a.acquire(lease, SyncGuard::At(None), soon()).await, Ok(()), "whether or not the first copy arrived");
}

#[actix_rt::test]
async fn a_rival_that_took_the_key_meanwhile_is_told_apart_from_our_own_copy() {
    let etcd = Etcd::start();
    let proxy = Proxy::start(etcd.port());
    let a = node("a", &[proxy.url()]);
    let lease = lease_of(&a).await;
    proxy.stall();
    let (done, _rival) = tokio::join!(a.acquire(lease, SyncGuard::At(None), soon()), async {
        let rival = leader("b", &etcd).await;
        proxy.heal();
        rival
    });
    assert_eq!(done, Err(Refused::Compare));
}

#[actix_rt::test]
async fn dead_and_silent_endpoints_are_passed_over() {
    let etcd = Etcd::start();
    let silent = Proxy::start(etcd.port());
    silent.stall();
    let dead = format!("http://127.0.0.1:{}", pgherd_testkit::ports::lasting_port());
    let a = node("a", &[dead, silent.url(), etcd.url()]);
    // Far less than the sum of what waiting for each would cost; a generous bound, not a measurement.
    let deadline = in_ms(9000);
    let grant = a.grant(TTL, deadline).await.unwrap();
    a.acquire(grant.lease, SyncGuard::At(None), deadline).await.unwrap();
    assert!(a.renew(grant.lease, true, deadline).await.is_ok());
    a.read(deadline).await.unwrap();
    a.watch(None, deadline).await.unwrap();
}

#[actix_rt::test]
async fn an_endpoint_that_falls_silent_is_left_for_the_next() {
    let etcd = Etcd::start();
    let proxy = Proxy::start(etcd.port());
    let a = node("a", &[proxy.url(), etcd.url()]);
    let lease = lease_of(&a).await;
    a.acquire(lease, SyncGuard::At(None), soon()).await.unwrap();
    proxy.stall();
    let deadline = in_ms(9000);
    assert!(a.renew(lease, true, deadline).await.is_ok());
    a.write(Some(lease), DcsWrite::Status(status(1)), deadline).await.unwrap();
    proxy.heal();
    assert!(a.renew(lease, true, soon()).await.is_ok());
}

#[actix_rt::test]
async fn a_frozen_etcd_is_unreachable_within_the_deadline_and_comes_back_by_itself() {
    let etcd = Etcd::start();
    let (a, lease) = leader("a", &etcd).await;
    etcd.freeze();
    let refusals = [
        a.read(in_ms(600)).await.map(|_| ()),
        a.renew(lease, true, in_ms(600)).await.map(|_| ()),
        a.acquire(lease, SyncGuard::At(None), in_ms(600)).await,
        a.grant(TTL, in_ms(600)).await.map(|_| ()),
        a.write(Some(lease), DcsWrite::Status(status(1)), in_ms(600)).await,
        a.release(lease, None, in_ms(600)).await,
    ];
    for refused in refusals {
        assert!(matches!(refused, Err(Refused::Unreachable(_))), "{refused:?}");
    }
    assert!(a.watch(None, in_ms(600)).await.is_err());
    etcd.thaw();
    assert!(a.renew(lease, true, soon()).await.is_ok());
}

#[actix_rt::test]
async fn a_restarted_etcd_is_waited_for_until_the_deadline() {
    let mut etcd = Etcd::start();
    let (a, lease) = leader("a", &etcd).await;
    etcd.kill();
    let (renewed, ()) = tokio::join!(a.renew(lease, true, soon()), async { etcd.spawn_again() });
    assert!(renewed.is_ok(), "{renewed:?}");
}

#[actix_rt::test]
async fn a_member_without_a_majority_proves_nothing() {
    let etcds = Etcd::start_cluster(3);
    let (a, lease) = leader("a", &etcds[0]).await;
    assert!(a.renew(lease, true, soon()).await.is_ok());
    etcds[1].freeze();
    etcds[2].freeze();
    // The key is in local memory, and a transaction that only compares is answered from there: no proof.
    let compare_only = r#"{"compare":[{"target":"CREATE","key":"YWJz","create_revision":"0"}]}"#;
    let (status, body) = etcds[0].call("/v3/kv/txn", compare_only).unwrap();
    assert!(status == 200 && body.contains("succeeded"), "{body}");
    let refused = a.renew(lease, true, in_ms(2000)).await;
    assert!(matches!(refused, Err(Refused::Unreachable(_))), "{refused:?}");
    assert!(a.read(in_ms(500)).await.is_err());
    etcds[1].thaw();
    assert!(a.renew(lease, true, soon()).await.is_ok());
}

#[actix_rt::test]
async fn removing_a_cluster_removes_all_of_it_and_nothing_else() {
    let etcd = Etcd::start();
    let proxy = Proxy::start(etcd.port());
    let (a, lease) = leader("a", &etcd).await;
    a.write(Some(lease), DcsWrite::Member(Box::default()), soon()).await.unwrap();
    etcd.put(&key("config"), "{}");
    etcd.put(&key("members/x/y"), "left by somebody");
    let others = ["/service/main2/config", "/service/mai", "/service/main", "/service/main0"];
    others.iter().for_each(|key| etcd.put(key, "x"));
    // The answer to the first request is lost; the keys are gone all the same.
    let operator = node("", &[proxy.url()]);
    proxy.cut_one_reply(0);
    operator.remove_all(soon()).await.unwrap();
    assert!(proxy.has_healed());
    assert_eq!(etcd.ctl(&["get", "--prefix", "--keys-only", "/service/main/"]), "");
    assert!(others.iter().all(|key| etcd.get(key).is_some()));
    operator.remove_all(soon()).await.expect("nothing is there, and that is as asked");
    drop(etcd);
    assert!(matches!(operator.remove_all(in_ms(500)).await, Err(Refused::Unreachable(_))));
}
