use super::*;
use crate::Observation;
use crate::slots::{notes, plan};
use crate::testing::*;
use pgherd_types::{Lsn, Now, PermanentSlot, SlotReport};
use std::sync::Arc;

fn slot(xmin: u32) -> SeenSlot {
    let text = |text: &str| Some(text.to_owned());
    SeenSlot {
        name: "cdc".into(),
        database: text("postgres"),
        plugin: text("test_decoding"),
        managed: true,
        confirmed: Some(Lsn(900)),
        catalog_xmin: Some(Xid(xmin)),
        ..SeenSlot::default()
    }
}
fn case(base: Case, slots: Vec<SeenSlot>) -> Case {
    let wanted = |v: &mut View| {
        let decoding = Decoding { database: "postgres".into(), plugin: "test_decoding".into() };
        let kind = SlotKind::Logical(decoding);
        v.settings.slots.permanent.insert("cdc".into(), PermanentSlot { kind, in_standby_cluster: None });
    };
    base.with_view(wanted)
        .with_server(|s| s.slots = slots)
        .with_cluster(|c| _ = c.status.slots.insert("cdc".into(), Lsn(900)))
}
fn at(s: u64) -> Now {
    Now { mono: Instant::from_millis(60_000 + s * 1000), ..Now::default() }
}
fn comparison_at(view: &View, now: Now) -> Option<SlotComparison> {
    let running = view.postgres.get().unwrap().running().unwrap();
    plan(view, view.cluster.get().unwrap(), running, now.mono).unwrap().compare
}
/// The leader is asked and says this of the physical slot and of its own logical ones.
fn told(view: &mut View, now: Now, through: Option<Option<u32>>, theirs: u32) {
    let mut decision = crate::decide(view, now);
    let running = view.postgres.get().unwrap().running().unwrap().clone();
    let target = plan(view, view.cluster.get().unwrap(), &running, now.mono).unwrap();
    assert!(target.compare.is_some(), "nothing is asked");
    decision.upkeep.slots = Some((view.last_round + 2, target));
    view.dispatched(&decision, now);
    let leader = LeaderSlots {
        leader: "b".into(),
        through: through.map(|xmin| xmin.map(Xid)),
        oldest_logical: Some(Xid(theirs)),
    };
    let report = SlotReport { leader: Some(leader), ..SlotReport::default() };
    view.apply(Observation::SlotsAligned { round: view.last_round, report: Some(report) }, now);
}
fn looked(view: &mut View, now: Now, change: impl FnOnce(&mut RunningServer)) {
    let mut state = view.postgres.get().unwrap().as_ref().clone();
    state.looked_at = now.mono;
    if let pgherd_types::Server::Running(running) = &mut state.server {
        change(running);
    }
    view.apply(Observation::Postgres(Arc::new(state)), now);
}
fn why(view: &View, now: Now) -> Option<String> {
    let running = view.postgres.get().unwrap().running().unwrap();
    unsafe_slots(view, view.cluster.get().unwrap(), running, now.mono).remove("cdc")
}

#[test]
fn a_copy_is_safe_once_the_primary_keeps_all_that_it_needs() {
    let (mut view, _) = case(replica(), vec![slot(999)]).build();
    assert_eq!(comparison_at(&view, at(0)).unwrap().through, "a");
    told(&mut view, at(0), None, 1000);
    assert!(why(&view, at(0)).unwrap().contains("the physical slot a does not exist on b"));
    told(&mut view, at(10), Some(None), 1000);
    assert!(why(&view, at(10)).unwrap().contains("hot_standby_feedback"));
    told(&mut view, at(20), Some(Some(999)), 1000);
    assert!(why(&view, at(20)).unwrap().contains("not known yet"), "what lies between 999 and 1000 may be gone");
    looked(&mut view, at(25), |s| s.slots = vec![slot(1002)]);
    told(&mut view, at(30), Some(Some(999)), 1005);
    assert_eq!(why(&view, at(30)), None, "measured by where the primary was when it began to keep anything");
    assert_eq!(safe(&view, at(30).mono).into_iter().collect::<Vec<_>>(), ["cdc"]);
    assert_eq!(comparison_at(&view, at(50)), None, "there is nothing left to ask");
    looked(&mut view, at(55), |s| s.slots = vec![]);
    looked(&mut view, at(60), |s| s.slots = vec![slot(1002)]);
    assert!(why(&view, at(60)).is_some(), "another slot of the same name");
}

