//! For which standbys the consumers of logical slots wait (`synchronized_standby_slots`, PostgreSQL 17 and later, where the
//! configuration asks for it): one that has read what the next primary lacks passes over what that writes instead.
//!
//! The list holds the slots of those that may be promoted. In a synchronous mode these are the members of the `sync` key
//! and those that are about to be in it. Otherwise it is whoever streams; one that does not any more is waited for as long
//! as its member key says `running`, and for a `ttl` at most: it stops every consumer. A standby has its list ready
//! before it is promoted; while it is in recovery its server waits for nobody.

use super::{NATIVE_FAILOVER, major_version};
use crate::View;
use pgherd_types::{Cluster, Instant, Member, RunningServer, SeenSlot, StandbyNames, SyncMode, SyncName, SyncNames};
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
    let members = cluster.members.values().filter(|member| member.name != view.me.name && member.doc.tags.may_lead());
    let slot_of = |member: &Member| {
        let name = member.name.slot_name();
        // PostgreSQL refuses a list with a name that it does not know
        running.slots.iter().find(|slot| slot.physical && slot.name == name && !slot.lost)
    };
    let slots = members.filter_map(|member| Some((member, slot_of(member)?)));
    let synchronous = synchronous(view, cluster, running);
    let waited = |member: &Member, slot: &SeenSlot| match () {
        () if running.in_recovery => may_come(view, cluster, member),
        () if settings.sync_mode() != SyncMode::Off => synchronous.contains(&SyncName::from(&member.name)),
        () => streams(running, slot) || has_grace(view, member, slot, now),
    };
    Some(slots.filter(|(member, slot)| waited(member, slot)).map(|(_, slot)| slot.name.clone()).collect())
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

/// By the key, by PostgreSQL's names in force, and by those that were ordered: names come before the key.
fn synchronous(view: &View, cluster: &Cluster, running: &RunningServer) -> SyncNames {
    let key = cluster.sync.active().into_iter().flat_map(|key| key.standbys.iter().cloned());
    let ordered = view.sync.ordered.iter().flat_map(|names| names.names.iter().cloned());
    key.chain(ordered).chain(StandbyNames::read(&running.sync.names).names).collect()
}

#[cfg(test)]
#[path = "waited_for_tests.rs"]
mod tests;
