//! For which standbys the consumers of logical slots wait (`synchronized_standby_slots`, PostgreSQL 17 and later, where the
//! configuration asks for it): one that has read what the next primary lacks passes over what that writes instead.
//!
//! The list holds the slots of those that may be promoted. In a synchronous mode these are the members of the `sync` key
//! and those that are about to be in it. Otherwise it is whoever streams; one that does not any more is waited for as long
//! as its member key says `running`, and for a `ttl` at most: it stops every consumer. A standby has its list ready
//! before it is promoted; while it is in recovery its server waits for nobody.

use super::{NATIVE_FAILOVER, major_version};
use crate::View;
use pgherd_types::{
    Cluster, Instant, Member, MemberName, RunningServer, SeenSlot, StandbyNames, SyncMode, SyncName, SyncNames,
};
use std::collections::{BTreeMap, BTreeSet};

/// Who has streamed from this primary, and when that was seen last.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Streamed {
    primary_since: Option<Instant>,
    last: BTreeMap<String, Instant>,
}

impl Streamed {
    /// The server was looked at.
    pub(super) fn looked(&mut self, running: &RunningServer, at: Instant) {
        if running.in_recovery {
            return *self = Self::default();
        }
        self.primary_since.get_or_insert(at);
        self.last.retain(|name, _| running.slots.iter().any(|slot| slot.name == *name));
        self.last.extend(running.slots.iter().filter(|slot| streams(running, slot)).map(|s| (s.name.clone(), at)));
    }

    /// A new primary's standbys need a moment to come.
    fn lately(&self, slot: &str) -> Option<Instant> {
        self.last.get(slot).copied().max(self.primary_since)
    }
}

fn streams(running: &RunningServer, slot: &SeenSlot) -> bool {
    let by = |pid| running.walsenders.iter().any(|sender| sender.pid == pid && sender.state == "streaming");
    slot.physical && slot.active_pid.is_some_and(by)
}

/// Their slots; `None` where the list is the operator's affair, or nothing is known.
pub fn waited_for(view: &View, now: Instant) -> Option<BTreeSet<String>> {
    let (cluster, running) = (view.cluster.get()?, view.postgres.get()?.running()?);
    let settings = &view.settings;
    if !settings.slots.consumers_wait || !settings.use_slots || major_version(running) < NATIVE_FAILOVER {
        return None;
    }
    // PostgreSQL refuses a list with a name that it does not know
    let slot_of = |name: &MemberName| {
        let name = name.slot_name();
        running.slots.iter().find(|slot| slot.physical && slot.name == name && !slot.lost)
    };
    let waited = |member: &Member, slot: &SeenSlot| match () {
        () if running.in_recovery => may_come(view, cluster, member),
        () if settings.sync_mode() != SyncMode::Off => false,
        () => streams(running, slot) || has_grace(view, member, slot, now),
    };
    let members = cluster.members.values().filter(|member| may_lead(view, cluster, &member.name));
    let slots = members.filter_map(|member| Some((member, slot_of(&member.name)?)));
    let waited = slots.filter(|(member, slot)| waited(member, slot)).map(|(_, slot)| slot.name.clone());
    let synchronous = synchronous(view, cluster, running).into_iter().map(|name| MemberName::from(name.as_str()));
    let synchronous = synchronous.filter(|name| may_lead(view, cluster, name)).filter_map(|name| slot_of(&name));
    Some(waited.chain(synchronous.map(|slot| slot.name.clone())).collect())
}

/// Whoever is dead may come back, and lead with what it has: that its member key is gone says nothing.
fn may_lead(view: &View, cluster: &Cluster, name: &MemberName) -> bool {
    *name != view.me.name && cluster.members.get(name).is_none_or(|member| member.doc.tags.may_lead())
}

/// Once this standby leads, that one will stream from it.
fn may_come(view: &View, cluster: &Cluster, member: &Member) -> bool {
    let leads = cluster.leader.as_ref().is_some_and(|leader| leader.name == member.name);
    let elsewhere = |from: &str| from != view.me.name.as_str() && cluster.members.contains_key(&from.into());
    !leads && member.doc.state == "running" && !member.doc.tags.replicatefrom.as_deref().is_some_and(elsewhere)
}

fn has_grace(view: &View, member: &Member, slot: &SeenSlot, now: Instant) -> bool {
    let lately = view.slots.streamed.lately(&slot.name).is_some_and(|at| now < at + view.settings.ttl);
    let fed_here = member.doc.tags.replicatefrom.as_deref().is_none_or(|from| from == view.me.name.as_str());
    lately && fed_here && member.doc.state == "running"
}

/// By the key, by PostgreSQL's names in force, and by those that were ordered: either may come first. A standby has them
/// once the key is its own, before it is promoted.
fn synchronous(view: &View, cluster: &Cluster, running: &RunningServer) -> SyncNames {
    let own_key = cluster.sync.active().is_some_and(|key| key.is_led_by(&SyncName::from(&view.me.name)));
    if view.settings.sync_mode() == SyncMode::Off || (running.in_recovery && !own_key) {
        return SyncNames::new();
    }
    let key = cluster.sync.active().into_iter().flat_map(|key| key.standbys.iter().cloned());
    let ordered = view.sync.ordered.iter().flat_map(|names| names.names.iter().cloned());
    key.chain(ordered).chain(StandbyNames::read(&running.sync.names).names).collect()
}

#[cfg(test)]
#[path = "waited_for_tests.rs"]
mod tests;
