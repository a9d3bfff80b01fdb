//! The adapter for etcd's v2 API against real servers: the same script, and what is different where there are neither leases
//! nor transactions.

mod common;

use common::*;
use pgherd_dcs::{Dcs, Etcd2, WatchEnded};
use pgherd_testkit::etcd::{Etcd, EtcdSetup};
use pgherd_testkit::proxy::Proxy;
use pgherd_types::{
    DcsWrite, Initialize, LeaseId, MemberDoc, Refused, SyncGuard, SyncNames, SyncWrite, SystemId, Timeline,
};
use std::time::Duration;

const ID: SystemId = SystemId(7_123_456_789_012_345_678);

fn start(members: usize) -> Vec<Etcd> {
    Etcd::start_setup(&EtcdSetup::members(members).with_v2())
}

fn one() -> Etcd {
    start(1).remove(0)
}

async fn granted(node: &Etcd2, ttl: Duration) -> LeaseId {
    node.grant(ttl, soon()).await.unwrap().lease
}

/// As the kernel does it: the member key first.
async fn joined(name: &str, urls: &[String]) -> (Etcd2, LeaseId) {
    let node = node2(name, urls);
    let lease = granted(&node, TTL).await;
    member(&node, lease).await;
    (node, lease)
}

async fn member(node: &Etcd2, lease: LeaseId) {
    node.write(Some(lease), DcsWrite::Member(Box::default()), soon()).await.unwrap();
}

async fn leader2(name: &str, etcd: &Etcd) -> (Etcd2, LeaseId) {
    let (node, lease) = joined(name, &[etcd.url()]).await;
    node.acquire(lease, SyncGuard::At(None), soon()).await.unwrap();
    (node, lease)
}

fn value(etcd: &Etcd, name: &str) -> Option<String> {
    let (status, body) = etcd.v2("GET", &key(name), "quorum=true").unwrap();
    let body: serde_json::Value = serde_json::from_str(&body).unwrap();
    (status == 200).then(|| body["node"]["value"].as_str().unwrap().to_owned())
}

fn put(etcd: &Etcd, name: &str, form: &str) {
    let (status, body) = etcd.v2("PUT", &key(name), form).unwrap();
    assert!(status < 300, "{body}");
}

fn delete(etcd: &Etcd, name: &str) {
    assert_eq!(etcd.v2("DELETE", &key(name), "").unwrap().0, 200);
}

fn sync(leader: &str, quorum: u32, seen: Option<i64>) -> DcsWrite {
    DcsWrite::Sync(SyncWrite { leader: leader.into(), quorum, standbys: SyncNames::default(), seen })
}

async fn lease_of_leader(node: &Etcd2) -> Option<LeaseId> {
    node.read(soon()).await.unwrap().cluster.leader.expect("a leader").lease
}

#[actix_rt::test]
async fn the_script_works_on_one_member_and_on_three() {
    let etcd = one();
    script(&node2("a", &[etcd.url()]), &node2("b", &[etcd.url()])).await;
    let etcds = start(3);
    script(&node2("a", &[etcds[0].url()]), &node2("b", &[etcds[2].url()])).await;
}

#[actix_rt::test]
async fn an_etcd_without_the_api_is_named_and_asked_again() {
    let etcd = Etcd::start();
    let a = node2("a", &[etcd.url()]);
    for refused in [a.read(soon()).await.map(drop), a.grant(TTL, in_ms(500)).await.map(drop)] {
        assert!(matches!(&refused, Err(Refused::Unreachable(why)) if why.contains("--enable-v2")), "{refused:?}");
    }
    let ended = a.watch(None, soon()).await.map(drop).unwrap_err();
    assert!(ended.to_string().contains("--enable-v2"), "{ended:?}");
    assert_eq!(a.login_refused(), None);
}

