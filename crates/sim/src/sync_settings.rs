//! The settings of synchronous replication: how they are drawn, and how operators change them and lay hands on the key.

use crate::faults::{self, Fault, Planned, Whom};
use crate::mutants::Planted;
use crate::rng::Rng;
use crate::scenario::Setup;
use crate::world::World;
use pgherd_types::{SyncMode, SyncSeen, SyncSettings};

/// Members of the `config` key.
pub fn text(sync: &SyncSettings) -> String {
    let mode = match sync.mode {
        SyncMode::Off => "off",
        SyncMode::On => "on",
        SyncMode::Quorum => "quorum",
    };
    let (strict, count) = (sync.strict, sync.node_count);
    let lag = sync.maximum_lag.map_or(-1, |lag| lag as i64);
    format!(
        ",\"synchronous_mode\":\"{mode}\",\"synchronous_mode_strict\":{strict},\"synchronous_node_count\":{count},\"maximum_lag_on_syncnode\":{lag}"
    )
}

/// What the key's text says; `None`: nothing of this.
pub fn read(text: &str) -> Option<SyncSettings> {
    let value = |name: &str| {
        let rest = text.split(&format!("\"{name}\":")).nth(1)?;
        rest.split([',', '}']).next()
    };
    let mode = match value("synchronous_mode")? {
        "\"on\"" => SyncMode::On,
        "\"quorum\"" => SyncMode::Quorum,
        _ => SyncMode::Off,
    };
    Some(SyncSettings {
        mode,
        strict: value("synchronous_mode_strict") == Some("true"),
        node_count: value("synchronous_node_count")?.parse().ok()?,
        maximum_lag: value("maximum_lag_on_syncnode")?.parse().ok(),
    })
}

fn any_settings(rng: &mut Rng, modes: &[SyncMode]) -> SyncSettings {
    SyncSettings {
        mode: modes[rng.below(modes.len() as u64) as usize],
        strict: rng.permille(300),
        node_count: if rng.permille(650) { 1 } else { 2 },
        maximum_lag: rng.permille(150).then(|| rng.range(200, 20_000)),
    }
}

impl Setup {
    /// Half of all runs have to do with synchronous replication; the others are as they would be without this.
    pub fn maybe_synchronous(self) -> Self {
        let mut rng = Rng::new(self.seed ^ 0x0051_AC00);
        if rng.permille(500) { self } else { self.synchronous(&[SyncMode::On, SyncMode::Quorum, SyncMode::Off]) }
    }

    /// The run in one of these modes, sometimes with more nodes and with an operator who meddles.
    pub fn synchronous(mut self, modes: &[SyncMode]) -> Self {
        let mut rng = Rng::new(self.seed ^ 0x51AC);
        self.settings.sync = any_settings(&mut rng, modes);
        if rng.permille(if self.settings.sync.mode == SyncMode::Quorum { 500 } else { 150 }) {
            self.nodes = rng.range(3, 5) as usize;
        }
        let mut count = if rng.permille(400) { rng.range(1, 3) } else { 0 };
        if self.settings.sync.mode == SyncMode::Off {
            count = count.max(1);
        }
        for number in 0..count {
            let at = rng.range(12_000, self.heal_at - 1000);
            let fault = match (number, self.settings.sync.mode) {
                (0, SyncMode::Off) => Fault::SyncSettings,
                _ => faults::SYNCHRONOUS[rng.below(3) as usize],
            };
            self.faults.push(Planned { at, fault, whom: Whom::Leader, lasts: None });
        }
        self.faults.sort_by_key(|planned| planned.at);
        self
    }

    /// Can a synchronous mode come about at all?
    pub fn may_be_synchronous(&self) -> bool {
        self.settings.sync.mode != SyncMode::Off || self.faults.iter().any(|it| it.fault == Fault::SyncSettings)
    }
}

impl World {
    /// Some nodes are never synchronous, others rather than others.
    pub fn tag_synchronous(&mut self) {
        if !self.setup.mishaps || !self.setup.may_be_synchronous() {
            return;
        }
        for node in &mut self.nodes {
            node.me.tags.nosync = self.sync_rng.permille(80);
            node.me.tags.sync_priority = self.sync_rng.permille(150).then(|| self.sync_rng.range(0, 3) as i32);
        }
    }

    /// Others than before.
    pub fn change_sync_settings(&mut self) {
        let modes = [SyncMode::Off, SyncMode::On, SyncMode::Quorum];
        let before = self.sync;
        while self.sync == before {
            self.sync = any_settings(&mut self.sync_rng, &modes);
        }
        let after = text(&self.sync);
        self.trace.tell(self.now, || format!("*** settings {}", after.trim_start_matches(',')));
        if self.sync.mode == SyncMode::Off {
            self.promise_ends();
        }
        let sync = self.sync;
        self.change_config(|config| config.sync = Some(sync));
    }

    /// Somebody with etcdctl.
    pub fn lay_hands_on_sync_key(&mut self, fault: Fault) -> bool {
        if self.etcd.cluster.sync.active().is_none() {
            return false;
        }
        self.promise_ends();
        self.etcd.write_for_operator(|cluster| {
            cluster.sync = match fault {
                Fault::SyncKeyGarbage => SyncSeen::Garbage { mod_revision: cluster.revision + 1 },
                _ => SyncSeen::Absent,
            };
        });
        self.etcd_changed();
        true
    }

    /// A key that cannot be read keeps everybody out who does not remember it: an operator has to remove it.
    pub fn mend_sync_key(&mut self) {
        if matches!(self.etcd.cluster.sync, SyncSeen::Garbage { .. }) {
            self.trace.count("happened:an operator mended the sync key");
            self.etcd.write_for_operator(|cluster| cluster.sync = SyncSeen::Absent);
            self.etcd_changed();
        }
    }

    /// A planted bug: as long as nobody leads, a node knows of no `sync` key.
    pub fn forget_sync_key(&mut self, n: usize) {
        if self.setup.planted != Some(Planted::BlindToSyncKey) {
            return;
        }
        let Some(agent) = self.nodes[n].agent.as_mut() else { return };
        if let pgherd_kernel::view::Seen::At(cluster, _) = &mut agent.view.cluster
            && cluster.leader.is_none()
            && cluster.sync != SyncSeen::Absent
        {
            std::sync::Arc::make_mut(cluster).sync = SyncSeen::Absent;
            agent.view.sync.last_key = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        for maximum_lag in [None, Some(7)] {
            let sync = SyncSettings { mode: SyncMode::Quorum, strict: true, node_count: 2, maximum_lag };
            assert_eq!(read(&format!("{{\"pause\":false{}}}", text(&sync))), Some(sync));
        }
        assert_eq!(read("{}"), None);
    }
}
