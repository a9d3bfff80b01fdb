//! The primary of another cluster, which this one follows while it is a standby cluster. Its operator promotes it once
//! every server here is down or in recovery, from the most advanced data, and ends with it when this cluster is to have a
//! primary again. It fails over within its own cluster now and then and loses a little by that.

use crate::postgres::{CHECKPOINT_BYTES, Data, Proc};
use crate::world::{Ev, World};
use pgherd_types::{HistoryRow, Lsn, StandbyCluster, Timeline};
use std::sync::Arc;

/// Stands for it where nodes have a number.
pub const REMOTE: usize = usize::MAX;
/// Where it is.
pub const HOST: &str = "remote";
/// Two clusters do not know each other's reservations, so its numbers are far from ours.
const TIMELINES_APART: u32 = 1000;

/// The other cluster.
#[derive(Debug, Default)]
pub struct Remote {
    /// This cluster is to follow it.
    pub wanted: bool,
    /// What its primary has, once there is one.
    pub data: Option<Data>,
    /// Where its first timeline began.
    begun_at: u64,
}

/// As the nodes' settings have it.
pub fn section() -> StandbyCluster {
    StandbyCluster { host: Some(HOST.to_owned()), port: 5432 }
}

impl World {
    /// The dynamic configuration gets the section, or loses it.
    pub fn set_standby_cluster(&mut self, on: bool) {
        self.remote = Remote { wanted: on, ..Remote::default() };
        if on {
            self.promise_ends();
        }
        for n in 0..self.nodes.len() {
            self.hang_up(n);
        }
        self.change_config(|config| config.standby_cluster = on);
    }

    /// Now and then something happens there.
    pub fn remote_ticks(&mut self) {
        if !self.remote.wanted {
            return;
        }
        match self.remote.data.take() {
            None => self.remote.data = self.take_over(),
            Some(mut data) => {
                let fails_over = self.rng.permille(20);
                data.wal_end += self.setup.write_bytes;
                if fails_over {
                    let lost = self.rng.below(3 * self.setup.write_bytes);
                    data.wal_end = (data.wal_end - lost).max(self.remote.begun_at);
                    promote(&mut data);
                    self.trace.tell(self.now, || format!("the remote primary fails over to {}", data.timeline));
                    self.trace.count("happened:remote failover");
                }
                self.remote.data = Some(data);
                if fails_over {
                    (0..self.nodes.len()).for_each(|n| self.hang_up(n));
                }
                self.ship_remote();
            }
        }
    }

    fn take_over(&mut self) -> Option<Data> {
        let safe = |node: &crate::node::Node| node.pg.proc == Proc::Stopped || node.pg.in_recovery;
        let best =
            self.nodes.iter().filter_map(|node| node.pg.data.as_ref()).max_by_key(|d| (d.timeline, d.wal_end))?;
        let mut data = best.clone();
        if !self.nodes.iter().all(safe) {
            return None;
        }
        promote(&mut data);
        self.remote.begun_at = data.wal_end;
        self.trace.count("happened:remote promotion");
        self.trace.tell(self.now, || format!("the remote primary begins on timeline {}", data.timeline));
        Some(data)
    }

    /// Who streams from it notices that it is gone.
    fn hang_up(&mut self, n: usize) {
        if self.nodes[n].pg.receiver.is_some_and(|receiver| receiver.upstream == REMOTE) {
            self.nodes[n].pg.receiver = None;
            self.receiver_retry(n, 10, 1000);
        }
    }

    /// Can this standby stream from it?
    pub fn streams_from_remote(&self, n: usize) -> bool {
        let ours = self.nodes[n].pg.data.as_ref();
        matches!((ours, &self.remote.data), (Some(ours), Some(theirs)) if ours.is_within(theirs))
    }

    /// Send what it has.
    pub fn ship_remote(&mut self) {
        let Some(data) = &self.remote.data else { return };
        let (timeline, end, history) = (data.timeline, data.wal_end, Arc::clone(&data.history));
        for n in 0..self.nodes.len() {
            if self.nodes[n].pg.receiver.is_some_and(|receiver| receiver.upstream == REMOTE) {
                let (pid, attempt) = (self.nodes[n].pg.pid, self.nodes[n].pg.attempts);
                let at = self.now + self.rng.range(1, 20);
                self.push(at, Ev::Wal { n, pid, attempt, timeline, end, history: Arc::clone(&history), vacuumed: 0 });
            }
        }
    }

    /// What a standby that cannot stream learns from its source's history file.
    pub fn forked_at(&self, n: usize) -> Option<(Timeline, Lsn)> {
        let pg = &self.nodes[n].pg;
        let ours = pg.data.as_ref().filter(|_| self.remote.wanted && pg.in_recovery && pg.receiver.is_none())?;
        let (host, _) = ours.upstream.as_ref()?;
        let theirs = match host.as_str() {
            HOST => self.remote.data.as_ref()?,
            name => self.nodes.iter().find(|node| node.me.name.as_str() == name && node.up)?.pg.data.as_ref()?,
        };
        let row = theirs.history.iter().find(|row| row.timeline == ours.timeline)?;
        Some((theirs.timeline, row.switch_lsn))
    }
}

fn promote(data: &mut Data) {
    let mut history = data.history.to_vec();
    history.push(HistoryRow {
        timeline: data.timeline,
        switch_lsn: Lsn(data.wal_end),
        reason: "in the other cluster".to_owned(),
        at: None,
        new_leader: None,
    });
    data.history = Arc::new(history);
    data.timeline = Timeline(data.timeline.0 + TIMELINES_APART);
    data.wal_end += CHECKPOINT_BYTES;
    (data.checkpoint, data.min_recovery) = ((data.timeline, data.wal_end), (Timeline(0), 0));
}