#[actix_rt::test]
async fn the_leader_key_is_proven_by_its_creation() {
    let etcd = one();
    let (a, on_a) = leader2("a", &etcd).await;
    let (b, on_b) = joined("b", &[etcd.url()]).await;
    assert_eq!(value(&etcd, "leader").as_deref(), Some("a"), "nothing but the name, for others");
    assert_eq!(b.acquire(on_b, SyncGuard::At(None), soon()).await, Err(Refused::Compare));
    assert_eq!(a.acquire(on_a, SyncGuard::At(None), soon()).await, Ok(()), "what we hold already is acquired");
    let before = boottime();
    let renewed = a.renew(on_a, true, soon()).await.unwrap();
    assert!(renewed.sent_at >= before && renewed.sent_at <= boottime());
    assert_eq!((renewed.lease, renewed.ttl_ms), (on_a, 60_000));
    assert_eq!(lease_of_leader(&b).await, Some(on_a), "the tag of a's member key says so");
    assert_eq!(b.renew(on_b, true, soon()).await, Err(Refused::Compare));
    delete(&etcd, "leader");
    assert_eq!(a.renew(on_a, true, soon()).await, Err(Refused::Absent), "somebody removed it before its time");
    a.acquire(on_a, SyncGuard::Unguarded, soon()).await.unwrap();
    delete(&etcd, "leader");
    put(&etcd, "leader", "value=a&ttl=60");
    assert_eq!(a.renew(on_a, true, soon()).await, Err(Refused::Compare), "our name, but another creation");
    assert_eq!(a.release(on_a, None, soon()).await, Err(Refused::Compare));
    assert_eq!(a.write(Some(on_a), DcsWrite::Status(status(1)), soon()).await, Err(Refused::Compare));
    assert_eq!(a.acquire(on_a, SyncGuard::At(None), soon()).await, Err(Refused::Compare));
    assert_ne!(lease_of_leader(&a).await, Some(on_a));
}

#[actix_rt::test]
async fn keys_that_are_not_renewed_lapse_and_the_lease_with_them() {
    let etcd = one();
    let a = node2("a", &[etcd.url()]);
    let lease = granted(&a, Duration::from_secs(1)).await;
    member(&a, lease).await;
    a.acquire(lease, SyncGuard::At(None), soon()).await.unwrap();
    a.write(Some(lease), DcsWrite::ClaimInitialize, soon()).await.unwrap();
    let renewals_until = boottime() + Duration::from_secs(4);
    while boottime() < renewals_until {
        a.renew(lease, true, soon()).await.expect("it is renewed, and so it does not lapse");
        tokio::task::yield_now().await;
    }
    for name in ["leader", "members/a", "initialize"] {
        eventually(PATIENCE, "the key lapses", async || value(&etcd, name).is_none().then_some(())).await;
    }
    assert_eq!(a.renew(lease, true, soon()).await, Err(Refused::LeaseGone));
    assert_eq!(a.renew(lease, false, soon()).await, Err(Refused::LeaseGone));
    assert_eq!(a.acquire(lease, SyncGuard::At(None), soon()).await, Err(Refused::LeaseGone));
    let again = granted(&a, TTL).await;
    assert_ne!(again, lease);
    a.acquire(again, SyncGuard::At(None), soon()).await.unwrap();
}

#[actix_rt::test]
async fn a_restarted_agent_goes_on_with_its_lease_and_a_namesake_does_not() {
    let etcd = one();
    let (a, lease) = leader2("a", &etcd).await;
    a.renew(lease, true, soon()).await.unwrap();
    drop(a);
    let successor = node2("a", &[etcd.url()]);
    assert_eq!(lease_of_leader(&successor).await, Some(lease));
    assert_eq!(successor.renew(lease, true, soon()).await.unwrap().ttl_ms, 60_000);
    successor.write(Some(lease), DcsWrite::Status(status(3)), soon()).await.unwrap();

    let (namesake, other) = (node2("a", &[etcd.url()]), granted(&successor, TTL).await);
    assert_eq!(namesake.renew(other, true, soon()).await, Err(Refused::LeaseGone), "nobody of this name has that");
    let own = granted(&namesake, TTL).await;
    assert_eq!(namesake.renew(own, true, soon()).await, Err(Refused::Compare));
    member(&namesake, own).await;
    assert_eq!(namesake.acquire(own, SyncGuard::At(None), soon()).await, Err(Refused::Compare));
    assert_eq!(namesake.write(Some(own), DcsWrite::Status(status(9)), soon()).await, Err(Refused::Compare));
    assert_eq!(successor.renew(lease, false, soon()).await, Err(Refused::LeaseGone), "the name is another's now");
}

