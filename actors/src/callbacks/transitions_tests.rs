//! One test a row of the table, each a story of reports and the calls that follow from it.

use super::*;
use Role::{Demoted, Primary, Promoted, Replica, StandbyLeader, Uninitialized};
use ServerPhase::{
    Crashed, CreatingReplica, InitializingNewCluster, RestartFailed, Restarting, Running, Starting, Stopped, Stopping,
};

fn up(role: Role, phase: ServerPhase, started: &str) -> ServerReport {
    ServerReport { role, phase, server: ServerSeen::Up { started: started.to_owned() }, timeline: Some(Timeline(1)) }
}

fn not_up(role: Role, phase: ServerPhase, server: ServerSeen) -> ServerReport {
    ServerReport { role, phase, server, timeline: None }
}

fn down(role: Role, phase: ServerPhase) -> ServerReport {
    not_up(role, phase, ServerSeen::Down)
}

fn nothing() -> ServerReport {
    not_up(Uninitialized, Stopped, ServerSeen::Unknown)
}

/// The calls in the words that scripts see.
fn calls(story: impl IntoIterator<Item = ServerReport>) -> Vec<String> {
    let mut seen = Seen::default();
    let mut calls = Vec::new();
    for report in story {
        let next = seen.then(&report);
        calls.extend(
            transitions(&seen, &next).into_iter().map(|e| format!("{} {}", e.action.as_str(), e.role.as_str())),
        );
        seen = next;
    }
    calls
}

#[test]
fn a_new_cluster_calls_nothing_before_its_server_serves() {
    let story = [
        nothing(),
        down(Uninitialized, InitializingNewCluster),
        up(Replica, InitializingNewCluster, "0"),
        down(Primary, Starting),
        up(Primary, Starting, "1"),
        up(Primary, Running, "1"),
    ];
    assert_eq!(calls(story), ["on_start primary"]);
    let clone = [nothing(), down(Uninitialized, CreatingReplica), down(Replica, Starting), up(Replica, Running, "1")];
    assert_eq!(calls(clone), ["on_start replica"]);
}

#[test]
fn a_server_that_is_found_running_is_told_once() {
    let story = [nothing(), up(Primary, Running, "1"), up(Primary, Running, "1")];
    assert_eq!(calls(story), ["on_start primary"]);
    let hiccup = not_up(Primary, Starting, ServerSeen::Between);
    assert_eq!(calls([up(Primary, Running, "1"), hiccup, up(Primary, Running, "1")]), ["on_start primary"]);
}

#[test]
fn a_stopped_data_directory_calls_nothing() {
    assert_eq!(calls([nothing(), down(Demoted, Stopped), down(Replica, Starting)]), [""; 0]);
}

#[test]
fn a_promotion_is_told_when_the_server_is_writable() {
    let before = [up(Replica, Running, "1"), up(Promoted, Running, "1")];
    assert_eq!(calls(before.clone()), ["on_start replica"]);
    let story = before.into_iter().chain([up(Primary, Running, "1"), up(Primary, Running, "1")]);
    assert_eq!(calls(story), ["on_start replica", "on_role_change primary"]);
    assert_eq!(calls([up(Promoted, Running, "1")]), ["on_start replica"]);
}

#[test]
fn a_standby_leader_is_told_while_it_runs() {
    let story = [Replica, StandbyLeader, Replica].map(|role| up(role, Running, "1"));
    assert_eq!(calls(story), ["on_start replica", "on_role_change standby_leader", "on_role_change replica"]);
}

#[test]
fn a_demotion_is_a_stop_and_a_change_of_role_but_no_start() {
    let story = [
        up(Primary, Running, "1"),
        up(Primary, Stopping, "1"),
        not_up(Primary, Stopping, ServerSeen::Stopping),
        down(Primary, Stopping),
        down(Demoted, Stopped),
        down(Replica, Starting),
        up(Replica, Running, "2"),
    ];
    assert_eq!(calls(story), ["on_start primary", "on_stop primary", "on_role_change replica"]);
}

