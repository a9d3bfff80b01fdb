//! States in which waiting, and saying so, is all that can be done.

use crate::candidates::{Found, Wanted, find};
use crate::decide::Verdict;
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
    Verdict::hold(words(server))
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
    use pgherd_types::{DataDirectory, Server};

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
