//! From the view to one step, and the step to what the driver does.

use super::eligible::{Eligible, eligible};
use super::state::{Awaited, Promise, State, Step, Waits};
use super::view::SyncView;
use super::{priority, quorum};
use pgherd_types::{MemberName, StandbyNames, SyncKey, SyncKind, SyncMode, SyncName, SyncNames, SyncSeen};

/// One thing to do.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum SyncStep {
    /// All is as it should be.
    Nothing,
    /// Write the key, comparing its revision.
    WriteKey(KeyWrite),
    /// Remove the key, comparing its revision.
    DeleteKey {
        /// What MOD must be.
        seen: i64,
    },
    /// Make PostgreSQL wait like this, and wait until it does.
    SetNames(StandbyNames),
    /// Give `synchronous_standby_names` back to the user.
    SetUserNames,
    /// Write a little WAL without waiting for standbys, so that they can prove themselves; then call
    /// [`super::ReadyMemory::forced`].
    ForceWal,
    /// Nothing can be done before the facts change.
    Wait(Waiting),
}

/// A new value of the `sync` key.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct KeyWrite {
    /// Its leader: this node, unless the key is only written again as it is.
    pub leader: MemberName,
    /// Its quorum.
    pub quorum: u32,
    /// Its standbys.
    pub standbys: SyncNames,
    /// What MOD must be; `None`: there must be no key.
    pub seen: Option<i64>,
}

/// What is waited for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Waiting {
    /// PostgreSQL has not told its names yet.
    Names,
    /// These have to show that they have what was acknowledged before.
    Proof(SyncNames),
    /// Standbys are given time to connect.
    Reconnect,
    /// Strict mode without a standby: `No active replication connections from Patroni members and
    /// synchronous_mode_strict is requested`. Commits wait.
    Standby,
}

/// The next step; see the module `sync` for how it is used.
pub fn next_step(view: &SyncView) -> SyncStep {
    if view.settings.mode == SyncMode::Off {
        return switched_off(view);
    }
    if let Some(write) = settle_doubt(view) {
        return write;
    }
    let Some(names) = &view.names else { return SyncStep::Wait(Waiting::Names) };
    let standbys = eligible(view);
    let state = state(view, names, &standbys);
    let step = match view.settings.mode {
        SyncMode::Quorum => quorum::next(&state),
        SyncMode::On | SyncMode::Off => priority::next(&state),
    };
    match step {
        Step::Promise { quorum, voters } => SyncStep::WriteKey(key_write(view, quorum, voters)),
        Step::Waits(waits) => SyncStep::SetNames(names_of(view.settings.mode, waits)),
        Step::Await(Awaited::Reconnect) => SyncStep::Wait(Waiting::Reconnect),
        Step::Done | Step::Await(Awaited::Proof | Awaited::Standby) => rest(view, names, state, step),
    }
}

/// A write whose end is not known may still arrive, and would find the revision it compares: what is planned now could
/// make it wrong. Writing the key as it is makes it fail.
pub(super) fn settle_doubt(view: &SyncView) -> Option<SyncStep> {
    if view.in_doubt? != view.key.revision() {
        return None;
    }
    match &view.key {
        SyncSeen::Valid(SyncKey { leader: Some(leader), quorum, standbys, mod_revision }) => {
            let (leader, quorum, seen) = (leader.clone(), *quorum, Some(*mod_revision));
            Some(SyncStep::WriteKey(KeyWrite { leader, quorum, standbys: standbys.clone(), seen }))
        }
        SyncSeen::Valid(_) | SyncSeen::Garbage { .. } | SyncSeen::Absent => {
            Some(SyncStep::WriteKey(key_write(view, 0, SyncNames::new())))
        }
    }
}

/// The key goes first. (A write still on its way finds no key to compare with, or a key that is removed again.)
pub(super) fn switched_off(view: &SyncView) -> SyncStep {
    match (view.key.revision(), &view.names) {
        (Some(seen), _) => SyncStep::DeleteKey { seen },
        (None, None) => SyncStep::Wait(Waiting::Names),
        (None, Some(names)) if *names != view.user_names => SyncStep::SetUserNames,
        (None, Some(_)) => SyncStep::Nothing,
    }
}

