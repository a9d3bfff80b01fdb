//! Days that etcd does not have often: no space left, restored from a backup, replaced by another cluster; and a deposed
//! leader that races its successor.

mod common;

use common::*;
use pgherd_dcs::Dcs;
use pgherd_testkit::etcd::{Etcd, EtcdSetup};
use pgherd_testkit::proxy::Proxy;
use pgherd_types::{DcsWrite, FailoverKey, Initialize, Refused, SyncGuard, SyncNames, SyncWrite, SystemId, Timeline};
use std::collections::BTreeMap;

#[actix_rt::test]
async fn without_space_leases_live_on_and_the_reason_is_named() {
    let etcd = Etcd::start_setup(&EtcdSetup::members(1).with("--quota-backend-bytes=1000000")).remove(0);
    let (a, lease) = leader("a", &etcd).await;
    let filler = format!(r#"{{"key":"{}","value":"{}"}}"#, "ZmlsbGVy", "A".repeat(400_000));
    eventually(PATIENCE, "etcd is full", async || (etcd.call("/v3/kv/put", &filler)?.0 != 200).then_some(())).await;
    let refused = a.write(Some(lease), DcsWrite::Status(status(1)), soon()).await;
    assert!(matches!(&refused, Err(Refused::Denied(why)) if why.contains("defrag")), "{refused:?}");
    assert!(matches!(a.grant(TTL, soon()).await, Err(Refused::Denied(_))), "nobody can take over");
    let renewed = a.renew(lease, true, soon()).await.map(drop);
    assert_eq!(renewed, Ok(()), "but who leads goes on leading");
    let troubles = a.survey(true, soon()).await.unwrap().troubles;
    assert!(troubles.iter().any(|trouble| trouble.contains("NOSPACE")), "{troubles:?}");
    let revision = a.read(soon()).await.unwrap().cluster.revision;
    etcd.ctl(&["compact", &revision.to_string()]);
    etcd.ctl(&["defrag"]);
    etcd.ctl(&["alarm", "disarm"]);
    a.write(Some(lease), DcsWrite::Status(status(1)), soon()).await.unwrap();
    assert_eq!(a.survey(true, soon()).await.unwrap().troubles, Vec::<String>::new());
}

#[actix_rt::test]
async fn a_store_restored_from_a_backup_is_read_as_it_is() {
    let mut etcd = Etcd::start();
    let (a, lease) = leader("a", &etcd).await;
    a.write(Some(lease), DcsWrite::Status(status(1)), soon()).await.unwrap();
    let before = a.read(soon()).await.unwrap().cluster;
    let backup = etcd.backup();
    for number in 2..6 {
        a.write(Some(lease), DcsWrite::Status(status(number)), soon()).await.unwrap();
    }
    etcd.put(&key("members/x"), "{}");
    let later = a.read(soon()).await.unwrap().cluster;
    assert!(later.revision > before.revision && later.members.len() == 1);
    etcd.restore(&backup);
    let restored = eventually(PATIENCE, "the restored store answers", async || a.read(soon()).await.ok()).await.cluster;
    assert_eq!((restored.status, restored.members.len()), (before.status, 0), "nothing of what was read later is left");
    assert!(restored.revision < later.revision);
    // the lease was saved with the rest, and the key hangs on it
    assert!(a.renew(lease, true, soon()).await.is_ok());
    a.write(Some(lease), DcsWrite::Status(status(9)), soon()).await.unwrap();
    assert_eq!(a.read(soon()).await.unwrap().cluster.status, status(9));
}

#[actix_rt::test]
async fn answers_of_two_clusters_are_not_mixed_until_one_has_gone() {
    let (mut one, other) = (Etcd::start(), Etcd::start());
    let (to_one, to_other) = (Proxy::start(one.port()), Proxy::start(other.port()));
    let a = node("a", &[to_one.url(), to_other.url()]);
    let lease = lease_of(&a).await;
    a.acquire(lease, SyncGuard::At(None), soon()).await.unwrap();
    // the first one is silent: the other one answers, but it is not the one that knows the lease
    to_one.stall();
    let refused = a.renew(lease, true, in_ms(1500)).await;
    assert!(matches!(refused, Err(Refused::Unreachable(_))), "{refused:?}");
    assert!(matches!(a.acquire(lease, SyncGuard::At(None), in_ms(1500)).await, Err(Refused::Unreachable(_))));
    assert_eq!(other.get(&key("leader")), None);
    to_one.heal();
    assert!(a.renew(lease, true, soon()).await.is_ok());
    // gone for good: refused everywhere but there
    one.kill();
    to_one.cut();
    assert_eq!(a.renew(lease, true, soon()).await, Err(Refused::LeaseGone), "the other one has never heard of it");
    let lease = lease_of(&a).await;
    a.acquire(lease, SyncGuard::At(None), soon()).await.unwrap();
    assert_eq!(other.get(&key("leader")).as_deref(), Some("a"));
}

/// All that a deposed leader must not overwrite.
fn leaders_writes(number: u32, seen: Option<i64>) -> Vec<DcsWrite> {
    let leader = if number < 100 { "a" } else { "b" };
    vec![
        DcsWrite::Status(status(number.into())),
        DcsWrite::History(Vec::new()),
        DcsWrite::Failsafe(BTreeMap::from([(leader.into(), format!("http://{number}/patroni"))])),
        DcsWrite::ReserveTimeline { timeline: Timeline(number), seen: None },
        DcsWrite::Sync(SyncWrite { leader: leader.into(), quorum: number, standbys: SyncNames::default(), seen }),
    ]
}

/// The same, of which there is only a first time.
fn first_writes(number: u32) -> Vec<DcsWrite> {
    vec![DcsWrite::FinishInitialize(id(number)), DcsWrite::Config(format!("{{\"ttl\":{number}}}"))]
}

fn id(number: u32) -> SystemId {
    SystemId(7_000_000_000_000_000_000 + u64::from(number))
}

#[actix_rt::test]
async fn a_deposed_leader_never_overwrites_its_successor() {
    let etcd = Etcd::start();
    for round in 0..10 {
        etcd.ctl(&["del", "--prefix", "/service/main/"]);
        let (a, on_a) = leader("a", &etcd).await;
        a.write(Some(on_a), DcsWrite::ClaimInitialize, soon()).await.unwrap();
        let b = node("b", &[etcd.url()]);
        let on_b = lease_of(&b).await;
        let deposed = async {
            // it does not know, and goes on until the successor has written everything, and then some
            let mut refused = 0;
            while refused < 10 {
                let late = [DcsWrite::DropInitialize, DcsWrite::ClearFailover { seen: 0 }];
                // (as long as it leads, it may)
                let first = if refused > 0 { first_writes(1 + round) } else { Vec::new() };
                for write in leaders_writes(1 + round, None).into_iter().chain(first).chain(late) {
                    let is_status = write.key() == "status";
                    let answer = a.write(Some(on_a), write, soon()).await;
                    refused += u32::from(is_status && answer == Err(Refused::Compare));
                }
            }
        };
        let successor = async {
            b.revoke(on_a, soon()).await;
            let seen = loop {
                match b.acquire(on_b, SyncGuard::Unguarded, soon()).await {
                    Ok(()) => break b.read(soon()).await.unwrap().cluster,
                    Err(_) => tokio::task::yield_now().await,
                }
            };
            let claim = std::iter::once(DcsWrite::ClaimInitialize).chain(first_writes(100 + round));
            for write in claim.chain(leaders_writes(100 + round, seen.sync.revision())) {
                let write = match write {
                    DcsWrite::ReserveTimeline { timeline, .. } => {
                        DcsWrite::ReserveTimeline { timeline, seen: seen.timeline_reserved }
                    }
                    other => other,
                };
                b.write(Some(on_b), write.clone(), soon()).await.unwrap_or_else(|e| panic!("{write:?}: {e:?}"));
            }
            let request = FailoverKey { candidate: Some("b".into()), ..FailoverKey::default() };
            b.write(None, DcsWrite::AskFailover { request, seen: None }, soon()).await.expect("a request");
        };
        tokio::join!(deposed, successor);
        let after = b.read(soon()).await.unwrap().cluster;
        assert_eq!(after.leader.as_ref().map(|key| key.lease), Some(Some(on_b)));
        assert_eq!(after.status, status((100 + round).into()));
        assert_eq!(after.timeline_reserved, Some(Timeline(100 + round)));
        assert_eq!(after.initialize, Some(Initialize::Done(id(100 + round))));
        assert_eq!(after.config.map(|key| key.text), Some(format!("{{\"ttl\":{}}}", 100 + round)));
        assert!(after.failover.is_some_and(|key| key.asks()), "a request that the deposed one has not seen");
        let sync = etcd.get(&key("sync")).unwrap();
        assert!(sync.contains(&format!("\"quorum\":{}", 100 + round)), "{sync}");
        assert!(etcd.get(&key("failsafe")).unwrap().contains(&format!("{}/patroni", 100 + round)));
    }
}
