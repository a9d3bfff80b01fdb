//! L1 and L2, once all faults are over.

use crate::postgres::Proc;
use crate::world::World;
use pgherd_types::{SyncKey, SyncMode, SyncSeen};

/// Allowed beyond `ttl + 2 x loop_wait`: a lease is revoked up to 0.5 s late, a crashed server recovers (2.5 s) and is
/// promoted (1.5 s).
const WORK_MS: u64 = 5_000;
/// In the end no commit waits for longer.
const COMMITS_WAIT_MS: u64 = 5_000;

impl World {
    fn serving(&self) -> Option<usize> {
        let leader = self.etcd.leader()?;
        let pg = &self.nodes[leader].pg;
        (pg.writable && pg.proc == Proc::Running).then_some(leader)
    }

    /// How long after the heal a primary must serve.
    pub fn serve_within(&self) -> u64 {
        let s = &self.setup.settings;
        self.ttl_longest() + self.ms(2 * s.loop_wait) + WORK_MS
    }

    /// L1: after the heal a primary serves in time, and goes on serving.
    pub fn check_serving(&mut self) {
        if self.now < self.setup.heal_at {
            return;
        }
        let serving = self.serving();
        let due = self.setup.heal_at + self.serve_within();
        match (serving, self.checks.serving_since) {
            (Some(_), None) => {
                self.checks.serving_since = Some(self.now);
                self.checks.healed_after = Some(self.now - self.setup.heal_at);
            }
            (None, Some(_)) => self.checks.serving_since = None,
            _ => {}
        }
        if serving.is_none() && self.now > due {
            let what =
                if self.checks.healed_after.is_some() { "no primary serves any more" } else { "no primary serves" };
            self.fail(format!("L1: {what} {} s after all faults were over", (self.now - self.setup.heal_at) / 1000));
        }
    }

    /// The run may end early: everybody has been in place for so long that a lease nobody keeps alive would have lapsed.
    pub fn settled(&mut self) -> bool {
        if self.now < self.setup.heal_at {
            return false;
        }
        let needed = self.ttl_longest() + self.ms(self.setup.settings.loop_wait) + 3000;
        let in_place =
            self.serving().is_some_and(|leader| (0..self.nodes.len()).all(|n| self.out_of_place(n, leader).is_none()));
        let sync_right = || self.serving().is_some_and(|leader| self.sync_is_wrong(leader).is_none());
        if !in_place || self.commits_wait_for() > COMMITS_WAIT_MS || !sync_right() {
            self.checks.settled_since = None;
            return false;
        }
        self.now >= *self.checks.settled_since.get_or_insert(self.now) + needed
    }

    /// L2: at the end every node is in its place, unless its data have really diverged.
    pub fn check_at_the_end(&mut self) {
        let Some(leader) = self.serving() else { return self.fail("L1: no primary serves at the end".to_owned()) };
        let waited = self.commits_wait_for();
        if waited > COMMITS_WAIT_MS {
            return self.fail(format!("L1: a commit has waited for {waited} ms at the end"));
        }
        for n in 0..self.nodes.len() {
            if self.has_diverged(n, leader) && self.stays_diverged() {
                self.trace.count("happened:diverged for good");
            }
            if let Some(what) = self.out_of_place(n, leader) {
                return self.fail(format!("L2: n{} is not in its place at the end: {what}", n + 1));
            }
        }
        if let Some(what) = self.sync_is_wrong(leader) {
            self.fail(format!("L3: {what}"));
        }
    }

    /// How long the oldest commit has waited, unless nobody could ever acknowledge it.
    fn commits_wait_for(&self) -> u64 {
        let Some(leader) = self.serving() else { return 0 };
        if self.sync.strict && self.may_be_synchronous(leader) == 0 {
            return 0;
        }
        self.nodes[leader].pg.sync.waiting.iter().map(|it| self.now - it.since).max().unwrap_or(0)
    }

    /// Without `synchronous_mode_strict` commits go on, whoever is away.
    pub fn check_commits_go_on(&mut self) {
        let strict = self.sync.strict && self.sync.mode != SyncMode::Off;
        let since_heal = self.now.saturating_sub(self.setup.heal_at);
        if strict || since_heal < self.serve_within() {
            return;
        }
        let waited = self.commits_wait_for();
        if waited > self.serve_within() {
            self.fail(format!("L1: a commit has waited for {waited} ms"));
        }
    }

    /// Standbys that are in their place and have no tag against it.
    fn may_be_synchronous(&self, leader: usize) -> usize {
        let may = |n: &usize| {
            let in_place = self.nodes[*n].pg.receiver.is_some_and(|receiver| receiver.upstream == leader);
            *n != leader && in_place && self.nodes[*n].me.tags.sync_rank() > 0
        };
        (0..self.nodes.len()).filter(may).count()
    }

    /// L3: at the end key and PostgreSQL say what the settings say.
    fn sync_is_wrong(&self, leader: usize) -> Option<String> {
        let (sync, key) = (&self.sync, &self.etcd.cluster.sync);
        let names = &self.nodes[leader].pg.sync.shown;
        if sync.mode == SyncMode::Off {
            let clean = *key == SyncSeen::Absent && names.is_none();
            return (!clean).then(|| format!("no synchronous mode, and {key:?}, {names}"));
        }
        let there = self.may_be_synchronous(leader);
        let wanted = sync.wanted().min(there);
        let (standbys, quorum) = match sync.mode {
            SyncMode::On | SyncMode::Off => (wanted, 0),
            SyncMode::Quorum => (there, there - wanted),
        };
        let ours = |key: &&SyncKey| key.leader.as_ref() == Some(&self.nodes[leader].me.name);
        let found = key.active().filter(ours).map(|key| (key.standbys.len(), key.quorum as usize));
        // with a limit of lag they come and go; in strict mode the key keeps those who have the last commits
        let lenient = sync.maximum_lag.is_some() || (sync.strict && there == 0);
        let right = found == Some((standbys, quorum)) || (found.is_some() && lenient);
        (!right).then(|| format!("{standbys} standbys and a quorum of {quorum} are due, and {key:?}, {names}"))
    }

    /// Nothing is configured that mends diverged data.
    fn stays_diverged(&self) -> bool {
        let policy = self.setup.settings.rewind;
        !policy.use_pg_rewind && !policy.replace_on_divergence
    }

    fn has_diverged(&self, n: usize, leader: usize) -> bool {
        let data = |n: usize| self.nodes[n].pg.data.as_ref();
        matches!((data(n), data(leader)), (Some(here), Some(there)) if !here.is_within(there))
    }

    fn out_of_place(&self, n: usize, leader: usize) -> Option<String> {
        let node = &self.nodes[n];
        let why = || {
            let why = node.agent.as_ref().and_then(|a| a.because.as_ref());
            why.map_or_else(|| "no agent".to_owned(), ToString::to_string)
        };
        if !self.etcd.cluster.members.contains_key(&node.me.name) {
            return Some(format!("it has no member key ({})", why()));
        }
        // a bootstrap that could not be registered in time left data that belong to no cluster; they are shown, not removed
        let foreign =
            |agent: &crate::node::Agent| matches!(agent.because, Some(pgherd_kernel::Reason::ForeignData { .. }));
        if node.agent.as_deref().is_some_and(foreign) && !node.pg.may_be_writable() {
            return None;
        }
        let streams = node.pg.receiver.is_some_and(|r| r.upstream == leader) && node.pg.proc == Proc::Running;
        if n == leader || streams || (self.has_diverged(n, leader) && self.stays_diverged()) {
            return None;
        }
        Some(format!("it does not stream from the leader ({})", why()))
    }
}