#[actix_rt::test]
async fn a_namesake_that_takes_the_name_while_the_key_is_taken_spoils_it() {
    let etcd = one();
    let (a, on_a) = joined("a", &[etcd.url()]).await;
    let (_namesake, _) = joined("a", &[etcd.url()]).await;
    assert_eq!(a.acquire(on_a, SyncGuard::At(None), soon()).await, Err(Refused::Compare));
    assert_eq!(value(&etcd, "leader"), None, "what was created is given back");
    member(&a, on_a).await;
    a.acquire(on_a, SyncGuard::At(None), soon()).await.unwrap();
}

#[actix_rt::test]
async fn a_patroni_beside_us_is_understood() {
    let etcd = one();
    put(&etcd, "leader", "value=p&ttl=30");
    put(&etcd, "members/p", "value={\"state\":\"running\",\"role\":\"primary\"}&ttl=30");
    put(&etcd, "initialize", "value=");
    let (b, on_b) = joined("b", &[etcd.url()]).await;
    let cluster = b.read(soon()).await.unwrap().cluster;
    let lease = cluster.leader.as_ref().unwrap().lease;
    assert!(lease.is_some() && lease != Some(on_b), "it lapses by itself, and is not ours");
    assert_eq!(cluster.initialize, Some(Initialize::InProgress { lease: None }), "nobody keeps that alive");
    // its renewal by value
    put(&etcd, "leader", "value=p&ttl=30&prevValue=p");
    assert_eq!(lease_of_leader(&b).await, lease, "the same creation");
    assert_eq!(b.acquire(on_b, SyncGuard::At(None), soon()).await, Err(Refused::Compare));
    put(&etcd, "leader", "value=p&prevValue=p");
    assert_eq!(lease_of_leader(&b).await, None, "it stays for ever");
    delete(&etcd, "leader");
    b.acquire(on_b, SyncGuard::At(None), soon()).await.unwrap();
    b.renew(on_b, true, soon()).await.unwrap();
    // a Patroni of our own name renews our key and writes its member key
    put(&etcd, "leader", "value=b&ttl=30&prevValue=b");
    b.renew(on_b, true, soon()).await.expect("whoever that was, the key is ours");
    put(&etcd, "members/b", "value={}&ttl=30");
    put(&etcd, "leader", "value=b&ttl=30&prevValue=b");
    assert_eq!(b.renew(on_b, true, soon()).await, Err(Refused::Compare));
}

#[actix_rt::test]
async fn the_key_is_taken_only_as_the_race_was_judged() {
    let etcd = one();
    let (a, on_a) = leader2("a", &etcd).await;
    let (b, on_b) = joined("b", &[etcd.url()]).await;
    a.write(Some(on_a), sync("a", 0, None), soon()).await.unwrap();
    let judged_by = b.read(soon()).await.unwrap().cluster.sync.revision();
    a.write(Some(on_a), sync("a", 1, judged_by), soon()).await.unwrap();
    delete(&etcd, "leader");
    for guard in [SyncGuard::At(judged_by), SyncGuard::At(None)] {
        assert_eq!(b.acquire(on_b, guard, soon()).await, Err(Refused::Compare));
        assert_eq!(value(&etcd, "leader"), None, "given back");
    }
    let judged_by = b.read(soon()).await.unwrap().cluster.sync.revision();
    b.acquire(on_b, SyncGuard::At(judged_by), soon()).await.unwrap();
    b.write(Some(on_b), sync("b", 2, judged_by), soon()).await.expect("it is as the race was judged by");
    // what a sent before it was deposed, as it would arrive now
    let late = format!("value=late&prevIndex={}", judged_by.unwrap());
    assert_eq!(etcd.v2("PUT", &key("sync"), &late).unwrap().0, 412);
    assert!(value(&etcd, "sync").unwrap().contains("\"quorum\":2"), "it is the new leader's");
    assert_eq!(
        b.write(Some(on_b), DcsWrite::DropSync { seen: judged_by.unwrap() }, soon()).await,
        Err(Refused::Compare)
    );
    let seen = b.read(soon()).await.unwrap().cluster.sync.revision().unwrap();
    b.write(Some(on_b), DcsWrite::DropSync { seen }, soon()).await.unwrap();
    assert_eq!(value(&etcd, "sync"), None);
}

