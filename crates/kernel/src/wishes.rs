//! What operators ask of this node: whether it is acceptable now, and how it ended (spec/ha.md 17, spec/rest-api.md 11).

use crate::View;
use pgherd_types::{
    Instant, Operation, OperationEnd, RequestId, RestartFilter, RestartWish, Role, ScheduledRestart, Server, Wish,
    WishEnd,
};
use std::time::Duration;

/// Beyond the time that the start may take, the stop before it may take this long.
const STOP_ALLOWANCE: Duration = Duration::from_secs(60);

/// A wish that is being fulfilled.
#[derive(Clone, PartialEq, Debug)]
pub enum Pending {
    /// PostgreSQL is to be restarted.
    Restart {
        /// Whose wish; `None` for a scheduled one.
        id: Option<RequestId>,
        /// How long the start may take.
        timeout: Option<Duration>,
        /// Since when.
        at: Instant,
        /// It was stopped then.
        stopped_at: Option<Instant>,
        /// Why that did not work.
        failed: Option<String>,
    },
    /// The data are to be replaced by a new copy.
    Reinitialize {
        /// Only from the leader.
        from_leader: bool,
        /// Since when.
        at: Instant,
    },
}

/// May this be asked now? A refusal is the answer.
pub fn judge(view: &View, wish: &Wish, now: Instant) -> Result<(), WishEnd> {
    match wish {
        Wish::Restart(RestartWish { filter, .. }) => {
            not_busy(view)?;
            if view.postgres.get().is_none_or(|p| p.control().is_none()) {
                return Err(WishEnd::Failed("restart failed: there are no data to start a server from".to_owned()));
            }
            let writable = view.may_be_writable();
            if view.settings.pause && writable && !view.leads(now) {
                let why = "restart failed: this primary does not hold the leader key and would come back read-only";
                return Err(WishEnd::Failed(why.to_owned()));
            }
            if filter_holds(view, filter, now) { Ok(()) } else { Err(WishEnd::ConditionsNotMet) }
        }
        Wish::ScheduleRestart(_) if view.settings.pause => Err(WishEnd::Paused),
        Wish::ScheduleRestart(_) if view.scheduled_restart.is_some() => Err(WishEnd::AlreadyScheduled),
        Wish::ScheduleRestart(_) => Ok(()),
        Wish::CancelRestart if view.scheduled_restart.is_none() => Err(WishEnd::NothingScheduled),
        Wish::CancelRestart => Ok(()),
        Wish::Reinitialize { force, .. } => {
            let leader = view.cluster.get().and_then(|c| c.leader.as_ref()).ok_or(WishEnd::NoLeader)?;
            if leader.name == view.me.name || view.leads(now) {
                return Err(WishEnd::IsLeader);
            }
            if *force { Ok(()) } else { not_busy(view) }
        }
    }
}

fn not_busy(view: &View) -> Result<(), WishEnd> {
    match (&view.operation, &view.pending) {
        (Some(running), _) => Err(WishEnd::Busy(running.operation.name().to_owned())),
        (None, Some(Pending::Restart { .. })) => Err(WishEnd::Busy("restart".to_owned())),
        (None, Some(Pending::Reinitialize { .. })) => Err(WishEnd::Busy("reinitialize".to_owned())),
        (None, None) => Ok(()),
    }
}

/// Do all the conditions of a restart hold?
pub fn filter_holds(view: &View, filter: &RestartFilter, now: Instant) -> bool {
    let running = view.postgres.get().and_then(|p| p.running());
    let role = crate::shown::role(view, now);
    let same = |wanted: Role| wanted == role || (wanted == Role::Primary && role == Role::Promoted);
    filter.role.is_none_or(same)
        && filter.below_version.is_none_or(|version| running.is_some_and(|r| r.server_version < version))
        && (!filter.pending_only || running.is_some_and(|r| r.pending_restart))
}

/// The scheduled restart, if it is due now.
pub fn due(view: &View, now: pgherd_types::Now) -> Option<&ScheduledRestart> {
    view.scheduled_restart.as_ref().filter(|restart| restart.at <= now.wall && !view.settings.pause)
}

