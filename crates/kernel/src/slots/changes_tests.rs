use super::*;
use crate::slots::plan;
use crate::testing::*;
use pgherd_types::{Decoding, PermanentSlot, SlotFault, SlotMatcher, SlotReport, Xid};

fn physical(name: &str) -> SeenSlot {
    let name = name.to_owned();
    SeenSlot { name, physical: true, managed: true, restart_lsn: Some(Lsn(500)), ..SeenSlot::default() }
}
fn cdc(confirmed: u64) -> SeenSlot {
    SeenSlot {
        name: "cdc".into(),
        managed: true,
        database: Some("postgres".into()),
        plugin: Some("test_decoding".into()),
        restart_lsn: Some(Lsn(confirmed - 10)),
        confirmed: Some(Lsn(confirmed)),
        ..SeenSlot::default()
    }
}
fn with_cdc(case: Case) -> Case {
    case.with_view(|v| {
        let decoding = Decoding { database: "postgres".into(), plugin: "test_decoding".into() };
        let slot = PermanentSlot { kind: SlotKind::Logical(decoding), in_standby_cluster: None };
        v.settings.slots.permanent.insert("cdc".into(), slot);
    })
}
fn at(case: Case, name: &'static str, position: u64) -> Case {
    case.with_cluster(|c| _ = c.status.slots.insert(name.into(), Lsn(position)))
}
fn target(case: Case) -> SlotTarget {
    let (view, now) = case.build();
    let running = view.postgres.get().unwrap().running().unwrap().clone();
    plan(&view, view.cluster.get().unwrap(), &running, now.mono).unwrap_or_default()
}
/// `b` and `c` have their slots, and these are there, too.
fn steps(case: Case, slots: Vec<SeenSlot>) -> Vec<String> {
    let in_use = |name: &str| SeenSlot { active: true, ..physical(name) };
    let mut all: Vec<SeenSlot> = ["b", "c"].into_iter().map(in_use).collect();
    all.retain(|slot| slots.iter().all(|other| other.name != slot.name));
    all.extend(slots);
    let said = |change: &SlotChange| match change {
        SlotChange::Drop { name, .. } => format!("drop {name}"),
        SlotChange::CreatePhysical { name } => format!("make {name}"),
        SlotChange::CreateLogical { name, failover, .. } => format!("make logical {name} {failover}"),
        SlotChange::Advance { name, to, database: None } => format!("move {name} to {}", to.0),
        SlotChange::Advance { name, to, database: Some(_) } => format!("move logical {name} to {}", to.0),
    };
    target(case.with_server(|s| s.slots = all)).changes.iter().map(said).collect()
}
const NOTHING: [&str; 0] = [];

#[test]
fn what_is_missing_is_made_and_a_logical_slot_only_on_a_primary() {
    let bare = |case: Case| target(case).changes.len();
    assert_eq!(bare(primary()), 2);
    assert_eq!(bare(primary().with_view(|v| v.settings.use_slots = false)), 0);
    assert_eq!(steps(with_cdc(primary()), vec![]), ["make logical cdc false"]);
    assert_eq!(
        steps(with_cdc(primary()).with_server(|s| s.server_version = 170_002), vec![]),
        ["make logical cdc true"]
    );
    assert_eq!(steps(at(with_cdc(replica()), "cdc", 900), vec![]), NOTHING);
}

