use super::*;
use crate::Observation;
use crate::testing::*;
use pgherd_types::{Now, PostgresState, Server, SyncKey, SyncSeen, WalSender};
use std::sync::Arc;
use std::time::Duration;

fn slot(name: &str, pid: Option<u32>) -> SeenSlot {
    SeenSlot { name: name.into(), physical: true, active: pid.is_some(), active_pid: pid, ..SeenSlot::default() }
}

fn sender(pid: u32, state: &str) -> WalSender {
    WalSender { pid, state: state.into(), ..WalSender::default() }
}

fn asked(case: Case) -> Case {
    let case = case.with_view(|v| v.settings.slots.consumers_wait = true);
    case.with_server(|s| s.server_version = 170_000)
}

/// `b` streams, `c` does not.
fn leader() -> Case {
    asked(primary()).with_server(|s| {
        s.slots = vec![slot("b", Some(7)), slot("c", None), slot("theirs", None)];
        s.walsenders = vec![sender(7, "streaming")];
    })
}

fn of(view: &View, now: Instant) -> Option<String> {
    Some(waited_for(view, now)?.into_iter().collect::<Vec<_>>().join(","))
}

/// At the first look, and a `ttl` later.
fn first_and_later(case: Case) -> (String, String) {
    let (mut view, now) = case.build();
    let first = of(&view, now.mono).unwrap();
    let later = now.mono + view.settings.ttl;
    look(&mut view, later, |_| {});
    (first, of(&view, later).unwrap())
}

fn look(view: &mut View, at: Instant, change: impl FnOnce(&mut RunningServer)) {
    let mut state: PostgresState = view.postgres.get().unwrap().as_ref().clone();
    state.looked_at = at;
    if let Server::Running(running) = &mut state.server {
        change(running);
    }
    view.apply(Observation::Postgres(Arc::new(state)), Now { mono: at, ..Now::default() });
}

fn down(name: &'static str) -> impl FnOnce(&mut Cluster) {
    move |c| c.members.get_mut(&name.into()).unwrap().doc.state = "stopped".into()
}

#[test]
fn it_is_only_done_where_it_is_asked_for_and_the_server_can() {
    let none = |case: Case| {
        let (view, now) = case.build();
        assert_eq!(of(&view, now.mono), None);
    };
    none(leader().with_view(|v| v.settings.slots.consumers_wait = false));
    none(leader().with_view(|v| v.settings.use_slots = false));
    none(leader().with_server(|s| s.server_version = 160_004));
    none(leader().stopped());
}

#[test]
fn consumers_wait_for_who_streams_and_a_while_for_who_may_come_back() {
    let both = |first: &str, later: &str| (first.to_owned(), later.to_owned());
    assert_eq!(first_and_later(leader()), both("b,c", "b"));
    assert_eq!(first_and_later(leader().with_cluster(down("c"))), both("b", "b"), "it says that it is down");
    let barred = |c: &mut Cluster| c.members.get_mut(&"b".into()).unwrap().doc.tags.nofailover = true;
    assert_eq!(first_and_later(leader().with_cluster(barred)), both("c", ""), "it is never promoted");
    let fed_by_b = |c: &mut Cluster| c.members.get_mut(&"c".into()).unwrap().doc.tags.replicatefrom = Some("b".into());
    assert_eq!(first_and_later(leader().with_cluster(fed_by_b)), both("b", "b"));
    let catches_up = |s: &mut RunningServer| s.walsenders = vec![sender(7, "catchup")];
    assert_eq!(first_and_later(leader().with_server(catches_up)), both("b,c", ""), "hours, perhaps");
    assert_eq!(first_and_later(leader().with_server(|s| s.slots.clear())), both("", ""), "the server would refuse it");
}

#[test]
fn a_standby_that_falls_silent_is_waited_for_once_more() {
    let (mut view, now) = leader().build();
    let ttl = view.settings.ttl;
    let gone = now.mono + ttl;
    look(&mut view, gone, |_| {});
    let until = gone + ttl;
    look(&mut view, gone + Duration::from_secs(1), |s| s.slots[0].active_pid = None);
    assert_eq!(of(&view, until.minus(Duration::from_millis(1))), Some("b".into()));
    assert_eq!(of(&view, until), Some(String::new()));
    look(&mut view, until, |s| s.slots[0].active_pid = Some(7));
    assert_eq!(of(&view, until), Some("b".into()));
}

#[test]
fn in_a_synchronous_mode_consumers_wait_for_those_that_may_be_promoted() {
    let with = |key: &str, names: &str, ordered: Option<&str>| {
        let key = SyncKey { leader: Some("a".into()), standbys: [key.into()].into(), ..SyncKey::default() };
        let case =
            leader().with_cluster(|c| c.sync = SyncSeen::Valid(key)).with_server(|s| s.sync.names = names.into());
        let (mut view, now) = case.with_view(|v| v.settings.sync.mode = SyncMode::On).build();
        view.sync.ordered = ordered.map(StandbyNames::read);
        of(&view, now.mono).unwrap()
    };
    assert_eq!(with("c", "c", None), "c", "whether it streams or not");
    assert_eq!(with("c", "b", None), "b,c");
    assert_eq!(with("c", "c", Some("2 (b,c)")), "b,c", "before it is in force");
}

#[test]
fn a_dead_synchronous_standby_is_waited_for_until_it_is_out_of_the_key() {
    let key =
        |leader: &str| SyncKey { leader: Some(leader.into()), standbys: ["c".into()].into(), ..SyncKey::default() };
    let gone = |case: Case, leader: &str| {
        let key = key(leader);
        case.with_view(|v| v.settings.sync.mode = SyncMode::On).with_cluster(|c| {
            c.sync = SyncSeen::Valid(key);
            c.members.remove(&"c".into());
        })
    };
    let list = |case: Case| {
        let (view, now) = case.build();
        of(&view, now.mono).unwrap()
    };
    assert_eq!(list(gone(leader(), "a")), "c", "it may come back, and lead");
    let standby = || asked(replica()).with_server(|s| s.slots = vec![slot("b", None), slot("c", None)]);
    assert_eq!(list(gone(standby(), "a")), "c", "before a promotion the key is there, and so is the list");
    assert_eq!(list(gone(standby(), "b")), "");
}

#[test]
fn a_standby_is_ready_to_be_promoted() {
    let standby = || asked(replica()).with_server(|s| s.slots = vec![slot("b", None), slot("c", None)]);
    let ready = |case: Case| {
        let (view, now) = case.build();
        of(&view, now.mono).unwrap()
    };
    assert_eq!(ready(standby()), "c", "the present leader will not stream at once");
    assert_eq!(ready(standby().with_cluster(down("c"))), "");
    assert_eq!(ready(standby().led_by("c", None)), "b");
}