/// Is it still about the server that runs? After another restart it is not needed any more.
pub fn same_server(view: &View, restart: &ScheduledRestart) -> bool {
    let running = view.postgres.get().and_then(|p| p.running());
    running.is_none_or(|r| r.postmaster_start_time == restart.postmaster_start_time)
}

/// How the restart under way ended, if it did.
pub fn restart_ended(view: &View, now: Instant) -> Option<(Option<RequestId>, WishEnd)> {
    let Some(Pending::Restart { id, timeout, at, stopped_at, failed }) = &view.pending else { return None };
    if let Some(why) = failed {
        return Some((*id, WishEnd::Failed(why.clone())));
    }
    let allowed = timeout.unwrap_or(view.start_timeout()) + STOP_ALLOWANCE;
    let overdue = (now >= *at + allowed).then_some((*id, WishEnd::StillStarting));
    let Some(stopped_at) = *stopped_at else { return overdue };
    let serves = view.postgres.get().filter(|p| p.looked_at >= stopped_at).is_some_and(|p| p.running().is_some());
    if serves && view.operation.is_none() {
        return Some((*id, WishEnd::Done));
    }
    match view.ended.as_ref().filter(|ended| ended.at >= stopped_at) {
        Some(ended) if starts(&ended.operation) && !matches!(ended.end, OperationEnd::Done) => {
            let why = match &ended.end {
                OperationEnd::Failed(why) => why.clone(),
                _ => "the start was given up".to_owned(),
            };
            Some((*id, WishEnd::Failed(format!("restart failed: {why}"))))
        }
        _ => overdue,
    }
}

/// When a restart under way counts as overdue.
pub fn overdue_at(view: &View) -> Option<Instant> {
    let Some(Pending::Restart { timeout, at, .. }) = &view.pending else { return None };
    Some(*at + timeout.unwrap_or(view.start_timeout()) + STOP_ALLOWANCE)
}

fn starts(operation: &Operation) -> bool {
    matches!(operation, Operation::StartPrimary | Operation::StartReplica { .. })
}

impl View {
    /// Take an accepted wish in.
    pub(crate) fn wished(&mut self, id: RequestId, wish: Wish, now: Instant) {
        match wish {
            Wish::Restart(wish) => self.pending = Some(restart(Some(id), &wish, now)),
            Wish::ScheduleRestart(restart) => self.scheduled_restart = Some(restart),
            Wish::CancelRestart => self.scheduled_restart = None,
            Wish::Reinitialize { from_leader, .. } => {
                self.pending = Some(Pending::Reinitialize { from_leader, at: now });
            }
        }
    }

    /// An operation ended: did it bring the wish further?
    pub(crate) fn wish_goes_on(&mut self, operation: &Operation, end: &OperationEnd, at: Instant) {
        match (&mut self.pending, operation, end) {
            (Some(Pending::Restart { stopped_at: stopped @ None, .. }), Operation::Stop { .. }, OperationEnd::Done) => {
                *stopped = Some(at);
            }
            (Some(Pending::Restart { failed, .. }), Operation::Stop { .. }, OperationEnd::Failed(why)) => {
                *failed = Some(format!("restart failed: {why}"));
            }
            (Some(Pending::Reinitialize { .. }), Operation::Clone { .. }, OperationEnd::Done) => self.pending = None,
            _ => {}
        }
    }

    /// A restart is wanted and the server was not stopped for it yet.
    pub(crate) fn must_stop_to_restart(&self) -> bool {
        let running = self.postgres.get().is_some_and(|p| p.server != Server::Stopped);
        running && matches!(&self.pending, Some(Pending::Restart { stopped_at: None, failed: None, .. }))
    }
}

/// A restart begins to be wanted.
pub fn restart(id: Option<RequestId>, wish: &RestartWish, at: Instant) -> Pending {
    Pending::Restart { id, timeout: wish.timeout, at, stopped_at: None, failed: None }
}
