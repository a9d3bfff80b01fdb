use super::*;
use crate::testing::*;
use pgherd_types::{Decoding, LeaderKey, PermanentSlot, StandbyCluster};
use std::time::Duration;

pub fn permanent(case: Case, name: &str, kind: SlotKind) -> Case {
    let name = name.to_owned();
    case.with_view(|v| {
        v.settings.slots.permanent.insert(name, PermanentSlot { kind, in_standby_cluster: None });
    })
}
pub fn logical() -> SlotKind {
    SlotKind::Logical(Decoding { database: "postgres".into(), plugin: "test_decoding".into() })
}
fn of(case: Case) -> Wants {
    let (view, now) = case.build();
    let running = view.postgres.get().unwrap().running().unwrap().clone();
    wanted(&view, view.cluster.get().unwrap(), &running, now.mono)
}
fn names(case: Case) -> String {
    of(case).slots.keys().cloned().collect::<Vec<_>>().join(" ")
}
fn tagged(case: Case, name: &'static str, change: impl FnOnce(&mut pgherd_types::Tags)) -> Case {
    case.with_cluster(|c| change(&mut c.members.get_mut(&name.into()).unwrap().doc.tags))
}
fn at_once(case: Case) -> Case {
    case.with_view(|v| v.settings.member_slots_ttl = Duration::ZERO)
}

#[test]
fn every_member_that_may_lead_keeps_a_slot_for_all_the_others() {
    assert_eq!(names(primary()), "b c");
    assert_eq!(names(replica()), "b c");
    assert_eq!(names(replica().with_view(|v| v.me.tags.nofailover = true)), "");
    let fed = |case| tagged(case, "c", |tags| tags.replicatefrom = Some("a".into()));
    assert_eq!(names(fed(replica().with_view(|v| v.me.tags.nofailover = true))), "c");
    assert_eq!(names(tagged(primary(), "c", |tags| tags.nostream = true)), "b");
}

#[test]
fn where_slots_are_not_kept_for_later_only_those_in_use_are_wanted() {
    let fed = |case| tagged(case, "c", |tags| tags.replicatefrom = Some("b".into()));
    assert_eq!(names(at_once(primary())), "b c");
    assert_eq!(names(at_once(replica())), "");
    assert_eq!(names(at_once(fed(primary()))), "b");
    assert_eq!(names(at_once(tagged(replica(), "c", |tags| tags.replicatefrom = Some("a".into())))), "c");
    assert_eq!(names(fed(primary()).with_server(|s| s.server_version = 100_020)), "b");
}

#[test]
fn the_leader_retains_the_slot_of_a_member_that_is_gone_and_the_others_do_as_it_says() {
    let gone = |case: Case, at_ms| {
        case.with_view(move |v| _ = v.slots_wanted.insert("gone".into(), Instant::from_millis(at_ms)))
            .with_view(|v| v.settings.member_slots_ttl = Duration::from_secs(30))
    };
    assert_eq!(names(gone(primary(), 30_000)), "b c gone");
    assert_eq!(names(gone(primary(), 29_999)), "b c");
    let says = |case: Case, names: &[&str]| {
        let names = names.iter().map(|name| (*name).to_owned()).collect();
        case.with_cluster(|c| c.status.retain_slots = names)
    };
    assert_eq!(names(says(gone(replica(), 59_000), &["b", "c", "other", "a"])), "b c other");
    assert_eq!(of(says(replica(), &["other"])).slots["other"].used_here, None);
}

#[test]
fn permanent_slots_are_wanted_wherever_they_can_be() {
    let physical = |case| permanent(case, "backup", SlotKind::Physical);
    assert_eq!(names(physical(replica())), "b backup c");
    assert_eq!(names(permanent(replica(), "cdc", logical())), "b c cdc");
    let barred = |case: Case| case.with_view(|v| v.me.tags.nofailover = true);
    assert_eq!(names(permanent(physical(barred(replica())), "cdc", logical())), "");
    let unfed = permanent(physical(replica()), "cdc", logical()).with_view(|v| v.me.tags.nostream = true);
    assert_eq!(names(unfed), "b backup c", "WAL does not come through a slot there");
    let old = |case: Case| case.with_server(|s| s.server_version = 100_020);
    assert_eq!(names(old(physical(replica()))), "");
    assert_eq!(names(old(physical(primary()))), "b backup c");
    let refused = of(old(permanent(primary(), "cdc", logical()))).refused;
    assert!(refused[0].slot == "cdc" && refused[0].text.contains("need PostgreSQL 11 or later and this is 10"));
}