#[test]
fn a_stop_in_order_is_told_whoever_asked_for_it() {
    let by_agent = [up(Replica, Running, "1"), up(Replica, Stopping, "1"), down(Replica, Stopping)];
    assert_eq!(calls(by_agent), ["on_start replica", "on_stop replica"]);
    let stopping = not_up(Replica, Stopping, ServerSeen::Stopping);
    let by_hand = [up(Replica, Running, "1"), stopping, down(Replica, Starting), up(Replica, Running, "2")];
    assert_eq!(calls(by_hand), ["on_start replica", "on_stop replica", "on_start replica"]);
    let given_up = [up(Primary, Running, "1"), up(Primary, Stopping, "1"), up(Primary, Running, "1")];
    assert_eq!(calls(given_up), ["on_start primary"]);
}

#[test]
fn a_restart_is_told_as_one() {
    let begun = [up(Primary, Running, "1"), up(Primary, Restarting, "1"), down(Primary, Restarting)];
    let came_back = [up(Primary, Restarting, "2"), up(Primary, Running, "2")];
    let story = begun.clone().into_iter().chain(came_back);
    assert_eq!(calls(story), ["on_start primary", "on_restart primary"]);
    let slowly = [down(Primary, Starting), not_up(Primary, Starting, ServerSeen::Between), up(Primary, Running, "2")];
    assert_eq!(calls(begun.clone().into_iter().chain(slowly)), ["on_start primary", "on_restart primary"]);
    let failed = begun.clone().into_iter().chain([down(Primary, RestartFailed)]);
    assert_eq!(calls(failed), ["on_start primary", "on_stop primary"]);
    let as_another = begun.into_iter().chain([up(Replica, Running, "2")]);
    assert_eq!(calls(as_another), ["on_start primary", "on_role_change replica"]);
}

#[test]
fn a_quick_restart_whose_down_was_not_seen_is_told_too() {
    let story = [up(Replica, Running, "1"), up(Replica, Restarting, "1"), up(Replica, Running, "2")];
    assert_eq!(calls(story), ["on_start replica", "on_restart replica"]);
}

#[test]
fn a_crashed_server_that_comes_back_is_told_as_a_start() {
    let crashed = [up(Primary, Running, "1"), down(Primary, Starting), up(Primary, Running, "2")];
    assert_eq!(calls(crashed), ["on_start primary", "on_start primary"]);
    let with_orphans = [
        up(Primary, Running, "1"),
        not_up(Primary, Stopping, ServerSeen::Orphaned),
        down(Primary, Stopping),
        down(Primary, Starting),
        up(Primary, Running, "2"),
    ];
    assert_eq!(calls(with_orphans), ["on_start primary", "on_start primary"]);
}

#[test]
fn a_crashed_primary_that_cannot_be_started_is_told_as_demoted() {
    let story = [
        up(Primary, Running, "1"),
        down(Primary, Crashed),
        down(Primary, Starting),
        down(Primary, ServerPhase::StartFailed),
        down(Demoted, ServerPhase::StartFailed),
        down(Demoted, Stopped),
    ];
    assert_eq!(calls(story.clone()), ["on_start primary", "on_role_change demoted"]);
    let back = story.clone().into_iter().chain([up(Replica, Running, "2")]);
    assert_eq!(calls(back), ["on_start primary", "on_role_change demoted", "on_role_change replica"]);
    let won_again = story.into_iter().chain([up(Primary, Running, "2")]);
    assert_eq!(calls(won_again), ["on_start primary", "on_role_change demoted", "on_role_change primary"]);
}

#[test]
fn a_crashed_replica_is_not_told_before_it_is_back() {
    let story = [up(Replica, Running, "1"), down(Replica, Crashed), down(Replica, Starting)];
    assert_eq!(calls(story), ["on_start replica"]);
}

#[test]
fn a_new_copy_of_the_data_is_a_stop_and_a_start() {
    let story = [
        up(Replica, Running, "1"),
        up(Replica, Stopping, "1"),
        down(Replica, Stopping),
        down(Uninitialized, CreatingReplica),
        down(Replica, Starting),
        up(Replica, Running, "2"),
    ];
    assert_eq!(calls(story), ["on_start replica", "on_stop replica", "on_start replica"]);
}

#[test]
fn an_event_says_what_was_told_before_and_the_timeline() {
    let before = Seen::default().then(&up(Replica, Running, "1"));
    let promoted = ServerReport { timeline: Some(Timeline(2)), ..up(Primary, Running, "1") };
    let events = transitions(&before, &before.then(&promoted));
    let [Event { previous: Some(Replica), timeline: Some(Timeline(2)), role: Primary, .. }] = events[..] else {
        panic!("{events:?}")
    };
}
