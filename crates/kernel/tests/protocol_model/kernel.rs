//! What the kernel's functions say of a node in the model.

use crate::Mutant;
use crate::cluster::{Cluster, Key, NODES, Protocol, Role, Waits};
use pgherd_kernel::sync::{
    KeyWrite, Peer, RaceRule, ReadyMemory, StandbyRow, SyncMember, SyncState, SyncStep, SyncView, before_promotion,
    may_race, next_step, votes,
};
use pgherd_types::{
    Lsn, StandbyNames, SyncKey, SyncKind, SyncMode, SyncName, SyncNames, SyncSeen, SyncSettings, Timeline,
};

fn name(node: usize) -> SyncName {
    ["a", "b", "c"][node].into()
}

fn names(mask: u8) -> SyncNames {
    (0..NODES).filter(|node| mask & 1 << node != 0).map(name).collect()
}

fn mask(names: &SyncNames) -> u8 {
    (0..NODES).filter(|node| names.contains(&name(*node))).map(|node| 1 << node).sum()
}

fn position(log: &[u8]) -> Lsn {
    Lsn(log.len() as u64)
}

/// A step, in the model's terms.
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug)]
pub enum Step {
    Nothing,
    Key(Key),
    Waits(Waits),
}

impl Step {
    fn of(step: SyncStep) -> Self {
        match step {
            SyncStep::WriteKey(KeyWrite { leader, quorum, standbys, .. }) => Self::Key(Key {
                leader: (0..NODES).find(|node| name(*node) == SyncName::from(&leader)).unwrap(),
                quorum: u8::try_from(quorum).unwrap(),
                voters: mask(&standbys),
            }),
            SyncStep::SetNames(names) if names.is_blocked() => Self::Waits(Waits { blocked: true, ..Waits::default() }),
            SyncStep::SetNames(names) => Self::Waits(Waits {
                number: u8::try_from(names.number).unwrap(),
                names: mask(&names.names),
                blocked: false,
            }),
            SyncStep::Nothing | SyncStep::Wait(_) => Self::Nothing,
            other @ (SyncStep::DeleteKey { .. } | SyncStep::SetUserNames | SyncStep::ForceWal) => panic!("{other:?}"),
        }
    }
}

impl Protocol {
    fn settings(&self) -> SyncSettings {
        SyncSettings { mode: self.mode, ..SyncSettings::default() }
    }

    fn standby_names(&self, waits: Waits) -> StandbyNames {
        let kind = if self.mode == SyncMode::Quorum { SyncKind::Any } else { SyncKind::First };
        match waits {
            _ if waits.blocked => StandbyNames::blocked(kind),
            Waits { names: 0, .. } | Waits { number: 0, .. } => StandbyNames::none(),
            _ => StandbyNames { kind, number: waits.number.into(), names: names(waits.names), has_star: false },
        }
    }

    fn view(&self, cluster: &Cluster, me: usize) -> SyncView {
        let node = &cluster.nodes[me];
        let in_force = self.standby_names(node.waits);
        let counts = if self.mode == SyncMode::Quorum { SyncState::Quorum } else { SyncState::Sync };
        let row = |standby: usize| StandbyRow {
            name: name(standby),
            pid: 1,
            lsn: Some(position(&cluster.nodes[standby].log)),
            sync_state: if node.waits.names & 1 << standby != 0 { counts } else { SyncState::Async },
            slot_matches: true,
            silent: false,
        };
        let rows: Vec<StandbyRow> = cluster.standbys(me).map(row).collect();
        let mut ready = ReadyMemory::default();
        ready.look(&in_force, Lsn(node.safe as u64), &[]);
        let seen = |row: &StandbyRow| match self.mutant {
            Mutant::LaggingCounted => StandbyRow { lsn: Some(position(&node.log)), ..row.clone() },
            _ => row.clone(),
        };
        ready.look(&in_force, position(&node.log), &rows.iter().map(seen).collect::<Vec<_>>());
        ready.forced(); // a standby that received all has shown it
        SyncView {
            me: name(me),
            settings: self.settings(),
            key: SyncSeen::Valid(key(cluster.key_of(me))),
            in_doubt: node.in_doubt.then_some(Some(1)),
            names: Some(in_force),
            user_names: StandbyNames::none(),
            rows,
            members: (0..NODES).filter(|node| *node != me).map(|node| (name(node), SyncMember::default())).collect(),
            position: position(&node.log),
            ready,
            patient: false,
            pristine: false,
        }
    }

    /// The next step of a primary, or of one that is to be promoted.
    pub fn step(&self, cluster: &Cluster, me: usize) -> Step {
        let (node, view) = (&cluster.nodes[me], self.view(cluster, me));
        if node.role == Role::Elected {
            return match self.mutant {
                Mutant::StepBeforePromotionSkipped => Step::Nothing,
                _ => Step::of(before_promotion(&view)),
            };
        }
        let promised = cluster.key_of(me).voters;
        match (self.mutant, Step::of(next_step(&view))) {
            (Mutant::KeyBeforePostgres, Step::Waits(waits)) if waits.names & !promised != 0 => {
                Step::Key(Key { leader: me, quorum: 0, voters: waits.names })
            }
            (Mutant::PostgresBeforeKey, Step::Key(key)) if promised & !key.voters != 0 => {
                let waits = Waits { number: u8::from(key.voters != 0), names: key.voters, blocked: false };
                if waits == node.waits { Step::Key(key) } else { Step::Waits(waits) }
            }
            (_, step) => step,
        }
    }

    /// Would it win, if these answered (a mask)?
    pub fn wins(&self, cluster: &Cluster, me: usize, answer: u8) -> bool {
        let (key, me_name, log) = (key(cluster.key_of(me)), name(me), &cluster.nodes[me].log);
        let seen = SyncSeen::Valid(key.clone());
        let mut ballot = match may_race(&seen, Some(&key), self.mode, &me_name) {
            RaceRule::Ballot(ballot) => ballot,
            RaceRule::Asynchronous => return true,
            RaceRule::Barred(_) if self.mutant == Mutant::KeyIgnoredInRace => return true,
            RaceRule::Barred(_) => return false,
        };
        if self.mutant == Mutant::KeyIgnoredInRace {
            ballot.key.quorum = 0;
        }
        let peer = |node: usize| Peer {
            name: name(node),
            position: position(&cluster.nodes[node].log),
            timeline: cluster.nodes[node].log.last().map(|timeline| Timeline((*timeline).into())),
            in_recovery: cluster.nodes[node].role != Role::Primary,
            limited: false,
        };
        let others = (0..NODES).filter(|node| *node != me && answer & 1 << node != 0);
        let peers: Vec<Peer> = others.filter(|node| cluster.nodes[*node].role != Role::Down).map(peer).collect();
        let timeline = log.last().map(|timeline| Timeline((*timeline).into()));
        votes(&ballot, &me_name, (timeline, position(log)), &peers).wins()
    }
}

fn key(key: Key) -> SyncKey {
    SyncKey {
        mod_revision: 1,
        leader: Some(name(key.leader).member().clone()),
        quorum: key.quorum.into(),
        standbys: names(key.voters),
    }
}
