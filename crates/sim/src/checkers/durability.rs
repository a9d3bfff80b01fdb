//! Replication is asynchronous: an acknowledged commit that no candidate had may be lost (it is counted). One that a
//! healthy, reachable candidate had must not be: the race has to choose whoever has most.

use crate::network::End;
use crate::postgres::Proc;
use crate::world::World;
use pgherd_types::SyncMode;

impl World {
    /// The leader key went: from here on candidates are judged.
    pub fn leader_lapsed(&mut self) {
        let held = self
            .nodes
            .iter()
            .map(|node| node.pg.data.clone().filter(|_| node.pg.proc == Proc::Running && node.pg.in_recovery));
        self.checks.at_lapse = Some((self.now, held.collect()));
    }

    /// A new primary must have every acknowledged commit that an undisturbed candidate had when the leader was lost.
    pub fn check_nothing_confirmed_is_lost(&mut self, n: usize) {
        let Some(new) = self.nodes[n].pg.data.clone() else { return };
        let (lapsed_at, mut candidates) = self.checks.at_lapse.take().unwrap_or_default();
        // in a synchronous mode it is not the most advanced who wins, but whoever has what was acknowledged: S3
        if self.now < self.checks.forgiven_until || self.sync.mode != SyncMode::Off {
            candidates.clear();
        }
        for (c, held) in candidates.iter().enumerate().filter(|(c, _)| *c != n) {
            let Some(held) = held.as_ref().filter(|_| self.was_in_the_race(c, n, lapsed_at)) else { continue };
            if let Some((timeline, here, there)) = self.ledger.missing(held, &new) {
                return self.fail(format!(
                    "durability: n{} was in the race with commits up to {there:#x} on timeline {timeline}, n{} became primary with {here:#x}",
                    c + 1,
                    n + 1
                ));
            }
        }
        if self.ledger.go_on_from(&new) {
            self.trace.count("happened:unconfirmed commits lost");
        }
    }

    /// It ran undisturbed from well before the loss of the leader until now, and the two could talk. A node that was cut
    /// off or stalled is back in the race once it has looked at its server and at etcd again, each on its schedule.
    fn was_in_the_race(&self, c: usize, n: usize, lapsed_at: u64) -> bool {
        let node = &self.nodes[c];
        let back = 1000 + self.ms(self.setup.settings.loop_wait + self.setup.settings.retry_timeout);
        let calm = |n: usize| self.nodes[n].disturbed_at + back < lapsed_at;
        let awake = node.paused_until + back < lapsed_at && node.pg.stalled_until + back < lapsed_at;
        let talk = self.net.both(End::Node(c), End::Node(n));
        let quick = !self
            .net
            .slow
            .iter()
            .chain(&self.net.lossy)
            .any(|(_, end, _)| *end == End::Node(c) || *end == End::Node(n));
        let candidate = node.agent.is_some() && node.pg.proc == Proc::Running && node.pg.in_recovery;
        candidate && calm(c) && calm(n) && awake && talk && quick
    }
}