#[test]
fn what_was_kept_for_a_while_and_then_not_counts_for_nothing() {
    let (mut view, _) = case(replica(), vec![slot(999)]).build();
    told(&mut view, at(0), Some(Some(999)), 1000);
    told(&mut view, at(10), Some(None), 1010);
    looked(&mut view, at(15), |s| s.slots = vec![slot(1005)]);
    told(&mut view, at(20), Some(Some(1005)), 1010);
    assert!(why(&view, at(20)).is_some());
    looked(&mut view, at(25), |s| s.slots = vec![slot(1010)]);
    told(&mut view, at(30), Some(Some(1011)), 1010);
    assert!(why(&view, at(30)).is_some(), "more than it needs is gone");
    told(&mut view, at(40), Some(Some(1010)), 1020);
    assert_eq!(why(&view, at(40)), None);
}

#[test]
fn the_leader_is_not_asked_all_the_time() {
    let (mut view, _) = case(replica(), vec![slot(5)]).build();
    told(&mut view, at(0), Some(None), 5);
    assert_eq!(comparison_at(&view, at(9)), None);
    assert!(comparison_at(&view, at(10)).is_some());
    assert_eq!(comparison_at(&case(primary(), vec![slot(5)]).build().0, at(0)), None);
    assert_eq!(comparison_at(&case(replica(), vec![]).build().0, at(0)), None, "it is not here yet");
}

#[test]
fn through_a_cascade_it_is_the_topmost_slot_that_counts() {
    let fed_by_c = case(replica(), vec![slot(5)]).with_view(|v| v.me.tags.replicatefrom = Some("c".into()));
    assert_eq!(comparison_at(&fed_by_c.build().0, at(0)).unwrap().through, "c");
}

#[test]
fn another_leader_or_another_run_of_the_server_means_to_begin_anew() {
    let ready = || {
        let (mut view, _) = case(replica(), vec![slot(5)]).build();
        told(&mut view, at(0), Some(Some(5)), 5);
        assert_eq!(why(&view, at(0)), None);
        view
    };
    let mut restarted = ready();
    looked(&mut restarted, at(5), |s| s.postmaster_start_time = "later".into());
    assert!(why(&restarted, at(5)).is_some());
    let mut led = ready();
    let mut cluster = led.cluster.get().unwrap().as_ref().clone();
    cluster.leader = None;
    led.apply(Observation::Cluster { cluster: Arc::new(cluster.clone()), read_at: at(5).mono }, at(5));
    assert_eq!(why(&led, at(5)), None, "nobody leads: this is what counts in a race");
    let leader = |name: &str| pgherd_types::LeaderKey { name: name.into(), lease: Some(pgherd_types::LeaseId(3)) };
    cluster.leader = Some(leader("a"));
    led.apply(Observation::Cluster { cluster: Arc::new(cluster.clone()), read_at: at(6).mono }, at(6));
    assert_eq!(why(&led, at(6)), None, "this node has won it");
    cluster.leader = Some(leader("c"));
    led.apply(Observation::Cluster { cluster: Arc::new(cluster), read_at: at(6).mono }, at(6));
    assert!(why(&led, at(6)).is_some());
}

#[test]
fn from_17_on_the_server_itself_says_whether_its_copy_is_good() {
    let newer = |slot| case(replica(), vec![slot]).with_server(|s| s.server_version = 170_002).build().0;
    assert!(why(&newer(slot(5)), at(0)).unwrap().contains("does not keep it in step"));
    let synced = newer(SeenSlot { failover: true, synced: true, ..slot(5) });
    assert_eq!((why(&synced, at(0)), comparison_at(&synced, at(0))), (None, None));
}

#[test]
fn what_is_not_safe_is_named_before_and_after_a_promotion() {
    let (mut view, now) = case(replica(), vec![slot(5)]).build();
    assert_eq!(notes(&view, now.mono)[0].state, "not-safe-yet");
    let operation = pgherd_types::Operation::Promote { timeline: pgherd_types::Timeline(2) };
    let id = pgherd_types::OperationId(1);
    view.note_unsafe_slots(now.mono);
    view.operation = Some(crate::view::Running { id, operation, since: now.mono, cancelled: false });
    looked(&mut view, at(1), |s| s.in_recovery = true);
    view.operation = None;
    looked(&mut view, at(1), |s| (s.in_recovery, s.flushed) = (false, Lsn(1000)));
    let noted = notes(&view, at(1).mono);
    assert_eq!((noted[0].slot.as_str(), noted[0].state), ("cdc", "unsafe"), "{noted:?}");
    looked(&mut view, at(2), |s| s.in_recovery = true);
    assert!(notes(&view, at(2).mono).iter().all(|note| note.state != "unsafe"));
}

#[test]
fn unknown_slots_and_those_that_hold_back_much_are_named() {
    let foreign = SeenSlot { name: "x".into(), physical: true, held_bytes: Some(5 << 30), ..SeenSlot::default() };
    let (view, now) = primary().with_server(|s| s.slots = vec![foreign]).build();
    let states: Vec<_> = notes(&view, now.mono).iter().map(|note| note.state).collect();
    assert_eq!(states, ["holds-wal", "unknown"]);
}