#[test]
fn only_what_the_agent_made_or_is_told_to_is_dropped() {
    let foreign = || SeenSlot { managed: false, ..physical("x") };
    assert_eq!(steps(primary(), vec![physical("x")]), ["drop x"]);
    assert_eq!(steps(primary(), vec![SeenSlot { active: true, ..physical("x") }]), NOTHING);
    assert_eq!(steps(primary(), vec![foreign()]), NOTHING);
    let told = || primary().with_view(|v| v.settings.slots.drop_unknown = true);
    assert_eq!(steps(told(), vec![foreign()]), ["drop x"]);
    let ignored = SlotMatcher { physical: Some(true), ..SlotMatcher::default() };
    assert_eq!(steps(told().with_view(|v| v.settings.slots.ignore = vec![ignored]), vec![foreign()]), NOTHING);
    assert_eq!(steps(told().with_view(|v| v.settings.pause = true), vec![foreign()]), NOTHING);
    let lost = |v: &mut View| v.dcs_lost_since = Some(Instant::default());
    let (mut view, now) = told().with_server(|s| s.slots = vec![foreign()]).build();
    lost(&mut view);
    let running = view.postgres.get().unwrap().running().unwrap().clone();
    let target = plan(&view, view.cluster.get().unwrap(), &running, now.mono).unwrap();
    assert!(!target.changes.iter().any(|change| matches!(change, SlotChange::Drop { .. })), "without the DCS");
}

#[test]
fn a_slot_that_is_there_already_is_taken_over() {
    let adopted = SeenSlot { managed: false, active: true, ..physical("b") };
    let case = primary().with_server(|s| s.slots = vec![adopted, physical("c")]);
    assert_eq!(target(case).claim.into_iter().collect::<Vec<_>>(), ["b"]);
}

#[test]
fn a_slot_that_is_not_as_configured_is_made_anew_only_if_it_is_ours_and_unused() {
    let other = |managed, active| SeenSlot { plugin: Some("pgoutput".into()), managed, active, ..cdc(900) };
    assert_eq!(steps(with_cdc(primary()), vec![other(true, false)]), ["drop cdc"]);
    assert_eq!(steps(with_cdc(primary()), vec![other(true, true)]), NOTHING);
    assert_eq!(steps(with_cdc(primary()), vec![other(false, false)]), NOTHING);
}

#[test]
fn slots_that_nobody_uses_here_follow_their_owner_and_not_beyond_our_own_end() {
    let unused = || vec![physical("c")];
    assert_eq!(steps(at(replica(), "c", 700), unused()), ["move c to 700"]);
    assert_eq!(steps(at(replica(), "c", 5000), unused()), ["move c to 1000"]);
    assert_eq!(steps(at(replica(), "c", 500), unused()), NOTHING);
    assert_eq!(steps(replica(), unused()), NOTHING, "its owner is nowhere to be seen");
    assert_eq!(steps(at(primary(), "c", 700), unused()), NOTHING, "its owner moves it");
}

#[test]
fn a_standbys_logical_slot_follows_the_leaders() {
    assert_eq!(steps(at(with_cdc(replica()), "cdc", 900), vec![cdc(800)]), ["move logical cdc to 900"]);
    assert_eq!(steps(at(with_cdc(replica()), "cdc", 2000), vec![cdc(800)]), ["move logical cdc to 1000"]);
    assert_eq!(steps(at(with_cdc(replica()), "cdc", 700), vec![cdc(800)]), NOTHING, "never backwards");
    assert_eq!(steps(at(with_cdc(primary()), "cdc", 900), vec![cdc(800)]), NOTHING);
    let lost = SeenSlot { lost: true, ..cdc(800) };
    assert_eq!(steps(at(with_cdc(replica()), "cdc", 900), vec![lost]), NOTHING);
    let leader_on = |timeline: Option<u32>| {
        let timeline = timeline.map(pgherd_types::Timeline);
        let case = replica().with_cluster(|c| c.members.get_mut(&"b".into()).unwrap().doc.timeline = timeline);
        steps(at(with_cdc(case), "cdc", 900), vec![cdc(800)])
    };
    assert_eq!(leader_on(Some(2)), NOTHING, "that is a position on another branch");
    assert_eq!(leader_on(None), NOTHING);
}

#[test]
fn a_lost_logical_slot_of_a_primary_is_left_for_its_consumer_to_see() {
    assert_eq!(steps(with_cdc(primary()), vec![SeenSlot { lost: true, ..cdc(800) }]), NOTHING);
    assert_eq!(steps(primary(), vec![SeenSlot { lost: true, ..physical("c") }]), ["drop c", "make c"]);
}

