use super::*;
use crate::testing::*;
use crate::{Observation, decide};
use pgherd_types::{
    Lsn, Now, OperationId, PermanentSlot, PostgresState, SeenSlot, Server, SlotFault, SyncKey, SyncName, SyncSeen,
};

fn case() -> Case {
    replica().with_view(|v| {
        let decoding = Decoding { database: "postgres".into(), plugin: "test_decoding".into() };
        for name in ["one", "two"] {
            let kind = SlotKind::Logical(decoding.clone());
            v.settings.slots.permanent.insert(name.into(), PermanentSlot { kind, in_standby_cluster: None });
        }
    })
}
fn known(case: Case, slots: &[&str]) -> Case {
    let slots = slots.iter().map(|name| ((*name).to_owned(), Lsn(900))).collect();
    case.with_cluster(|c| c.status.slots = slots)
}
fn seen(name: &str) -> SeenSlot {
    let text = |text: &str| Some(text.to_owned());
    SeenSlot {
        name: name.into(),
        database: text("postgres"),
        plugin: text("test_decoding"),
        managed: true,
        confirmed: Some(Lsn(900)),
        ..SeenSlot::default()
    }
}
fn copied(decision: &crate::Decision) -> String {
    match &decision.role {
        crate::Action::Start { operation: Operation::CopySlots { slots, from }, .. } => {
            format!("{} from {}", slots.keys().cloned().collect::<Vec<_>>().join(" "), from.member)
        }
        other => name_of(other),
    }
}

#[test]
fn all_missing_slots_that_the_leader_has_are_copied_at_once() {
    let decision = check(known(case(), &["one", "two"]), "Start CopySlots", "CopyingSlots");
    assert_eq!(copied(&decision), "one two from b");
    assert_eq!(decision.because.to_string(), "Copying logical slots ['one', 'two'] from the primary");
    check(known(case(), &[]), "Hold", "Following");
    check(known(case(), &["one"]).with_server(|s| s.slots = vec![seen("one")]), "Hold", "Following");
}

/// Only `one` is wanted.
fn alone(case: Case) -> Case {
    case.with_view(|v| drop(v.settings.slots.permanent.remove("two")))
}

#[test]
fn a_slot_that_comes_a_little_later_is_copied_with_the_others() {
    let (mut view, decision) = known(case(), &["two"]).decide();
    assert_eq!((copied(&decision).as_str(), decision.because.id().as_str()), ("Hold", "AwaitingOtherSlots"));
    assert_eq!(
        decision.because.to_string(),
        "waiting for the primary to tell of logical slots ['one'], to copy all at once"
    );
    let at = |ms: u64| Now { mono: Instant::from_millis(60_000 + ms), ..Now::default() };
    let step = |view: &mut View, ms| {
        let decision = decide(view, at(ms));
        view.dispatched(&decision, at(ms));
        (copied(&decision), decision.decide_again_at)
    };
    let (held, again_at) = step(&mut view, 1);
    assert!(held == "Hold" && again_at >= at(5_000).mono, "nothing polls");
    let tell = |view: &mut View, slots: &[&str], ms| {
        let mut cluster = view.cluster.get().unwrap().as_ref().clone();
        cluster.status.slots = slots.iter().map(|name| ((*name).to_owned(), Lsn(900))).collect();
        view.apply(Observation::Cluster { cluster: std::sync::Arc::new(cluster), read_at: at(ms).mono }, at(ms));
    };
    let mut comes = view.clone();
    tell(&mut comes, &["one", "two"], 3_000);
    assert_eq!(step(&mut comes, 3_000).0, "one two from b", "at once, and both");
    let mut unwanted = view.clone();
    unwanted.settings.slots.permanent.remove("one");
    assert_eq!(step(&mut unwanted, 3_000).0, "two from b");

    // one that does not come is not waited for for ever, and has its own copy when it comes at last
    assert_eq!(step(&mut view, 9_500), ("Hold".into(), at(10_000).mono));
    assert_eq!(step(&mut view, 10_000).0, "two from b");
    view.apply(Observation::OperationFinished { id: OperationId(1), end: OperationEnd::Done }, at(12_000));
    let mut server = view.postgres.get().unwrap().running().unwrap().clone();
    server.slots = vec![seen("two")];
    let looked = PostgresState { server: Server::Running(server), ..view.postgres.get().unwrap().as_ref().clone() };
    view.apply(Observation::Postgres(std::sync::Arc::new(looked)), at(12_000));
    assert_eq!(step(&mut view, 12_000).0, "Hold", "nothing is to be copied");
    assert_eq!(view.slots.copies.others_awaited_since, None, "the next wait is a new one");
    tell(&mut view, &["one", "two"], 60_000);
    assert_eq!(step(&mut view, 60_000).0, "one from b");
}

#[test]
fn a_slot_that_is_here_is_not_waited_for() {
    let here = known(case(), &["two"]).with_server(|s| s.slots = vec![seen("one")]);
    check(here, "Start CopySlots", "CopyingSlots");
}

#[test]
fn not_where_slots_do_not_come_by_copying() {
    for version in [100_020, 170_002] {
        check(known(alone(case()), &["one"]).with_server(|s| s.server_version = version), "Hold", "Following");
    }
    check(known(alone(case()), &["one"]).with_view(|v| v.me.tags.nofailover = true), "Hold", "Following");
    check(known(alone(case()), &["one"]).with_view(|v| v.settings.use_slots = false), "Hold", "Following");
    let mut paused = known(alone(case()), &["one"]);
    paused.view.settings.pause = true;
    assert_eq!(name_of(&paused.decide().1.role), "Hold");
}