fn state(view: &SyncView, names: &StandbyNames, standbys: &Eligible) -> State<SyncName> {
    let waits = waits(names);
    let active: SyncNames = match view.settings.mode {
        SyncMode::Quorum => standbys.picked.clone(),
        SyncMode::On | SyncMode::Off => standbys.ranked.iter().cloned().collect(),
    };
    let known = view.ready.proven(names);
    State {
        me: view.me.clone(),
        promise: promise(view),
        proven: standbys.proven.iter().filter(|name| known.contains(name)).cloned().collect(),
        picked: standbys.picked.clone(),
        active,
        waits,
        wanted: view.settings.wanted(),
        strict: view.settings.strict,
        patient: view.patient,
        pristine: view.pristine,
    }
}

/// The key; one that cannot be read or has no leader promises nothing, nor does one of a foreign leader whose name could
/// not stand among the standbys.
pub(super) fn promise(view: &SyncView) -> Promise<SyncName> {
    let key = view.key.active();
    let leader = key.and_then(|key| key.leader.as_ref()).map(SyncName::from);
    match (key, leader.filter(|name| *name == view.me || name.is_usable())) {
        (Some(key), Some(leader)) => Promise {
            leader: Some(leader),
            quorum: key.quorum as usize,
            voters: key.standbys.iter().filter(|name| name.is_usable()).cloned().collect(),
        },
        _ => Promise { leader: None, quorum: 0, voters: SyncNames::new() },
    }
}

/// A list with `*` counts as one unknown name, so that it gets replaced.
pub(super) fn waits(names: &StandbyNames) -> Waits<SyncName> {
    match names {
        names if names.is_blocked() => Waits::blocked(),
        names if names.has_star => Waits::of(1, SyncNames::from(["*".into()])),
        names if names.names.is_empty() => Waits::none(),
        names => Waits { number: names.number as usize, names: names.names.clone(), blocked: false },
    }
}

fn count(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

pub(super) fn key_write(view: &SyncView, quorum: usize, standbys: SyncNames) -> KeyWrite {
    KeyWrite { leader: view.me.member().clone(), quorum: count(quorum), standbys, seen: view.key.revision() }
}

pub(super) fn names_of(mode: SyncMode, waits: Waits<SyncName>) -> StandbyNames {
    let kind = if mode == SyncMode::Quorum { SyncKind::Any } else { SyncKind::First };
    match (waits.blocked, waits.number) {
        (true, _) => StandbyNames::blocked(kind),
        (false, 0) => StandbyNames::none(),
        (false, number) => StandbyNames { kind, number: count(number), names: waits.names, has_star: false },
    }
}

/// Nothing has to change for safety's sake: PostgreSQL's text gets the form it should have, then standbys the occasion to
/// prove themselves.
fn rest(view: &SyncView, names: &StandbyNames, state: State<SyncName>, step: Step<SyncName>) -> SyncStep {
    let form = names_of(view.settings.mode, state.waits.clone());
    if form != *names {
        return SyncStep::SetNames(form);
    }
    match step {
        Step::Await(Awaited::Standby) => SyncStep::Wait(Waiting::Standby),
        Step::Await(Awaited::Proof) if !view.ready.is_forced() => SyncStep::ForceWal,
        Step::Await(Awaited::Proof) => {
            let missing = state.active.difference(&state.proven);
            SyncStep::Wait(Waiting::Proof(missing.filter(|name| state.waits.names.contains(*name)).cloned().collect()))
        }
        Step::Await(Awaited::Reconnect) => SyncStep::Wait(Waiting::Reconnect),
        Step::Done | Step::Promise { .. } | Step::Waits(_) => SyncStep::Nothing,
    }
}

#[cfg(test)]
mod tests;
