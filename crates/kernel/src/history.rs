//! The `history` key: kept by the leader from the history file of its timeline (spec/ha.md 18).

use crate::View;
use pgherd_types::{Cluster, HistoryRow, RunningServer, Timeline};

/// The rows to write, if the key does not say so already. The newest row's time is for the writer to fill in.
pub fn owed(view: &View, cluster: &Cluster, running: &RunningServer) -> Option<Vec<HistoryRow>> {
    if running.timeline? <= Timeline(1) {
        let stale = cluster.history.as_ref().is_some_and(|rows| !rows.is_empty());
        return stale.then(Vec::new);
    }
    if running.history.is_empty() {
        return None;
    }
    let keep = match view.settings.max_timelines_history {
        0 => running.history.len(),
        n => n.min(running.history.len()),
    };
    let wanted = &running.history[running.history.len() - keep..];
    let known = cluster.history.as_deref().unwrap_or_default();
    let same = known.len() == wanted.len() && known.iter().zip(wanted).all(|(a, b)| same_switch(a, b));
    (!same).then(|| wanted.iter().map(|row| with_known(view, row, known, wanted)).collect())
}

fn same_switch(a: &HistoryRow, b: &HistoryRow) -> bool {
    a.timeline == b.timeline && a.switch_lsn == b.switch_lsn
}

fn with_known(view: &View, row: &HistoryRow, known: &[HistoryRow], wanted: &[HistoryRow]) -> HistoryRow {
    if let Some(before) = known.iter().find(|k| same_switch(k, row)) {
        return before.clone();
    }
    let newest = wanted.last().is_some_and(|last| same_switch(last, row));
    HistoryRow { new_leader: newest.then(|| view.me.name.to_string()), ..row.clone() }
}