#[actix_rt::test]
async fn a_deposed_leader_never_overwrites_its_successor() {
    let etcd = one();
    for round in 0..5 {
        let (a, on_a) = leader2("a", &etcd).await;
        let (b, on_b) = joined("b", &[etcd.url()]).await;
        let writes = |number: u32, name: &str, seen: Option<i64>| {
            vec![
                DcsWrite::Status(status(number.into())),
                DcsWrite::History(Vec::new()),
                DcsWrite::ReserveTimeline { timeline: Timeline(number), seen: None },
                sync(name, number, seen),
            ]
        };
        let deposed = async {
            // it does not know, and goes on until the successor has written everything, and then some
            let mut refused = 0;
            while refused < 5 {
                for write in writes(1 + round, "a", None) {
                    let is_status = write.key() == "status";
                    let answer = a.write(Some(on_a), write, soon()).await;
                    refused += u32::from(is_status && answer == Err(Refused::Compare));
                }
            }
        };
        let successor = async {
            delete(&etcd, "leader");
            let seen = loop {
                match b.acquire(on_b, SyncGuard::Unguarded, soon()).await {
                    Ok(()) => break b.read(soon()).await.unwrap().cluster,
                    Err(_) => tokio::task::yield_now().await,
                }
            };
            for write in writes(100 + round, "b", seen.sync.revision()) {
                let write = match write {
                    DcsWrite::ReserveTimeline { timeline, .. } => {
                        DcsWrite::ReserveTimeline { timeline, seen: seen.timeline_reserved }
                    }
                    other => other,
                };
                let mut answer = b.write(Some(on_b), write.clone(), soon()).await;
                if answer == Err(Refused::Compare) {
                    // what the deposed one had sent came a moment before: the guard is the key's, and says so
                    let now = b.read(soon()).await.unwrap().cluster;
                    let write = match write.clone() {
                        DcsWrite::Sync(write) => DcsWrite::Sync(SyncWrite { seen: now.sync.revision(), ..write }),
                        DcsWrite::ReserveTimeline { timeline, .. } => {
                            DcsWrite::ReserveTimeline { timeline, seen: now.timeline_reserved }
                        }
                        other => other,
                    };
                    answer = b.write(Some(on_b), write, soon()).await;
                }
                answer.unwrap_or_else(|e| panic!("{write:?}: {e:?}"));
            }
        };
        tokio::join!(deposed, successor);
        let after = b.read(soon()).await.unwrap().cluster;
        assert_eq!(after.leader.map(|key| key.lease), Some(Some(on_b)));
        assert_eq!(
            (after.status, after.timeline_reserved),
            (status((100 + round).into()), Some(Timeline(100 + round)))
        );
        assert!(value(&etcd, "sync").unwrap().contains(&format!("\"quorum\":{}", 100 + round)));
        b.remove_all(soon()).await.unwrap();
    }
}

