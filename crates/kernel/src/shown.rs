//! What this node says of itself: its member key, its role and its state.

use crate::sync::duty;
use crate::wishes::Pending;
use crate::{Reason, View, history};
use pgherd_types::{
    COMPATIBLE_VERSION, Initialize, Instant, MemberDoc, Operation, OperationEnd, PRODUCT_VERSION, Role, RunningServer,
    Server, ServerPhase, SyncMode, Tags,
};

/// Others judge their data by the timeline in the leader's member key and by the `history` key, which does not say whose
/// history it is: a new primary shows its timeline only once `history` tells how it came about.
fn history_tells(view: &View, running: &RunningServer) -> bool {
    running.in_recovery || view.cluster.get().is_none_or(|cluster| history::owed(view, cluster, running).is_none())
}

/// What the member key should say.
pub(crate) fn member_doc(view: &View, because: &Reason, now: Instant) -> Option<MemberDoc> {
    let postgres = view.postgres.get()?;
    let running = postgres.running();
    let standby = running.filter(|r| r.in_recovery);
    let position = |lsn: pgherd_types::Lsn| (!lsn.is_zero()).then_some(lsn);
    Some(MemberDoc {
        conn_url: Some(view.me.conn_url.clone()),
        api_url: Some(view.me.api_url.clone()),
        proxy_url: view.me.proxy_url.clone(),
        state: phase(view).as_str().to_owned(),
        role: Some(role(view, now)),
        version: Some(COMPATIBLE_VERSION.to_owned()),
        pgherd: Some(PRODUCT_VERSION.to_owned()),
        tags: tags(view),
        xlog_location: running.and_then(|r| position(r.position())),
        receive_lsn: standby.and_then(|r| position(r.received)),
        replay_lsn: standby.and_then(|r| position(r.replayed)),
        replication_state: running.and_then(|r| r.replication_state()).map(str::to_owned),
        timeline: running.filter(|r| history_tells(view, r)).and_then(|r| r.timeline),
        pending_restart: running.is_some_and(|r| r.pending_restart),
        pending_restart_reason: running.map(|r| r.pending_restart_reason.clone()).unwrap_or_default(),
        scheduled_restart: view.scheduled_restart.clone(),
        pause: view.settings.pause,
        checkpoint_pending: checkpoint_pending(view, now),
        trouble: trouble(because),
        sync_names: running
            .filter(|r| !r.in_recovery && view.settings.sync_mode() != SyncMode::Off && view.leads(now))
            .map(|r| r.sync.names.clone()),
    })
}

/// The tags to show: a standby that is about to stop asks not to be counted as a synchronous one.
pub fn tags(view: &View) -> Tags {
    let tags = view.me.tags.clone();
    if !duty::gives_up(view) {
        return tags;
    }
    let mut shown: Vec<_> =
        tags.shown.iter().filter(|(name, _)| !["nosync", "sync_priority"].contains(&name.as_str())).cloned().collect();
    shown.extend([("nosync".to_owned(), "true".to_owned()), ("sync_priority".to_owned(), "0".to_owned())]);
    Tags { nosync: true, sync_priority: Some(0), shown, ..tags }
}

/// The control file of a new primary still shows the old timeline: pg_rewind would compare the wrong one.
pub(crate) fn checkpoint_pending(view: &View, now: Instant) -> bool {
    let Some(postgres) = view.postgres.get().filter(|_| view.leads(now)) else { return false };
    match (postgres.running().filter(|running| !running.in_recovery), postgres.control()) {
        (Some(running), Some(control)) => running.timeline.is_some_and(|ours| control.checkpoint_timeline < ours),
        _ => false,
    }
}

/// The reasons that an operator must know of from `list`, because only a person can mend them.
fn trouble(because: &Reason) -> Option<String> {
    match because {
        Reason::Diverged(_)
        | Reason::ForeignData { .. }
        | Reason::DataUnusable { .. }
        | Reason::InitializeIsGarbage => Some(because.to_string()),
        _ => None,
    }
}

