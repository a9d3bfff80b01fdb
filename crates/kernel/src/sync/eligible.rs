//! Which standbys may be synchronous, and which of them are chosen (spec/sync-and-quorum.md 4).

use super::view::{Presence, StandbyRow, SyncMember, SyncState, SyncView};
use pgherd_types::{Lsn, SyncMode, SyncName, SyncNames};
use std::cmp::Reverse;

/// Who may be synchronous.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Eligible {
    /// Those within the lag limit, the best one first.
    pub ranked: Vec<SyncName>,
    /// Those PostgreSQL should wait for: in mode `on` the first ones, as many as wanted; in mode `quorum` all, but members
    /// that never lead only while there are fewer than wanted.
    pub picked: SyncNames,
    /// Those of `ranked` that have proven themselves, over the connection that counts.
    pub proven: SyncNames,
    /// Members whose name somebody else streams by as well: what PostgreSQL takes for their word may be the other's.
    pub borrowed: SyncNames,
}

struct Candidate<'a> {
    row: &'a StandbyRow,
    member: &'a SyncMember,
    lsn: Lsn,
}

/// Who may be synchronous at present.
pub fn eligible(view: &SyncView) -> Eligible {
    let streams_as = |row: &&StandbyRow| view.members.contains_key(&row.name);
    let borrowed: SyncNames =
        view.rows.iter().filter(streams_as).filter(|row| !row.slot_matches).map(|row| row.name.clone()).collect();
    let chosen = view.chosen();
    let mut candidates: Vec<Candidate<'_>> = view
        .rows
        .iter()
        .filter(|row| !borrowed.contains(&row.name))
        .filter_map(|row| candidate(view, &chosen, row))
        .collect();
    within_lag(view, &mut candidates);
    candidates.sort_by_key(|candidate| Reverse(rank(&chosen, candidate)));
    candidates.sort_by_key(|candidate| candidate.member.nofailover);
    let proven = candidates.iter().map(|c| c.row).filter(|row| view.ready.is_proven(&row.name, row.pid));
    Eligible {
        picked: pick(view, &candidates),
        proven: proven.map(|row| row.name.clone()).collect(),
        ranked: candidates.iter().map(|c| c.row.name.clone()).collect(),
        borrowed,
    }
}

fn candidate<'a>(view: &'a SyncView, chosen: &SyncNames, row: &'a StandbyRow) -> Option<Candidate<'a>> {
    let member = view.members.get(&row.name)?;
    let there = match member.presence {
        Presence::Running | Presence::SeenLately => true,
        Presence::Gone => chosen.contains(&row.name),
        Presence::NotRunning => false,
    };
    let counts = there
        && row.name != view.me
        && row.name.is_usable()
        && !row.silent
        && (may_be_chosen(member) || makes_way(view, chosen, row))
        && !cascades(view, member)
        && !outlived(view, row);
    counts.then_some(Candidate { row, member, lsn: row.lsn? })
}

fn may_be_chosen(member: &SyncMember) -> bool {
    !member.nosync && member.sync_priority > 0
}

/// In mode `on` a standby that is to be none any more (it is about to stop, say) stays until another one has taken its
/// place, so that no commit waits for nobody; it is not chosen again.
fn makes_way(view: &SyncView, chosen: &SyncNames, row: &StandbyRow) -> bool {
    chosen.contains(&row.name) && view.settings.mode == SyncMode::On
}

/// A member without slots that connected anew has two rows for a while; the one that has less counts.
fn outlived(view: &SyncView, row: &StandbyRow) -> bool {
    let key = |row: &StandbyRow| (row.lsn, row.pid);
    let twin = |other: &&StandbyRow| other.name == row.name && !other.silent && other.lsn.is_some();
    view.rows.iter().filter(twin).any(|other| key(other) < key(row))
}

/// Is it meant to stream from another standby that is connected, directly or through others?
fn cascades(view: &SyncView, member: &SyncMember) -> bool {
    let mut member = member;
    // no chain of members is longer than there are members
    for _ in 0..view.members.len() {
        let Some(source) = member.replicate_from.as_ref().filter(|source| **source != view.me) else { return false };
        let Some(next) = view.members.get(source) else { return false };
        if next.presence != Presence::NotRunning && view.rows.iter().any(|row| row.name == *source) {
            return true;
        }
        member = next;
    }
    false
}

/// Leaves those that are not too far behind the best of them, or behind this primary if there is one only.
fn within_lag(view: &SyncView, candidates: &mut Vec<Candidate<'_>>) {
    let Some(limit) = view.settings.maximum_lag.filter(|limit| *limit > 0) else { return };
    let best = candidates.iter().map(|candidate| candidate.lsn).max().filter(|_| candidates.len() > 1);
    let reference = best.unwrap_or(view.position);
    candidates.retain(|candidate| reference.ahead_of(candidate.lsn) <= limit);
}

/// The higher, the better. One that was just chosen is not passed over because PostgreSQL does not say so yet.
fn rank(chosen: &SyncNames, candidate: &Candidate<'_>) -> (bool, i32, SyncState, Lsn, Reverse<SyncName>) {
    let Candidate { row, member, lsn } = candidate;
    let least = if chosen.contains(&row.name) { SyncState::Potential } else { SyncState::Async };
    let name = Reverse(row.name.clone());
    (member.presence != Presence::Gone, member.sync_priority, row.sync_state.max(least), *lsn, name)
}

fn pick(view: &SyncView, candidates: &[Candidate<'_>]) -> SyncNames {
    let wanted = view.settings.wanted();
    let mut picked = SyncNames::new();
    for candidate in candidates.iter().filter(|candidate| may_be_chosen(candidate.member)) {
        let room = match view.settings.mode {
            SyncMode::Off => false,
            SyncMode::On => picked.len() < wanted,
            SyncMode::Quorum => !candidate.member.nofailover || picked.len() < wanted,
        };
        if room {
            picked.insert(candidate.row.name.clone());
        }
    }
    picked
}

#[cfg(test)]
mod tests;