#[actix_rt::test]
async fn requests_whose_answers_are_lost_are_read_back() {
    let etcd = one();
    let proxy = Proxy::start(etcd.port());
    let (a, lease) = joined("a", &[proxy.url()]).await;
    put(&etcd, "sync", "value={\"leader\":\"x\"}");
    let judged_by = a.read(soon()).await.unwrap().cluster.sync.revision();
    // the creation, then the look
    for answers in [0, 1] {
        proxy.cut_one_reply(answers);
        assert_eq!(a.acquire(lease, SyncGuard::At(judged_by), soon()).await, Ok(()), "answer {answers}");
        assert!(proxy.has_healed());
        if answers < 1 {
            a.release(lease, None, soon()).await.unwrap();
        }
    }
    for (write, answers) in [
        (DcsWrite::AdoptInitialize(ID), 0),
        (DcsWrite::Config("{}".into()), 1),
        (DcsWrite::Status(status(3)), 1),
        (DcsWrite::History(Vec::new()), 1),
        (DcsWrite::Member(Box::default()), 0),
    ] {
        proxy.cut_one_reply(answers);
        assert_eq!(a.write(Some(lease), write.clone(), soon()).await, Ok(()), "{write:?}");
        assert!(proxy.has_healed(), "{write:?}");
    }
    // whose number is there is not known, so it is nobody's, and the next one is taken
    let reserve = |timeline, seen: Option<u32>| {
        let write = DcsWrite::ReserveTimeline { timeline: Timeline(timeline), seen: seen.map(Timeline) };
        a.write(Some(lease), write, soon())
    };
    proxy.cut_one_reply(1);
    assert_eq!(reserve(2, None).await, Err(Refused::Compare));
    assert_eq!(reserve(3, Some(2)).await, Ok(()));
    proxy.cut_one_reply(0);
    assert!(a.renew(lease, true, soon()).await.is_ok());
    assert!(proxy.has_healed());
    assert!(a.renew(lease, true, soon()).await.is_ok());
    let new = granted(&a, Duration::from_secs(90)).await;
    for answers in [1, 3] {
        proxy.cut_one_reply(answers);
        assert_eq!(a.move_keys(lease, new, true, soon()).await, Ok(()), "answer {answers}");
        assert!(proxy.has_healed());
    }
    assert_eq!(a.renew(new, true, soon()).await.unwrap().ttl_ms, 90_000);
    proxy.cut_one_reply(3);
    assert_eq!(a.release(new, Some(status(4)), soon()).await, Ok(()));
    assert!(proxy.has_healed());
    let cluster = a.read(soon()).await.unwrap().cluster;
    assert_eq!((cluster.leader, cluster.status), (None, status(4)));
}

#[actix_rt::test]
async fn a_key_that_a_late_request_left_behind_is_nobodys_and_is_cleaned_up() {
    let etcd = one();
    let proxy = Proxy::start(etcd.port());
    let (a, lease) = joined("a", &[proxy.url()]).await;
    proxy.stall_replies();
    let refused = a.acquire(lease, SyncGuard::At(None), in_ms(1000)).await;
    assert!(matches!(refused, Err(Refused::Unreachable(_))), "{refused:?}");
    proxy.heal();
    eventually(PATIENCE, "it was created", async || value(&etcd, "leader")).await;
    assert_ne!(lease_of_leader(&a).await, Some(lease), "nobody has looked at the sync key since");
    assert_eq!(a.write(Some(lease), DcsWrite::Status(status(1)), soon()).await, Err(Refused::Compare));
    a.renew(lease, false, soon()).await.unwrap();
    assert_eq!(value(&etcd, "leader"), None);
    a.acquire(lease, SyncGuard::At(None), soon()).await.unwrap();
    a.renew(lease, false, soon()).await.unwrap();
    assert_eq!(lease_of_leader(&a).await, Some(lease), "what is confirmed is left alone");
}

#[actix_rt::test]
async fn initialize_is_claimed_finished_and_dropped() {
    let etcd = one();
    let (a, on_a) = joined("a", &[etcd.url()]).await;
    let (b, on_b) = joined("b", &[etcd.url()]).await;
    a.write(Some(on_a), DcsWrite::ClaimInitialize, soon()).await.unwrap();
    a.renew(on_a, false, soon()).await.unwrap();
    let seen = |initialize: &Option<Initialize>| match initialize {
        Some(Initialize::InProgress { lease }) => *lease,
        other => panic!("{other:?}"),
    };
    assert_eq!(seen(&a.read(soon()).await.unwrap().cluster.initialize), Some(on_a));
    assert!(seen(&b.read(soon()).await.unwrap().cluster.initialize).is_some_and(|lease| lease != on_b));
    for write in [DcsWrite::ClaimInitialize, DcsWrite::FinishInitialize(ID), DcsWrite::DropInitialize] {
        assert_eq!(b.write(Some(on_b), write, soon()).await, Err(Refused::Compare), "the claim is a's");
    }
    a.write(Some(on_a), DcsWrite::DropInitialize, soon()).await.unwrap();
    b.write(Some(on_b), DcsWrite::ClaimInitialize, soon()).await.unwrap();
    b.write(Some(on_b), DcsWrite::FinishInitialize(ID), soon()).await.unwrap();
    b.revoke(on_b, soon()).await;
    let cluster = a.read(soon()).await.unwrap().cluster;
    assert_eq!(cluster.initialize, Some(Initialize::Done(ID)), "a finished key lapses with nobody");
    assert_eq!(cluster.members.len(), 1);
    assert_eq!(a.write(None, DcsWrite::AdoptInitialize(ID), soon()).await, Err(Refused::Compare));
}

