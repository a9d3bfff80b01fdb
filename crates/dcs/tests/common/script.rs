//! One script of calls that every kind of etcd must answer alike.

use super::*;
use pgherd_types::{DcsWrite, MemberDoc, Refused, Role, SyncNames, SyncWrite, Timeline};

/// Two members of one cluster, from nothing to nothing.
pub async fn script(a: &dyn Dcs, b: &dyn Dcs) {
    let (on_a, on_b) = (a.grant(TTL, soon()).await.unwrap().lease, b.grant(TTL, soon()).await.unwrap().lease);
    assert_eq!(a.renew(on_a, true, soon()).await.map(|grant| grant.ttl_ms), Err(Refused::Absent));
    assert_eq!(a.renew(on_a, false, soon()).await.map(|grant| grant.ttl_ms), Ok(60_000));
    let mut watch = b.watch(None, soon()).await.unwrap();

    a.acquire(on_a, SyncGuard::At(None), soon()).await.unwrap();
    assert_eq!(b.acquire(on_b, SyncGuard::At(None), soon()).await, Err(Refused::Compare));
    assert_eq!(b.renew(on_b, true, soon()).await.map(drop), Err(Refused::Compare));
    a.renew(on_a, true, soon()).await.unwrap();
    let event = tokio::time::timeout(PATIENCE, watch.next()).await.unwrap().unwrap();
    assert!(event.revision > watch.created_at());

    let doc = MemberDoc { state: "running".into(), role: Some(Role::Primary), ..MemberDoc::default() };
    a.write(Some(on_a), DcsWrite::Member(Box::new(doc.clone())), soon()).await.unwrap();
    a.write(Some(on_a), DcsWrite::Status(status(7)), soon()).await.unwrap();
    a.write(Some(on_a), DcsWrite::Config("{\"ttl\":30}".into()), soon()).await.unwrap();
    let reserve = DcsWrite::ReserveTimeline { timeline: Timeline(2), seen: None };
    a.write(Some(on_a), reserve.clone(), soon()).await.unwrap();
    assert_eq!(b.write(Some(on_b), reserve, soon()).await, Err(Refused::Compare));
    let sync = SyncWrite { leader: "a".into(), quorum: 0, standbys: SyncNames::default(), seen: None };
    a.write(Some(on_a), DcsWrite::Sync(sync.clone()), soon()).await.unwrap();
    assert_eq!(a.write(Some(on_a), DcsWrite::Sync(sync), soon()).await, Err(Refused::Compare), "it is there already");

    let seen = b.read(soon()).await.unwrap().cluster;
    assert_eq!(seen, b.read(soon()).await.unwrap().cluster, "nothing changed");
    assert_eq!((&seen.status, seen.timeline_reserved), (&status(7), Some(Timeline(2))));
    assert_eq!((&seen.members[&"a".into()].doc, seen.members.len()), (&doc, 1));
    let judged_by = seen.sync.revision();
    assert!(judged_by.is_some());

    let moved = a.grant(TTL, soon()).await.unwrap().lease;
    a.move_keys(on_a, moved, true, soon()).await.unwrap();
    a.revoke(on_a, soon()).await;
    assert_eq!(a.renew(on_a, true, soon()).await.map(drop), Err(Refused::LeaseGone));
    a.renew(moved, true, soon()).await.unwrap();

    a.release(moved, Some(status(9)), soon()).await.unwrap();
    assert_eq!(b.acquire(on_b, SyncGuard::At(None), soon()).await, Err(Refused::Compare), "judged by another sync key");
    b.acquire(on_b, SyncGuard::At(judged_by), soon()).await.unwrap();
    assert_eq!(a.write(Some(moved), DcsWrite::Status(status(1)), soon()).await, Err(Refused::Compare));
    let seen = b.read(soon()).await.unwrap().cluster;
    assert_eq!((seen.status, seen.leader.map(|key| key.lease)), (status(9), Some(Some(on_b))));
    a.revoke(moved, soon()).await;
    assert!(b.read(soon()).await.unwrap().cluster.members.is_empty(), "the member key went with its lease");

    b.remove_all(soon()).await.unwrap();
    assert_eq!(b.read(soon()).await.unwrap().changed_at, 0);
}