#[test]
fn a_lost_slot_is_copied_again_and_one_whose_wal_was_missed_twice() {
    let lost = |slot: SeenSlot| SeenSlot { lost: true, ..slot };
    check(
        known(alone(case()), &["one"]).with_server(|s| s.slots = vec![lost(seen("one"))]),
        "Start CopySlots",
        "CopyingSlots",
    );
    let missed = |count| {
        known(alone(case()), &["one"]).with_server(|s| s.slots = vec![seen("one")]).with_view(move |v| {
            let fault = SlotFault { text: "gone".into(), wal_is_gone: true };
            let failing = super::super::memory::Failing { fault, count, until: Instant::default() };
            v.slots.failing.insert("one".into(), failing);
        })
    };
    check(missed(1), "Hold", "Following");
    check(missed(2), "Start CopySlots", "CopyingSlots");
}

#[test]
fn whatever_becomes_of_a_copy_the_next_one_waits_longer() {
    let (mut view, _) = known(alone(case()), &["one"]).decide();
    let at = |s: u64| Now { mono: Instant::from_millis(60_000 + s * 1000), ..Now::default() };
    let failed = || OperationEnd::Failed("WAL is missing".into());
    view.apply(Observation::OperationFinished { id: OperationId(1), end: failed() }, at(1));
    assert_eq!(copied(&decide(&view, at(9))), "Hold");
    let again = decide(&view, at(10));
    assert_eq!(copied(&again), "one from b");
    view.dispatched(&again, at(10));
    view.apply(Observation::OperationFinished { id: OperationId(2), end: OperationEnd::Done }, at(11));
    assert_eq!(copied(&decide(&view, at(29))), "Hold", "also when it said that it worked and the slot is not there");
    assert_eq!(copied(&decide(&view, at(30))), "one from b");
    let why = crate::slots::unsafe_slots(
        &view,
        view.cluster.get().unwrap(),
        view.postgres.get().unwrap().running().unwrap(),
        at(11).mono,
    );
    assert_eq!(why["one"], "it is not here yet");
}

#[test]
fn new_data_get_their_slots_before_the_first_start() {
    let from = || Upstream { member: "b".into(), host: "b".into(), port: 5432 };
    let made = |operation, end| known(alone(case()), &["one"]).stopped().ended(operation, end);
    let clone = || Operation::Clone { from: from(), replace: false, basebackup_only: false };
    check(made(clone(), OperationEnd::Done), "Start CopySlots", "CopyingSlots");
    check(made(Operation::Rewind { from: from() }, OperationEnd::Done), "Start CopySlots", "CopyingSlots");
    let copy = || Operation::CopySlots { from: from(), slots: BTreeMap::new() };
    for end in [OperationEnd::Done, OperationEnd::Failed("no".into())] {
        check(made(copy(), end), "Start StartReplica", "StartingAsSecondary");
    }
    check(
        made(Operation::Stop { mode: pgherd_types::StopMode::Fast }, OperationEnd::Done),
        "Start StartReplica",
        "StartingAsSecondary",
    );
}

#[test]
fn a_synchronous_standby_is_let_go_before_it_is_restarted_and_after_the_others() {
    let listed = |names: &[&str]| {
        let standbys = names.iter().map(|name| SyncName::from(*name)).collect();
        SyncSeen::Valid(SyncKey { leader: Some("b".into()), standbys, ..SyncKey::default() })
    };
    let synchronous = |names: &[&str]| {
        let key = listed(names);
        known(alone(case()), &["one"])
            .with_cluster(|c| c.sync = key)
            .with_view(|v| v.settings.sync.mode = pgherd_types::SyncMode::On)
    };
    check(synchronous(&["c"]), "Start CopySlots", "CopyingSlots");
    let (mut view, decision) = synchronous(&["a"]).decide();
    let at = |ms: u64| Now { mono: Instant::from_millis(60_000 + ms), ..Now::default() };
    assert_eq!((copied(&decision).as_str(), decision.because.id().as_str()), ("Hold", "AwaitingSyncRelease"));
    let step = |view: &mut View, ms| {
        let decision = decide(view, at(ms));
        view.dispatched(&decision, at(ms));
        copied(&decision)
    };
    assert!(!crate::shown::tags(&view).nosync);
    assert_eq!(step(&mut view, 4_999), "Hold");
    assert!(!crate::shown::tags(&view).nosync, "those that are not synchronous go first");
    assert_eq!(step(&mut view, 5_000), "Hold");
    assert!(crate::shown::tags(&view).nosync, "it asks to be let go");
    assert_eq!(step(&mut view, 5_100), "Hold");
    let mut not_needed = view.clone();
    not_needed.settings.slots.permanent.clear();
    assert_eq!(step(&mut not_needed, 5_200), "Hold");
    assert!(!crate::shown::tags(&not_needed).nosync, "nothing is to be copied any more");
    let mut never = view.clone();
    assert_eq!(step(&mut never, 24_999), "Hold");
    assert_eq!(step(&mut never, 25_000), "one from b", "there is no other: it does not wait for ever");
    let cluster = Cluster { sync: listed(&["c"]), ..view.cluster.get().unwrap().as_ref().clone() };
    view.apply(Observation::Cluster { cluster: std::sync::Arc::new(cluster), read_at: at(5_300).mono }, at(5_300));
    assert_eq!(step(&mut view, 5_300), "one from b");
    assert!(crate::shown::tags(&view).nosync, "until it is down");
    view.apply(Observation::OperationFinished { id: OperationId(1), end: OperationEnd::Done }, at(6_000));
    assert!(!crate::shown::tags(&view).nosync);
}
