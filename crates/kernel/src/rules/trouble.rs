//! States in which waiting, and saying so, is all that can be done.

use crate::decide::Verdict;
use crate::rules::release_once;
use crate::{Reason, View};
use pgherd_types::{Instant, Server};

/// The data directory is there but cannot be used: a leader makes room for another.
pub fn unusable(view: &View, why: &str, now: Instant) -> Verdict {
    let because = Reason::DataUnusable { why: why.to_owned() };
    if view.leads(now) { release_once(view, now, None, because) } else { Verdict::hold(because) }
}

/// A postmaster is there, but nobody can use it yet, or any more.
pub fn not_serving(server: &Server) -> Verdict {
    Verdict::hold(match server {
        Server::Stopping => Reason::StillStopping,
        Server::Unresponsive(why) => Reason::Unresponsive { why: why.clone() },
        Server::Starting | Server::Stopped | Server::Orphaned | Server::Running(_) => Reason::StillStarting,
    })
}
