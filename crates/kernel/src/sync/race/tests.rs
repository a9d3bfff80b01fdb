use super::super::testing::key;
use super::*;

fn valid(quorum: u32, standbys: &[&str]) -> SyncKey {
    match key(4, "a", quorum, standbys) {
        SyncSeen::Valid(key) => key,
        other => panic!("{other:?}"),
    }
}

fn rule(seen: &SyncSeen, last: Option<&SyncKey>, mode: SyncMode, me: &str) -> String {
    match may_race(seen, last, mode, &me.into()) {
        RaceRule::Asynchronous => "asynchronous".to_owned(),
        RaceRule::Barred(bar) => format!("{bar:?}"),
        RaceRule::Ballot(Ballot { remembered, .. }) => if remembered { "last key" } else { "key" }.to_owned(),
    }
}

#[test]
fn who_may_race_by_the_key() {
    use SyncMode::{Off, On, Quorum};
    let seen = SyncSeen::Valid(valid(1, &["b", "c"]));
    for (mode, me, expected) in [
        (On, "b", "key"),
        (On, "B", "key"),
        (On, "a", "key"),
        (On, "x", "NotListed"),
        (Quorum, "b", "key"),
        (Quorum, "x", "key"),
        (Off, "x", "asynchronous"),
    ] {
        assert_eq!(rule(&seen, None, mode, me), expected, "{mode:?} {me}");
    }
}

#[test]
fn a_key_that_is_gone_or_spoiled_sets_nobody_free() {
    let last = valid(0, &["b"]);
    let garbage = SyncSeen::Garbage { mod_revision: 9 };
    let without_leader = SyncSeen::Valid(SyncKey::default());
    for mode in [SyncMode::On, SyncMode::Quorum] {
        for (seen, last, me, expected) in [
            (&SyncSeen::Absent, None, "b", "asynchronous"),
            (&without_leader, None, "b", "asynchronous"),
            (&SyncSeen::Absent, Some(&last), "b", "last key"),
            (&SyncSeen::Absent, Some(&last), "a", "last key"),
            (&SyncSeen::Absent, Some(&last), "x", "NotInLastKey"),
            (&without_leader, Some(&last), "x", "NotInLastKey"),
            (&garbage, Some(&last), "b", "last key"),
            (&garbage, Some(&last), "x", "KeyUnreadable"),
            (&garbage, None, "b", "KeyUnreadable"),
        ] {
            assert_eq!(rule(seen, last, mode, me), expected, "{seen:?} {me}");
        }
    }
    assert_eq!(rule(&garbage, Some(&last), SyncMode::Off, "x"), "asynchronous");
}

#[test]
fn the_last_key_is_remembered_until_the_mode_is_off() {
    let (old, new) = (valid(0, &["b"]), valid(0, &["c"]));
    let garbage = SyncSeen::Garbage { mod_revision: 9 };
    assert_eq!(remember(Some(old.clone()), SyncMode::On, &SyncSeen::Valid(new.clone())), Some(new.clone()));
    for seen in [&SyncSeen::Absent, &garbage] {
        assert_eq!(remember(Some(old.clone()), SyncMode::Quorum, seen), Some(old.clone()));
        assert_eq!(remember(Some(old.clone()), SyncMode::Off, seen), None);
    }
    // the leader has not removed it yet
    assert_eq!(remember(None, SyncMode::Off, &SyncSeen::Valid(new.clone())), Some(new));
}

fn peer(name: &str, position: u64) -> Peer {
    Peer { name: name.into(), position: Lsn(position), timeline: Some(Timeline(2)), in_recovery: true, limited: false }
}

fn on(timeline: u32, peer: Peer) -> Peer {
    Peer { timeline: Some(Timeline(timeline)), ..peer }
}

fn ballot(mode: SyncMode, quorum: u32, standbys: &[&str]) -> Ballot {
    Ballot { key: valid(quorum, standbys), remembered: false, members_only: mode == SyncMode::On }
}

#[test]
fn votes_are_members_who_are_not_ahead() {
    let ballot = ballot(SyncMode::Quorum, 1, &["b", "c", "d"]);
    for (me, peers, expected, wins) in [
        ("b", vec![], 0, false),
        ("b", vec![peer("c", 100)], 1, true),
        ("b", vec![peer("C", 100), peer("c", 90)], 1, true),
        ("b", vec![peer("a", 99)], 1, true),
        ("b", vec![peer("c", 99), peer("d", 99)], 2, true),
        ("b", vec![peer("c", 0)], 0, false),
        ("b", vec![peer("x", 99)], 0, false),
        ("b", vec![Peer { limited: true, ..peer("c", 99) }], 0, false),
        ("b", vec![Peer { in_recovery: false, ..peer("c", 99) }], 0, false),
        // one who is ahead is in the way, unless it is the key's leader
        ("b", vec![peer("c", 99), peer("d", 101)], 1, false),
        ("b", vec![peer("c", 99), peer("x", 101)], 1, false),
        ("b", vec![peer("c", 99), peer("a", 101)], 1, true),
        // the timeline comes first; a peer that does not know its own has no vote but may be in the way
        ("b", vec![on(1, peer("c", 999))], 1, true),
        ("b", vec![on(3, peer("c", 1)), peer("d", 99)], 1, false),
        ("b", vec![Peer { timeline: None, ..peer("c", 99) }], 0, false),
        ("b", vec![Peer { timeline: None, ..peer("c", 101) }, peer("d", 99)], 1, false),
        // who is not in the key needs one more
        ("x", vec![peer("c", 100)], 0, false),
        ("x", vec![peer("c", 100), peer("d", 100)], 1, true),
        // the key's leader has everything, unless another one led since
        ("a", vec![], 0, true),
        ("a", vec![peer("c", 101)], 0, false),
    ] {
        let count = votes(&ballot, &me.into(), (Some(Timeline(2)), Lsn(100)), &peers);
        assert_eq!((count.votes, count.wins()), (expected, wins), "{me} {peers:?}");
    }
}

#[test]
fn in_mode_on_members_compare_among_themselves() {
    let on = ballot(SyncMode::On, 0, &["b", "c"]);
    assert!(votes(&on, &"b".into(), (Some(Timeline(2)), Lsn(100)), &[]).wins());
    assert!(votes(&on, &"b".into(), (Some(Timeline(2)), Lsn(100)), &[peer("x", 101), peer("a", 101)]).wins());
    assert!(!votes(&on, &"b".into(), (Some(Timeline(2)), Lsn(100)), &[peer("c", 101)]).wins());
    // the mode was changed, the key was not yet
    let quorum = ballot(SyncMode::On, 1, &["b", "c"]);
    assert!(!votes(&quorum, &"b".into(), (Some(Timeline(2)), Lsn(100)), &[]).wins());
    assert!(votes(&quorum, &"b".into(), (Some(Timeline(2)), Lsn(100)), &[peer("c", 100)]).wins());
}
