use super::super::testing::{key, row, streaming, view};
use super::*;
use pgherd_types::StandbyNames;

fn shown<'a>(names: impl IntoIterator<Item = &'a SyncName>) -> String {
    names.into_iter().map(SyncName::as_str).collect::<Vec<_>>().join(",")
}

fn ranked(view: &SyncView) -> String {
    shown(&eligible(view).ranked)
}

fn picked(view: &SyncView) -> String {
    shown(&eligible(view).picked)
}

fn two(mode: SyncMode) -> SyncView {
    streaming(view("a", mode), &[row("b", 1000, SyncState::Async), row("c", 900, SyncState::Async)])
}

fn with(mut view: SyncView, change: impl FnOnce(&mut SyncView)) -> SyncView {
    change(&mut view);
    view
}

fn member<'a>(view: &'a mut SyncView, name: &str) -> &'a mut SyncMember {
    view.members.get_mut(&name.into()).unwrap()
}

#[test]
fn one_that_is_to_be_none_any_more_makes_way_for_another() {
    let leaves = |mode, names: &str| {
        with(two(mode), |v| {
            v.names = Some(StandbyNames::read(names));
            member(v, "b").nosync = true;
        })
    };
    let view = leaves(SyncMode::On, "b");
    assert_eq!((ranked(&view).as_str(), picked(&view).as_str()), ("b,c", "c"), "it stays until c has taken its place");
    assert_eq!(ranked(&leaves(SyncMode::On, "c")), "c");
    assert_eq!(ranked(&leaves(SyncMode::Quorum, "ANY 1 (b,c)")), "c", "the others are enough");
}

#[test]
fn who_does_not_count() {
    let of = |change: fn(&mut SyncView)| ranked(&with(two(SyncMode::On), change));
    assert_eq!(of(|_| {}), "b,c");
    assert_eq!(of(|v| member(v, "b").nosync = true), "c");
    assert_eq!(of(|v| member(v, "b").sync_priority = 0), "c");
    assert_eq!(of(|v| member(v, "b").presence = Presence::NotRunning), "c");
    assert_eq!(of(|v| drop(v.members.remove(&"b".into()))), "c");
    assert_eq!(of(|v| v.rows[0].lsn = None), "c");
    assert_eq!(of(|v| v.rows[0].silent = true), "c");
    assert_eq!(of(|v| v.me = "B".into()), "c");
    assert_eq!(
        of(|v| *v = streaming(v.clone(), &[row("x,y", 1, SyncState::Async), row("*", 1, SyncState::Async)])),
        ""
    );
}

#[test]
fn a_lapsed_key_does_not_end_synchrony() {
    let lapsed = |presence| with(two(SyncMode::On), |v| member(v, "b").presence = presence);
    assert_eq!(ranked(&lapsed(Presence::SeenLately)), "b,c");
    assert_eq!(ranked(&lapsed(Presence::Gone)), "c", "not newly chosen");
    let chosen = with(lapsed(Presence::Gone), |v| v.names = Some(StandbyNames::read("b")));
    assert_eq!(ranked(&chosen), "c,b", "stays, but a member that is there is better");
    assert_eq!(ranked(&with(chosen, |v| member(v, "c").presence = Presence::Gone)), "b");
    assert_eq!(ranked(&with(lapsed(Presence::Gone), |v| v.key = key(4, "a", 0, &["b"]))), "c,b");
}

#[test]
fn a_name_that_somebody_else_uses_counts_for_nobody() {
    let mut thief = row("b", 2000, SyncState::Async);
    (thief.pid, thief.slot_matches) = (7, false);
    let v = with(two(SyncMode::Quorum), |v| v.rows.push(thief));
    assert_eq!((picked(&v), shown(&eligible(&v).borrowed)), ("c".to_owned(), "b".to_owned()));
    // a client that calls itself like no member is nobody's business
    let client = StandbyRow { slot_matches: false, ..row("pg_receivewal", 1, SyncState::Async) };
    assert_eq!(shown(&eligible(&with(two(SyncMode::On), |v| v.rows.push(client))).borrowed), "");
}

#[test]
fn of_two_connections_of_one_member_the_one_behind_counts() {
    let mut again = row("b", 800, SyncState::Async);
    again.pid = 7;
    let v = with(two(SyncMode::On), |v| v.rows.push(again));
    assert_eq!(ranked(&v), "c,b");
    assert_eq!(ranked(&with(v, |v| v.rows[2].silent = true)), "b,c");
}

#[test]
fn members_that_stream_from_others_are_passed_over() {
    let to =
        |from: &'static str, to: &'static str| move |v: &mut SyncView| member(v, from).replicate_from = Some(to.into());
    assert_eq!(ranked(&with(two(SyncMode::On), to("c", "b"))), "b");
    assert_eq!(ranked(&with(two(SyncMode::On), to("c", "a"))), "b,c");
    assert_eq!(ranked(&with(two(SyncMode::On), to("c", "nobody"))), "b,c");
    let through = with(two(SyncMode::On), |v| {
        v.members.insert("d".into(), SyncMember { replicate_from: Some("b".into()), ..SyncMember::default() });
    });
    assert_eq!(ranked(&with(through, to("c", "d"))), "b", "through one that is not connected");
    let circle = with(with(two(SyncMode::On), to("c", "e")), |v| {
        v.members.insert("e".into(), SyncMember { replicate_from: Some("e".into()), ..SyncMember::default() });
    });
    assert_eq!(ranked(&circle), "b,c");
}

#[test]
fn the_order() {
    let rows = [
        row("b", 900, SyncState::Async),
        row("c", 1000, SyncState::Potential),
        row("d", 800, SyncState::Sync),
        row("e", 1000, SyncState::Async),
        row("f", 700, SyncState::Async),
        row("g", 1000, SyncState::Sync),
    ];
    let v = with(streaming(view("a", SyncMode::On), &rows), |v| {
        member(v, "f").sync_priority = 2;
        member(v, "g").nofailover = true;
        v.settings.node_count = 2;
    });
    assert_eq!((ranked(&v), picked(&v)), ("f,d,c,e,b,g".to_owned(), "d,f".to_owned()));
    // PostgreSQL has been told of b, but does not show it yet
    let v = with(v, |v| v.names = Some(StandbyNames::read("b")));
    assert_eq!(ranked(&v), "f,d,c,b,e,g");
}

#[test]
fn whoever_is_too_far_behind_is_not_chosen() {
    let limited = |limit| with(two(SyncMode::Quorum), |v| v.settings.maximum_lag = Some(limit));
    assert_eq!(picked(&limited(100)), "b,c");
    assert_eq!(picked(&limited(99)), "b");
    assert_eq!(picked(&limited(0)), "b,c", "no limit");
    let behind = with(limited(50), |v| v.position = Lsn(5000));
    assert_eq!(picked(&behind), "b", "the best of several is the measure");
    let alone = with(behind, |v| drop(v.rows.pop()));
    assert_eq!(picked(&alone), "", "one alone is measured by the primary");
}

#[test]
fn quorum_takes_all_but_members_that_never_lead() {
    let v = with(two(SyncMode::Quorum), |v| member(v, "b").nofailover = true);
    assert_eq!(picked(&v), "c");
    assert_eq!(picked(&with(v, |v| v.settings.node_count = 2)), "b,c");
    assert_eq!(picked(&two(SyncMode::On)), "b");
}
