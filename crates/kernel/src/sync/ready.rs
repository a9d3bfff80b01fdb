//! The ready memory: which standbys have every commit that was acknowledged before PostgreSQL began to wait as it does
//! now (spec/sync-and-quorum.md 4).
//!
//! When the observed names change, the primary's position at that look is the **safe position**: whatever was
//! acknowledged under the names before lies below it. A standby that PostgreSQL waits for and that has reached it is
//! proven, for as long as it keeps the connection over which it showed that. (Patroni keeps proofs by name and
//! through changes; then a standby that was one of several could win alone without what only another one had.)

use super::view::{StandbyRow, SyncState};
use pgherd_types::{Lsn, StandbyNames, SyncName, SyncNames};
use std::collections::BTreeMap;

/// See the module. Empty at the start of the agent.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ReadyMemory {
    names: Option<StandbyNames>,
    safe: Lsn,
    forced: bool,
    proven: BTreeMap<SyncName, u32>,
}

impl ReadyMemory {
    /// Takes in one look at PostgreSQL, as a primary: its names in force, its **flushed** position and its rows, where
    /// names and rows were read before the position.
    pub fn look(&mut self, names: &StandbyNames, position: Lsn, rows: &[StandbyRow]) {
        if self.names.as_ref() != Some(names) {
            *self = Self { names: Some(names.clone()), safe: position, ..Self::default() };
        }
        self.proven.retain(|name, pid| rows.iter().any(|row| row.name == *name && row.pid == *pid));
        for row in rows.iter().filter(|row| names.names.contains(&row.name) && row.slot_matches) {
            if row.sync_state != SyncState::Async && row.lsn.is_some_and(|lsn| lsn >= self.safe) {
                self.proven.insert(row.name.clone(), row.pid);
            }
        }
    }
    /// WAL was written for standbys to prove themselves by ([`super::SyncStep::ForceWal`]).
    pub fn forced(&mut self) {
        self.forced = true;
    }
    /// Forgets everything: PostgreSQL was stopped, or is no primary.
    pub fn forget(&mut self) {
        *self = Self::default();
    }
    /// Who is proven while PostgreSQL waits for these names.
    pub fn proven(&self, names: &StandbyNames) -> SyncNames {
        let known = self.names.as_ref() == Some(names);
        self.proven.keys().filter(|_| known).cloned().collect()
    }
    /// Has one of `pids` proven itself as `name`?
    pub(super) fn is_proven(&self, name: &SyncName, pid: u32) -> bool {
        self.proven.get(name) == Some(&pid)
    }
    /// Was WAL written since the names changed?
    pub fn is_forced(&self) -> bool {
        self.forced
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(name: &str, pid: u32, lsn: u64, sync_state: SyncState) -> StandbyRow {
        StandbyRow { name: name.into(), pid, lsn: Some(Lsn(lsn)), sync_state, slot_matches: true, silent: false }
    }
    fn names(text: &str) -> StandbyNames {
        StandbyNames::read(text)
    }
    fn proven(memory: &ReadyMemory, text: &str) -> Vec<String> {
        memory.proven(&names(text)).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_standby_proves_itself_by_reaching_the_safe_position() {
        let mut memory = ReadyMemory::default();
        let list = names("ANY 1 (b,c)");
        memory.look(&list, Lsn(100), &[row("b", 1, 99, SyncState::Quorum), row("c", 2, 100, SyncState::Quorum)]);
        assert_eq!(proven(&memory, "ANY 1 (b,c)"), ["c"]);
        memory.look(&list, Lsn(200), &[row("b", 1, 100, SyncState::Quorum), row("c", 2, 100, SyncState::Quorum)]);
        assert_eq!(proven(&memory, "ANY 1 (b,c)"), ["b", "c"]);
        assert!(proven(&memory, "ANY 1 (b)").is_empty(), "nothing is known of other names");
    }

    #[test]
    fn a_change_of_names_asks_for_a_new_proof() {
        let mut memory = ReadyMemory::default();
        let rows = [row("b", 1, 100, SyncState::Sync)];
        memory.look(&names("ANY 1 (b,c)"), Lsn(100), &rows);
        memory.forced();
        memory.look(&names("ANY 1 (b)"), Lsn(110), &rows);
        assert!(proven(&memory, "ANY 1 (b)").is_empty() && !memory.is_forced());
    }

    #[test]
    fn a_proof_lasts_as_long_as_the_connection() {
        let mut memory = ReadyMemory::default();
        memory.look(&names("b"), Lsn(100), &[row("b", 1, 100, SyncState::Sync)]);
        memory.look(&names("b"), Lsn(200), &[row("b", 2, 90, SyncState::Sync)]);
        assert!(proven(&memory, "b").is_empty());
        memory.look(&names("b"), Lsn(200), &[row("b", 2, 100, SyncState::Sync)]);
        assert_eq!(proven(&memory, "b"), ["b"]);
        memory.look(&names("b"), Lsn(200), &[]);
        assert!(proven(&memory, "b").is_empty());
    }

    #[test]
    fn others_prove_nothing() {
        let mut memory = ReadyMemory::default();
        let thief = StandbyRow { slot_matches: false, ..row("b", 1, 100, SyncState::Sync) };
        let unknown = StandbyRow { lsn: None, ..row("b", 3, 0, SyncState::Sync) };
        memory.look(&names("b"), Lsn(100), &[thief, unknown, row("b", 2, 100, SyncState::Async)]);
        memory.look(&names("b"), Lsn(100), &[row("c", 4, 100, SyncState::Sync)]);
        assert!(proven(&memory, "b").is_empty());
    }
}