#[test]
fn a_slot_that_holds_back_vacuum_for_nobody_is_made_anew_once_its_owner_is_past_our_checkpoint() {
    let stale = || vec![SeenSlot { catalog_xmin: Some(Xid(7)), ..physical("c") }];
    assert_eq!(steps(at(replica(), "c", 900), stale()), ["drop c", "make c"]);
    assert_eq!(steps(at(replica(), "c", 899), stale()), ["move c to 899"]);
    assert_eq!(steps(at(primary(), "c", 900), stale()), NOTHING, "its owner will be back");
    let unreserved = vec![SeenSlot { restart_lsn: None, ..physical("c") }];
    assert_eq!(steps(replica(), unreserved), ["drop c", "make c"]);
}

#[test]
fn on_17_the_server_keeps_logical_slots_and_is_not_fought_with() {
    let newer = |case: Case| case.with_server(|s| s.server_version = 170_002);
    let synced = SeenSlot { failover: true, synced: true, managed: false, ..cdc(800) };
    assert_eq!(steps(at(newer(with_cdc(replica())), "cdc", 900), vec![synced.clone()]), NOTHING);
    let told = |case: Case| case.with_view(|v| v.settings.slots.drop_unknown = true);
    assert_eq!(steps(told(newer(replica())), vec![synced]), NOTHING);
    let users = SeenSlot { failover: true, managed: false, ..cdc(800) };
    assert_eq!(steps(told(newer(primary())), vec![users]), NOTHING);
    let in_the_way = SeenSlot { failover: true, ..cdc(800) };
    assert_eq!(steps(at(newer(with_cdc(replica())), "cdc", 900), vec![in_the_way]), ["drop cdc"]);
}

#[test]
fn a_change_that_failed_waits_longer_each_time() {
    let case =
        at(with_cdc(replica()), "cdc", 900).with_server(|s| s.slots = vec![cdc(800), physical("b"), physical("c")]);
    let (mut view, now) = case.build();
    let running = view.postgres.get().unwrap().running().unwrap().clone();
    let cluster = view.cluster.get().unwrap().clone();
    let changes = |view: &View, at: Instant| plan(view, &cluster, &running, at).unwrap().changes.len();
    let ordered = plan(&view, &cluster, &running, now.mono).unwrap();
    let fault = SlotFault { text: "no".into(), wal_is_gone: false };
    let report = SlotReport { faults: [("cdc".to_owned(), fault)].into(), leader: None };
    let after = |s| now.mono + std::time::Duration::from_secs(s);
    view.slots.aligned(&ordered, &report, now.mono);
    assert_eq!((changes(&view, after(9)), changes(&view, after(10))), (0, 1));
    view.slots.aligned(&ordered, &report, after(10));
    assert_eq!((changes(&view, after(29)), changes(&view, after(30))), (0, 1));
    view.slots.aligned(&ordered, &SlotReport::default(), after(30));
    assert_eq!(changes(&view, after(30)), 1);
}

#[test]
fn a_name_whose_slot_is_gone_is_forgotten_unless_it_is_wanted() {
    let gone = |case: Case| case.with_server(|s| s.slots_gone = ["b", "cdc", "old"].map(str::to_owned).into());
    let forgotten = |case: Case| target(gone(case)).forget.into_iter().collect::<Vec<_>>();
    assert_eq!(forgotten(primary()), ["cdc", "old"]);
    assert_eq!(forgotten(replica()), ["cdc", "old"], "the server itself dropped its copy");
    assert_eq!(forgotten(with_cdc(replica())), ["old"], "a copy of it may be on its way");
    let (view, now) = gone(primary()).build();
    let mut decided = view;
    let decision = crate::decide(&decided, now);
    assert!(decision.upkeep.slots.as_ref().is_some_and(|(_, target)| target.forget.len() == 2));
    decided.dispatched(&decision, now);
    assert!(crate::decide(&decided, now).upkeep.slots.is_none(), "once");
}
