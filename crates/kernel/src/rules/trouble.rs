//! States in which waiting, and saying so, is all that can be done.

use crate::candidates::{Found, Wanted, find};
use crate::decide::Verdict;
use crate::rules::busy::{ASK_AGAIN, somebody_else};
use crate::rules::{release_once, start_unless_failing};
use crate::view::Memory;
use crate::{Reason, View};
use pgherd_types::{Cluster, Instant, Operation, Server, StopMode};

/// The data directory is there but cannot be used: a leader makes room for another, unless its server goes on serving.
pub fn unusable(view: &View, why: &str, now: Instant) -> Verdict {
    let because = Reason::DataUnusable { why: why.to_owned() };
    let serves = view.postgres.get().is_some_and(|p| p.running().is_some());
    if view.leads(now) && !serves { release_once(view, now, None, because) } else { Verdict::hold(because) }
}

/// A postmaster is there, but nobody can use it yet, or any more. A leader that does not answer for a whole ttl makes
/// room, if somebody else could serve.
pub fn not_serving(view: &View, cluster: &Cluster, server: &Server, now: Instant) -> Verdict {
    if let (true, Some(since)) = (view.leads(now), view.unresponsive_since) {
        let patience_ends = since + view.settings.ttl;
        if now < patience_ends {
            return Verdict { again_at: Some(patience_ends), ..Verdict::hold(words(server)) };
        }
        let known = cluster.status.optime;
        match find(view, cluster, &Wanted::by(None, known, Instant::default()), now) {
            Found::Asking(step) => return *step,
            Found::Nobody(_) => {}
            Found::Able(_) => {
                let stop = Operation::Stop { mode: StopMode::Immediate };
                let verdict = start_unless_failing(view, now, stop, Reason::UnresponsiveMakesRoom);
                return Verdict { remember: Some(Memory::MakesRoom), ..verdict };
            }
        }
    }
    match view.starting_since.filter(|_| view.leads(now)) {
        Some(since) => starts_long(view, since, now),
        None => Verdict::hold(words(server)),
    }
}

/// A server that a leader started goes on starting: its recovery takes long, or is held up (spec/ha.md 5.2).
fn starts_long(view: &View, since: Instant, now: Instant) -> Verdict {
    let until = since + view.start_timeout();
    if now < until {
        return Verdict::hold_until(Reason::StartingUntil { left_s: now.until(until).as_secs() }, until);
    }
    match somebody_else(view, now) {
        Found::Asking(step) => *step,
        Found::Nobody(_) => Verdict::hold_until(Reason::StartTimedOutAlone, now + ASK_AGAIN),
        Found::Able(_) => {
            let stop = Operation::Stop { mode: StopMode::Immediate };
            let verdict = start_unless_failing(view, now, stop, Reason::StartTimedOut);
            Verdict { remember: Some(Memory::MakesRoom), ..verdict }
        }
    }
}

fn words(server: &Server) -> Reason {
    match server {
        Server::Stopping | Server::Archiving => Reason::StillStopping,
        Server::Unresponsive(why) => Reason::Unresponsive { why: why.clone() },
        Server::Starting | Server::Stopped | Server::Orphaned | Server::Running(_) => Reason::StillStarting,
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::*;
    use pgherd_types::{DataDirectory, Instant, Server};
    use std::time::Duration;

    #[test]
    fn a_leader_that_goes_on_starting_makes_room_if_somebody_could_lead() {
        let starting = |since_ms| {
            primary().server(Server::Starting).with_view(move |v| {
                v.starting_since = Some(Instant::from_millis(since_ms));
                v.settings.primary_start_timeout = Duration::from_secs(20);
            })
        };
        let decision = check(starting(45_000), "Hold", "StartingUntil");
        assert_eq!(decision.because.to_string(), "PostgreSQL is still starting up, 5 seconds until timeout");
        check(starting(40_000), "Probe", "LookingForSuccessor");
        let able = |case: Case| case.peers(vec![("b", answered(1000)), ("c", silent())]);
        let (view, decision) = able(starting(40_000)).decide();
        assert_eq!((name_of(&decision.role).as_str(), view.makes_room), ("Stop Immediate", true));
        let nobody = |case: Case| case.peers(vec![("b", silent()), ("c", silent())]);
        check(nobody(starting(40_000)), "Hold", "StartTimedOutAlone");
        check(replica().server(Server::Starting), "Hold", "StillStarting");
    }

    #[test]
    fn a_leader_whose_data_cannot_be_read_makes_room_once_nothing_can_be_committed() {
        let unreadable = |mut case: Case| {
            case.postgres.data = DataDirectory::Unusable("permission denied".into());
            case
        };
        check(unreadable(primary().stopped()), "Release", "DataUnusable");
        check(unreadable(primary().server(Server::Unresponsive("x".into()))), "Stop Immediate", "DataUnusable");
        check(unreadable(primary()), "Hold", "DataUnusable");
        check(unreadable(replica().stopped()), "Hold", "DataUnusable");
    }
}