#[test]
fn a_permanent_slot_may_be_for_one_kind_of_cluster_only() {
    let both = |case: Case| {
        case.with_view(|v| {
            for (name, it) in [("here", Some(false)), ("there", Some(true))] {
                let slot = PermanentSlot { kind: SlotKind::Physical, in_standby_cluster: it };
                v.settings.slots.permanent.insert(name.into(), slot);
            }
        })
    };
    assert_eq!(names(both(replica())), "b c here");
    let remote = StandbyCluster { host: Some("far".into()), port: 5432 };
    let standby = permanent(both(replica()), "cdc", logical()).with_view(|v| v.settings.standby_cluster = Some(remote));
    assert_eq!(names(standby), "b c there", "a standby cluster has no logical ones");
}

#[test]
fn a_permanent_slot_with_a_members_name_is_the_members_and_never_expires() {
    let named = |case| permanent(case, "b", SlotKind::Physical);
    assert_eq!(names(named(primary())), "b c");
    assert_eq!(names(permanent(primary(), "a", SlotKind::Physical)), "b c", "its own is not made here");
    let without_b = named(primary()).with_cluster(|c| drop(c.members.remove(&"b".into())));
    assert_eq!(names(at_once(without_b)), "b c");
    let refused = of(permanent(primary(), "b", logical())).refused;
    assert!(refused[0].text.contains("name of a member's own slot"), "{refused:?}");
}

#[test]
fn members_whose_names_become_one_slot_name_share_it_and_that_is_said() {
    let twins = primary().with_cluster(|c| {
        for name in ["x-1", "x.1"] {
            let twin = c.members[&"b".into()].clone();
            c.members.insert(name.into(), pgherd_types::Member { name: name.into(), ..twin });
        }
    });
    let wants = of(twins);
    assert_eq!(wants.slots.keys().collect::<Vec<_>>(), ["b", "c", "x_1"]);
    assert_eq!((wants.refused[0].slot.as_str(), wants.refused[0].state), ("x_1", "shared"));
}

#[test]
fn where_a_consumer_is_comes_from_status_and_of_a_cascading_member_also_from_itself() {
    let known = |case: Case| case.with_cluster(|c| _ = c.status.slots.insert("c".into(), Lsn(500)));
    assert_eq!(of(known(primary())).slots["c"].at, Some(Lsn(500)));
    let cascading = known(primary()).with_cluster(|c| {
        let c = c.members.get_mut(&"c".into()).unwrap();
        (c.doc.tags.replicatefrom, c.doc.xlog_location) = (Some("b".into()), Some(Lsn(700)));
    });
    let wants = of(cascading);
    assert_eq!((wants.slots["c"].at, wants.slots["c"].used_here), (Some(Lsn(700)), Some(false)));
    let former = known(primary()).with_cluster(|c| c.status_is_leaders = false);
    assert_eq!(of(former).slots["c"].at, None, "a former leader's word");
    let leaderless = replica().with_cluster(|c| c.leader = None::<LeaderKey>);
    assert_eq!(of(leaderless).slots["b"].used_here, Some(false));
}

#[test]
fn a_leader_without_the_dcs_says_it_itself() {
    let told = |to: &str, change: fn(&mut View)| {
        let (mut view, now) = replica().with_cluster(|c| _ = c.status.slots.insert("c".into(), Lsn(500))).build();
        let slots = BTreeMap::from([("c".to_owned(), Lsn(700))]);
        view.apply(crate::Observation::FailsafePromised { to: to.into(), slots }, now);
        change(&mut view);
        let running = view.postgres.get().unwrap().running().unwrap().clone();
        wanted(&view, view.cluster.get().unwrap(), &running, now.mono).slots["c"].at
    };
    assert_eq!(told("b", |_| {}), Some(Lsn(700)));
    assert_eq!(told("c", |_| {}), Some(Lsn(500)), "it is not the leader");
    let branched = |view: &mut View| view.slots.told.as_mut().unwrap().timeline = Some(Timeline(7));
    assert_eq!(told("b", branched), Some(Lsn(500)), "it was another branch");
    let read_again = |view: &mut View| {
        let (cluster, now) = (view.cluster.get().unwrap().clone(), Instant::from_millis(61_000));
        let read = crate::Observation::Cluster { cluster, read_at: now };
        view.apply(read, pgherd_types::Now { mono: now, ..Default::default() });
    };
    assert_eq!(told("b", read_again), Some(Lsn(500)), "the key says it, too");
}