/// The role to show.
pub fn role(view: &View, now: Instant) -> Role {
    let Some(postgres) = view.postgres.get() else { return Role::Uninitialized };
    let Some(control) = postgres.control() else { return Role::Uninitialized };
    match &postgres.server {
        Server::Running(r) if !r.in_recovery => Role::Primary,
        _ if control.standby_signal && view.settings.standby_cluster.is_some() && view.leads(now) => {
            Role::StandbyLeader
        }
        _ if control.standby_signal => Role::Replica,
        _ if view.leads(now) => Role::Primary,
        _ => Role::Demoted,
    }
}

/// The state to show.
pub fn phase(view: &View) -> ServerPhase {
    let failed = |kind: fn(&Operation) -> bool| crate::rules::failed(view, kind);
    match view.operation.as_ref().map(|running| &running.operation) {
        Some(Operation::Bootstrap) if view.me.custom_bootstrap => return ServerPhase::RunningCustomBootstrap,
        Some(Operation::Bootstrap) => return ServerPhase::InitializingNewCluster,
        Some(Operation::Clone { .. } | Operation::Restore) => return ServerPhase::CreatingReplica,
        Some(Operation::StartPrimary | Operation::StartReplica { .. } | Operation::Stop { .. })
            if matches!(view.pending, Some(Pending::Restart { .. })) =>
        {
            return ServerPhase::Restarting;
        }
        Some(Operation::StartPrimary | Operation::StartReplica { .. }) => return ServerPhase::Starting,
        Some(Operation::Stop { .. }) => return ServerPhase::Stopping,
        Some(
            Operation::Promote { .. }
            | Operation::Follow { .. }
            | Operation::Rewind { .. }
            | Operation::CopySlots { .. },
        )
        | None => {}
    }
    match view.postgres.get().map(|p| &p.server) {
        Some(Server::Running(_)) => ServerPhase::Running,
        Some(Server::Starting | Server::Unresponsive(_)) => ServerPhase::Starting,
        Some(Server::Stopping | Server::Archiving) => ServerPhase::Stopping,
        Some(Server::Orphaned) => ServerPhase::Crashed,
        Some(Server::Stopped) if failed(|o| matches!(o, Operation::StartPrimary | Operation::StartReplica { .. })) => {
            ServerPhase::StartFailed
        }
        Some(Server::Stopped) if view.crashed => ServerPhase::Crashed,
        Some(Server::Stopped) if failed(|o| matches!(o, Operation::Bootstrap)) => {
            if view.me.custom_bootstrap {
                ServerPhase::CustomBootstrapFailed
            } else {
                ServerPhase::InitdbFailed
            }
        }
        Some(Server::Stopped) | None => ServerPhase::Stopped,
    }
}

/// Is `initialize` a foreign cluster's (for display)?
pub fn initialize_mismatch(view: &View) -> bool {
    let key = view.cluster.get().and_then(|c| c.initialize.as_ref());
    matches!((key, view.system_id()), (Some(Initialize::Done(key)), Some(ours)) if *key != ours)
}

/// Did the last operation end badly, and how (for display)?
pub fn last_failure(view: &View) -> Option<&str> {
    match &view.ended.as_ref()?.end {
        OperationEnd::Failed(why) => Some(why),
        OperationEnd::Done | OperationEnd::Cancelled | OperationEnd::TooLate => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::*;

    #[test]
    fn a_start_that_failed_after_a_crash_is_what_is_shown() {
        let crashed = || primary().stopped().with_view(|v| v.crashed = true);
        assert_eq!(phase(&crashed().build().0), ServerPhase::Crashed);
        let failed = crashed().ended(Operation::StartPrimary, OperationEnd::Failed("no space left".into()));
        assert_eq!(phase(&failed.build().0), ServerPhase::StartFailed);
    }

    #[test]
    fn a_standby_on_its_way_out_shows_that_it_is_not_to_be_counted() {
        let leaving = |mode| {
            replica().with_view(|v| {
                v.settings.sync.mode = mode;
                v.shutdown = Some(Instant::from_millis(59_000));
                v.me.tags.shown = vec![("nosync".to_owned(), "false".to_owned()), ("zone".to_owned(), "1".to_owned())];
            })
        };
        let text = |case: Case| format!("{:?}", tags(&case.build().0).shown);
        assert_eq!(text(leaving(SyncMode::On)), r#"[("zone", "1"), ("nosync", "true"), ("sync_priority", "0")]"#);
        assert_eq!(text(leaving(SyncMode::Off)), r#"[("nosync", "false"), ("zone", "1")]"#);
    }
}