#[actix_rt::test]
async fn what_operators_write_is_guarded_by_the_keys_index() {
    let etcd = one();
    let (a, lease) = leader2("a", &etcd).await;
    a.write(Some(lease), DcsWrite::Config("{\"ttl\":30}".into()), soon()).await.unwrap();
    assert_eq!(a.write(Some(lease), DcsWrite::Config("{}".into()), soon()).await, Err(Refused::Compare));
    let operator = node2("", &[etcd.url()]);
    let seen = operator.read(soon()).await.unwrap().cluster.config.unwrap().mod_revision;
    // every character that has a meaning in forms and URLs
    let text = "{\"a\":\"x&y=z+ %25 ä#?\"}".to_owned();
    operator.write(None, DcsWrite::ReplaceConfig { text: text.clone(), seen }, soon()).await.unwrap();
    assert_eq!(value(&etcd, "config"), Some(text.clone()));
    assert_eq!(
        operator.write(None, DcsWrite::ReplaceConfig { text, seen }, soon()).await,
        Err(Refused::Compare),
        "it was changed since"
    );
    operator.remove_all(soon()).await.unwrap();
    operator.remove_all(soon()).await.expect("nothing is there, and that is as asked");
    assert_eq!(a.renew(lease, true, soon()).await, Err(Refused::Absent));
}

#[actix_rt::test]
async fn a_watch_sees_changes_and_no_renewals() {
    let etcd = one();
    let (a, lease) = leader2("a", &etcd).await;
    a.renew(lease, true, soon()).await.unwrap(); // writes the tag
    let changed_at = a.read(soon()).await.unwrap().changed_at;
    let mut watch = a.watch(None, soon()).await.unwrap();
    a.renew(lease, true, soon()).await.unwrap();
    assert_eq!(a.read(soon()).await.unwrap().changed_at, changed_at, "a renewal is no change");
    etcd.v2("PUT", "/service/other/leader", "value=x").unwrap();
    put(&etcd, "status", "value=1");
    let index = a.read(soon()).await.unwrap().cluster.revision;
    let event = tokio::time::timeout(PATIENCE, watch.next()).await.unwrap().unwrap();
    assert_eq!(event.revision, index, "neither the renewals nor another cluster's key");
    // changes between two requests are not missed
    put(&etcd, "status", "value=2");
    put(&etcd, "status", "value=3");
    for more in 1..=2 {
        let event = tokio::time::timeout(PATIENCE, watch.next()).await.unwrap().unwrap();
        assert_eq!(event.revision, index + more);
    }
    assert!(matches!(a.watch(Some(1_000_000), soon()).await.map(drop), Err(WatchEnded::WentBack { .. })));
}

#[actix_rt::test]
async fn a_watch_from_an_index_that_is_cleared_ends_and_one_ends_with_its_server() {
    let mut etcd = one();
    let a = node2("a", &[etcd.url()]);
    put(&etcd, "status", "value=0");
    let index = a.read(soon()).await.unwrap().cluster.revision;
    (0..1010).for_each(|number| put(&etcd, "status", &format!("value={number}")));
    let mut watch = a.watch(Some(index - 1), soon()).await;
    let ended = match &mut watch {
        Ok(watch) => tokio::time::timeout(PATIENCE, watch.next()).await.unwrap().map(drop),
        Err(ended) => Err(ended.clone()),
    };
    assert!(matches!(ended, Err(WatchEnded::Compacted { oldest }) if oldest > index), "{ended:?}");
    let mut watch = a.watch(None, soon()).await.unwrap();
    etcd.kill();
    assert!(tokio::time::timeout(PATIENCE, watch.next()).await.unwrap().is_err());
    assert!(a.watch(None, in_ms(500)).await.is_err());
}

