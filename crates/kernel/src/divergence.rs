//! Is our data on the leader's history? Judged by the `history` key, never by numbers alone: a timeline that ended at
//! S is on the leader's history up to S and not a byte further (PostgreSQL manual, "Timelines").

use crate::View;
use crate::view::Diverged;
use pgherd_types::{Cluster, ControlData, Lsn, Member, Role, RunningServer, Timeline};

/// The finding.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Standing {
    /// All of our WAL is on it.
    OnHistory,
    /// Some is not.
    Diverged(Diverged),
    /// It cannot be told yet.
    Unknown(&'static str),
}

/// A running standby.
pub fn of_running(view: &View, cluster: &Cluster, leader: &Member, running: &RunningServer) -> Standing {
    let control_timeline = view.postgres.get().and_then(|p| p.control()).map(|c| c.checkpoint_timeline);
    match running.timeline.or(control_timeline) {
        Some(timeline) => judge(view, cluster, leader, timeline, running.position(), false),
        None => Standing::Unknown("its timeline is not known yet"),
    }
}

/// A server that is down: a former primary by the end of its WAL, a standby by its minimum recovery point.
pub fn of_stopped(view: &View, cluster: &Cluster, leader: &Member, control: &ControlData) -> Standing {
    if let Some(found) = remembered(view, leader) {
        return Standing::Diverged(found);
    }
    if control.standby_signal {
        let timeline = control.min_recovery_timeline.max(control.checkpoint_timeline);
        return judge(view, cluster, leader, timeline, control.min_recovery_lsn, false);
    }
    match control.wal_end {
        Some(end) => judge(view, cluster, leader, control.wal_timeline(), end, true),
        None => Standing::Unknown("the end of its WAL is not known yet"),
    }
}

/// A divergence found while the server ran holds as long as the same timeline leads: what is on disk of a stopped
/// standby shows less than it had received.
fn remembered(view: &View, leader: &Member) -> Option<Diverged> {
    view.diverged.clone().filter(|found| leader.doc.timeline.is_none_or(|now| now == found.leader_timeline))
}

fn judge(view: &View, cluster: &Cluster, leader: &Member, ours: Timeline, end: Lsn, was_primary: bool) -> Standing {
    let (Some(Role::Primary), Some(theirs)) = (leader.doc.role, leader.doc.timeline) else {
        return Standing::Unknown("the leader has not finished its promotion");
    };
    let diverged = |text: String| {
        let text = format!(
            "{text}. Data are left untouched; to make this node a replica again have them replaced (pgherd reinit) or use \
             pg_rewind by hand"
        );
        Standing::Diverged(Diverged { timeline: ours, leader_timeline: theirs, text })
    };
    let promised = cluster.timeline_reserved.is_some_and(|reserved| theirs < reserved);
    if promised && leader.doc.pgherd.is_some() {
        return Standing::Unknown("the leader has not finished its promotion");
    }
    if ours > theirs {
        if view.cluster.when() < view.postgres.when() {
            return Standing::Unknown("the cluster was read before this server was looked at");
        }
        return diverged(format!(
            "diverged: {} is on timeline {ours}, the leader {} only on {theirs}",
            view.me.name, leader.name
        ));
    }
    if ours == theirs {
        let known = leader.doc.xlog_location;
        return match was_primary {
            // unique timelines: two primaries of one number cannot be ours, but a Patroni member may have made them
            true if known.is_none_or(|lsn| end > lsn) => diverged(format!(
                "diverged: timeline {ours} was used here up to {end} and by the leader {}",
                leader.name
            )),
            _ => Standing::OnHistory,
        };
    }
    let Some(rows) = &cluster.history else { return Standing::Unknown("the leader has not written its history yet") };
    match rows.iter().find(|row| row.timeline == ours) {
        Some(row) if end <= row.switch_lsn => Standing::OnHistory,
        Some(row) => diverged(format!(
            "diverged: timeline {ours} ended at {} on the leader's history, this node has WAL up to {end}",
            row.switch_lsn
        )),
        // one of ours shows its timeline only once the key tells how it came about; another may still have to write it
        None if leader.doc.pgherd.is_none() && rows.last().is_none_or(|row| row.timeline < ours) => {
            Standing::Unknown("the leader has not written its history yet")
        }
        None => diverged(format!("diverged: timeline {ours} is not on the history of the leader {}", leader.name)),
    }
}
