//! Which slots this node should have.

use super::chain::way_to_leader;
use super::{CAN_ADVANCE, major_version};
use crate::View;
use pgherd_types::{Cluster, Instant, Lsn, Member, RunningServer, SlotKind, SlotNote, Timeline};
use std::collections::BTreeMap;

/// A slot that should exist here.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Wanted {
    /// Its kind.
    pub kind: SlotKind,
    /// Up to where its consumer is known to be.
    pub at: Option<Lsn>,
    /// Its consumer uses it here (and not at another member); `None` when that is not known.
    pub used_here: Option<bool>,
}

/// All of them.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Wants {
    /// By name.
    pub slots: BTreeMap<String, Wanted>,
    /// What of the configuration cannot be done.
    pub refused: Vec<SlotNote>,
}

/// Find out.
pub fn wanted(view: &View, cluster: &Cluster, running: &RunningServer, now: Instant) -> Wants {
    let standbys_are_led = view.settings.standby_cluster.is_some() && view.leads(now);
    let feeds = !running.in_recovery || standbys_are_led;
    let keeps_for_later = major_version(running) >= CAN_ADVANCE && !view.settings.member_slots_ttl.is_zero();
    let (version, timeline) = (major_version(running), running.timeline);
    let finder = Finder { view, cluster, version, timeline, feeds, keeps_for_later };
    let mut wants = Wants::default();
    finder.members(&mut wants);
    finder.absent_members(&mut wants, now);
    finder.permanent(&mut wants);
    wants
}

struct Finder<'v> {
    view: &'v View,
    cluster: &'v Cluster,
    version: u32,
    timeline: Option<Timeline>,
    /// It is the one that the others stream from unless their tags say otherwise.
    feeds: bool,
    /// It keeps slots that will be used only after a failover.
    keeps_for_later: bool,
}

impl Finder<'_> {
    fn members(&self, wants: &mut Wants) {
        let me = &self.view.me;
        let others = self.cluster.members.values().filter(|m| m.name != me.name && !m.doc.tags.nostream);
        for member in others {
            let used_here = self.streams_from_here(member);
            let named_us = member.doc.tags.replicatefrom.as_deref() == Some(me.name.as_str());
            let wanted = match self.keeps_for_later {
                true => me.tags.may_lead() || named_us,
                false => used_here,
            };
            let slot = member.name.slot_name();
            if !wanted || slot == me.name.slot_name() {
                continue;
            }
            if wants.slots.contains_key(&slot) {
                let text = format!("several members share the replication slot name {slot}; rename one of them");
                wants.refused.push(SlotNote { slot, state: "shared", text });
                continue;
            }
            let at = self.known_position(&slot, Some(member));
            wants.slots.insert(slot, Wanted { kind: SlotKind::Physical, at, used_here: Some(used_here) });
        }
    }

    fn streams_from_here(&self, member: &Member) -> bool {
        let me = &self.view.me.name;
        let from = member.doc.tags.replicatefrom.as_deref().filter(|from| *from != member.name.as_str());
        let leads = self.cluster.leader.as_ref().is_some_and(|leader| leader.name == member.name);
        match from {
            _ if !self.feeds && leads => false,
            Some(from) if from == me.as_str() => true,
            Some(from) => self.feeds && !self.cluster.members.contains_key(&from.into()),
            None => self.feeds,
        }
    }

    /// Slots of members that went away a while ago.
    fn absent_members(&self, wants: &mut Wants, now: Instant) {
        if !self.keeps_for_later || !self.view.me.tags.may_lead() {
            return;
        }
        let own = self.view.me.name.slot_name();
        for (slot, seen_at) in self.view.slots_wanted.iter().filter(|(slot, _)| **slot != own) {
            if now.since(*seen_at) <= self.view.settings.member_slots_ttl {
                let kept = Wanted { kind: SlotKind::Physical, at: None, used_here: None };
                wants.slots.entry(slot.clone()).or_insert(kept);
            }
        }
    }

    fn permanent(&self, wants: &mut Wants) {
        let view = self.view;
        let standby_cluster = view.settings.standby_cluster.is_some();
        let fed = way_to_leader(self.cluster, &view.me.name, &view.me.tags).is_some();
        let apply = view.settings.slots.permanent.iter().filter(|_| view.me.tags.may_lead());
        for (name, slot) in apply.filter(|(_, slot)| slot.in_standby_cluster.is_none_or(|it| it == standby_cluster)) {
            match &slot.kind {
                SlotKind::Physical => self.permanent_physical(name, wants),
                SlotKind::Logical(_) if standby_cluster || !fed => {}
                SlotKind::Logical(_) => {
                    if let Some(note) = self.cannot_be_logical(name) {
                        wants.refused.push(note);
                        continue;
                    }
                    let at = self.known_position(name, None);
                    let wanted = Wanted { kind: slot.kind.clone(), at, used_here: Some(self.feeds) };
                    wants.slots.insert(name.clone(), wanted);
                }
            }
        }
    }

    fn permanent_physical(&self, name: &str, wants: &mut Wants) {
        let known = wants.slots.contains_key(name) || name == self.view.me.name.slot_name();
        if known || (self.version < CAN_ADVANCE && !self.feeds) {
            return;
        }
        let member = self.member_of(name);
        let used_here = self.feeds && member.is_none_or(|member| member.doc.tags.replicatefrom.is_none());
        let at = self.known_position(name, member);
        wants.slots.insert(name.to_owned(), Wanted { kind: SlotKind::Physical, at, used_here: Some(used_here) });
    }

    fn cannot_be_logical(&self, name: &str) -> Option<SlotNote> {
        let note = |state, text| Some(SlotNote { slot: name.to_owned(), state, text });
        if self.version < CAN_ADVANCE {
            let text = format!(
                "permanent logical slots need PostgreSQL 11 or later and this is {}: the slot is not made",
                self.version
            );
            return note("refused", text);
        }
        if name == self.view.me.name.slot_name() || self.member_of(name).is_some() {
            let text =
                "a logical slot cannot have the name of a member's own slot: it is not made; rename it".to_owned();
            return note("refused", text);
        }
        None
    }

    fn member_of(&self, slot: &str) -> Option<&Member> {
        self.cluster.members.values().find(|member| member.name.slot_name() == slot)
    }

    /// By `status`, if this leader has written it: what its predecessor published may be on a branch that was left, and a slot
    /// moved there would pass over what its consumer still has to see. Of a member that streams from another one also by its own key, which may be newer.
    fn known_position(&self, slot: &str, member: Option<&Member>) -> Option<Lsn> {
        let cascades = member.filter(|member| member.doc.tags.replicatefrom.is_some());
        let own_word = cascades.and_then(|member| member.doc.xlog_location);
        let published = self.cluster.status.slots.get(slot).filter(|_| self.cluster.status_is_leaders);
        published.copied().max(own_word).max(self.told(slot)).filter(|at| !at.is_zero())
    }

    /// By the leader itself, while the DCS does not answer.
    fn told(&self, slot: &str) -> Option<Lsn> {
        let leader = self.cluster.leader.as_ref().map(|leader| &leader.name);
        let told = self.view.slots.told.as_ref();
        let told = told.filter(|told| Some(&told.leader) == leader && told.timeline == self.timeline)?;
        told.slots.get(slot).copied()
    }
}

#[cfg(test)]
#[path = "wanted_tests.rs"]
mod tests;
