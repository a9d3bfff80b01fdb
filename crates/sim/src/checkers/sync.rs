//! S3 and S5: in a synchronous mode nothing acknowledged is lost, and at every moment whoever the `sync` key lets win a
//! race has everything acknowledged.
//!
//! The promise begins when a primary writes the key, and covers everything acknowledged until then, too. It ends when an
//! operator switches the mode off, makes the cluster a standby cluster, or lays hands on the key, until a primary writes
//! the key again.

use crate::world::World;
use pgherd_types::{SyncKey, SyncMode, SyncName, SyncSeen, Timeline};
use std::collections::BTreeMap;

/// What is promised.
#[derive(Debug, Default)]
pub struct Promise {
    /// The promise is in force.
    pub holds: bool,
    /// The last acknowledged commit that it covers, by timeline.
    covered: BTreeMap<Timeline, u64>,
    /// The key as it was.
    key: SyncSeen,
    /// Something changed since the last check.
    changed: bool,
}

impl World {
    /// A commit is acknowledged.
    pub fn acknowledge(&mut self, n: usize, end: u64) {
        let Some(timeline) = self.nodes[n].pg.data.as_ref().map(|data| data.timeline) else { return };
        let counts = self.ledger.acknowledge(timeline, end);
        let promise = &mut self.checks.promise;
        let node = &self.nodes[n];
        // an operator answers for a primary that goes on without the key
        let by_operator = node.exempt_until > self.now || (node.recorded_pause && self.etcd.leader() != Some(n));
        if counts && promise.holds && !by_operator {
            let last = promise.covered.entry(timeline).or_default();
            *last = end.max(*last);
            promise.changed = true;
        }
    }

    /// An operator did something that ends the promise.
    pub fn promise_ends(&mut self) {
        self.checks.promise.holds = false;
    }

    /// Data were copied, rewound or lost.
    pub fn data_changed(&mut self) {
        self.checks.promise.changed = true;
    }

    /// The `sync` key was written or removed by a node.
    pub fn sync_key_written(&mut self, n: usize) {
        let after = self.etcd.cluster.sync.clone();
        let before = std::mem::replace(&mut self.checks.promise.key, after.clone());
        self.note_sync_key(before.active(), after.active());
        let primary = self.nodes[n].pg.writable && self.etcd.leader() == Some(n);
        let promise = &mut self.checks.promise;
        promise.changed = true;
        match after.active() {
            None => promise.holds = false,
            Some(_) if primary && self.sync.mode != SyncMode::Off && !self.remote.wanted => {
                promise.holds = true;
                promise.covered = self.ledger.acknowledged.clone();
            }
            Some(_) => {}
        }
    }

    fn note_sync_key(&mut self, before: Option<&SyncKey>, after: Option<&SyncKey>) {
        let Some(after) = after else {
            self.trace.count("happened:sync key removed");
            return self.trace.tell(self.now, || "etcd  sync key: gone".to_owned());
        };
        self.trace.count("happened:sync key written");
        self.trace.tell(self.now, || {
            let leader = after.leader.as_ref().map(ToString::to_string).unwrap_or_default();
            let standbys: Vec<&str> = after.standbys.iter().map(SyncName::as_str).collect();
            format!("etcd  sync key: {leader}, quorum {} of ({})", after.quorum, standbys.join(","))
        });
        let had = |name: &&SyncName| before.is_some_and(|before| before.standbys.contains(name));
        if after.standbys.iter().any(|name| !had(&name)) {
            self.trace.count("happened:synchronous standby added");
        }
        if before.is_some_and(|before| !before.standbys.is_subset(&after.standbys)) {
            self.trace.count("happened:synchronous standby removed");
        }
    }

    /// A standby was promoted.
    pub fn note_promotion(&mut self) {
        match self.sync.mode {
            SyncMode::On if self.checks.promise.holds => self.trace.count("happened:promotion in mode on"),
            SyncMode::Quorum if self.checks.promise.holds => self.trace.count("happened:promotion in mode quorum"),
            SyncMode::Off | SyncMode::On | SyncMode::Quorum => {}
        }
    }

    fn operator_answers(&self) -> bool {
        let ttl = self.ttl_longest();
        let removed_lately = self.etcd.key_removed_at.is_some_and(|at| self.now < at + ttl);
        self.now < self.checks.forgiven_until || removed_lately
    }

    fn uncovered(&self, n: usize) -> Option<(Timeline, u64, u64)> {
        let data = self.nodes[n].pg.data.as_ref()?;
        let lacks = |(timeline, end): (&Timeline, &u64)| {
            let here = data.end_on(*timeline);
            (here < *end).then_some((*timeline, here, *end))
        };
        self.checks.promise.covered.iter().find_map(lacks)
    }

    /// S3: a new primary has everything that was promised.
    pub fn check_promise_kept(&mut self, n: usize) {
        if !self.checks.promise.holds {
            return;
        }
        if let Some((timeline, here, end)) = self.uncovered(n) {
            if !self.operator_answers() {
                return self.fail(format!(
                    "S3: n{} became primary with {here:#x} of timeline {timeline}, in a synchronous mode {end:#x} was acknowledged",
                    n + 1
                ));
            }
            self.trace.count("happened:synchronous commits lost by an operator");
        }
        if let Some(data) = &self.nodes[n].pg.data {
            self.checks.promise.covered.iter_mut().for_each(|(timeline, end)| *end = data.end_on(*timeline).min(*end));
        }
    }

    /// S5: whoever is level with enough voters, whoever else can be reached, has everything that was promised.
    pub fn check_whoever_wins_has_everything(&mut self) {
        let promise = &mut self.checks.promise;
        if !std::mem::take(&mut promise.changed) || !promise.holds || self.operator_answers() {
            return;
        }
        let Some(key) = self.etcd.cluster.sync.active() else { return };
        let member = |n: usize| key.has_member(&SyncName::from(&self.nodes[n].me.name));
        let held = |n: usize| self.nodes[n].pg.data.as_ref().map(|data| (data.timeline, data.wal_end));
        let ours = |timeline| timeline == Timeline(1) || self.checks.made.contains_key(&timeline);
        for n in 0..self.nodes.len() {
            // data of another cluster, followed for a while, compare with ours in no way
            let candidate = held(n).is_some_and(|(timeline, _)| ours(timeline));
            if !candidate || (self.sync.mode == SyncMode::On && !member(n)) {
                continue;
            }
            let level = |m: &usize| *m != n && member(*m) && held(*m).is_some() && held(*m) <= held(n);
            let votes = (0..self.nodes.len()).filter(level).count() as i64 - i64::from(!member(n));
            let is_leader = key.is_led_by(&SyncName::from(&self.nodes[n].me.name));
            if votes < i64::from(key.quorum) && !is_leader {
                continue;
            }
            if let Some((timeline, here, end)) = self.uncovered(n) {
                return self.fail(format!(
                    "S5: n{} would win by the sync key {key:?} with {here:#x} of timeline {timeline}, {end:#x} was acknowledged",
                    n + 1
                ));
            }
        }
    }
}