#[actix_rt::test]
async fn renewals_and_watches_survive_any_one_member() {
    let etcds = start(3);
    let urls: Vec<_> = etcds.iter().map(Etcd::url).collect();
    let (a, lease) = joined("a", &urls).await;
    a.acquire(lease, SyncGuard::At(None), soon()).await.unwrap();
    assert_eq!(a.survey(true, soon()).await.unwrap().members, 3);
    for (number, etcd) in etcds.iter().enumerate() {
        // whoever of them leads etcd is among the frozen: the others elect another one meanwhile
        etcd.freeze();
        for round in 0..3 {
            let longest = Duration::from_millis(if round == 0 { 6000 } else { 2000 });
            let renewed = a.renew(lease, true, boottime() + longest).await;
            assert!(renewed.is_ok(), "member {number} frozen, renewal {round}: {renewed:?}");
        }
        etcd.thaw();
    }
    // one that is frozen, or cut off from the others, keeps a watch open and is silent
    let alone = node2("b", &urls[..1]);
    let mut watch = alone.watch(None, soon()).await.unwrap();
    etcds[1].freeze();
    etcds[2].freeze();
    let ended = tokio::time::timeout(Duration::from_secs(25), watch.next()).await.expect("it is noticed");
    assert!(ended.unwrap_err().to_string().contains("no leader"));
    let refused = a.renew(lease, true, in_ms(2000)).await;
    assert!(matches!(refused, Err(Refused::Unreachable(_))), "without a majority nothing is proven: {refused:?}");
    assert!(a.read(in_ms(1000)).await.is_err());
    etcds[1].thaw();
    assert!(a.renew(lease, true, soon()).await.is_ok());
}

#[actix_rt::test]
async fn user_and_password_are_sent_and_a_refusal_is_said() {
    let etcd = one();
    let auth = |path: &str, body: &str| {
        let (status, body) = etcd.request("PUT", &format!("/v2/auth{path}"), "application/json", body).unwrap();
        assert!(status < 300, "{body}");
    };
    auth("/users/root", r#"{"user":"root","password":"r"}"#);
    auth("/roles/guest", r#"{"role":"guest","permissions":{"kv":{"read":["/nothing"],"write":["/nothing"]}}}"#);
    auth("/roles/herd", r#"{"role":"herd","permissions":{"kv":{"read":["/service/*"],"write":["/service/*"]}}}"#);
    auth("/users/agent", r#"{"user":"agent","password":"se:cret","roles":["herd"]}"#);
    auth("/enable", "");
    let login = |password: &str| {
        let login = pgherd_dcs::EtcdLogin { username: "agent".into(), password: password.into() };
        pgherd_dcs::EtcdServer { login: Some(login), ..server(&[etcd.url()]) }
    };
    let nobody = node2("a", &[etcd.url()]).read(soon()).await.map(drop);
    assert!(matches!(&nobody, Err(Refused::Denied(why)) if why.contains("set etcd.username")), "{nobody:?}");
    let shared = login("wrong").shared();
    let a = node2_at("a", shared.clone());
    let refused = a.read(soon()).await.map(drop);
    assert!(matches!(&refused, Err(Refused::Denied(why)) if why.contains("check etcd.username")), "{refused:?}");
    assert!(a.login_refused().is_some_and(|why| why.contains("agent") && !why.contains("wrong")));
    shared.store(std::sync::Arc::new(login("se:cret")));
    script(&a, &node2_at("b", login("se:cret").shared())).await;
    assert_eq!(a.login_refused(), None);
    let lease = granted(&a, TTL).await;
    let doc = MemberDoc { state: "running".into(), ..MemberDoc::default() };
    a.write(Some(lease), DcsWrite::Member(Box::new(doc)), soon()).await.unwrap();
}
