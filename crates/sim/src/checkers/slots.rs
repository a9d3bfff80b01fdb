//! A consumer of a logical slot sees everything, in order: it never passes over a part of the WAL, and never decodes WAL
//! whose catalog rows are gone. The one exception is a primary whose agent said, before its promotion, that the slot is
//! not safe there.
//!
//! And a standby is restarted once for several slots: not while another one that it lacks may be about to be told of.

use crate::postgres::Data;
use crate::slots::SLOTS;
use crate::world::World;
use pgherd_types::{Decoding, Timeline};
use std::collections::{BTreeMap, BTreeSet};

/// What the consumer has seen.
#[derive(Debug, Default)]
pub struct Consumer {
    /// Timeline to the end of what was seen on it.
    seen: BTreeMap<Timeline, u64>,
    /// Timelines that began with a warning.
    warned: BTreeSet<Timeline>,
}

/// A consumer has seen more than there is.
#[derive(Debug)]
pub struct Ahead {
    /// Of this timeline.
    pub on: Timeline,
    /// So far.
    pub seen: u64,
    /// And it ends there.
    pub end: u64,
}

impl Consumer {
    /// A timeline begins.
    pub fn promoted(&mut self, timeline: Timeline, warned: bool, there: bool) {
        // before there is a slot anywhere nobody can lose its place
        if warned || (self.seen.is_empty() && !there) {
            self.warned.insert(timeline);
        }
    }

    /// The first part of this history before `at` that was not seen.
    fn missed(&self, data: &Data, at: u64) -> Option<(Timeline, u64, u64)> {
        let ends = data.history.iter().map(|row| (row.timeline, row.switch_lsn.0)).chain([(data.timeline, u64::MAX)]);
        let first = *self.seen.keys().next()?;
        let mut begin = 0;
        for (timeline, end) in ends {
            let (from, to) = (begin, end.min(at));
            begin = end;
            let seen = self.seen.get(&timeline).copied().unwrap_or(from);
            if timeline >= first && from < to && seen < to {
                return Some((timeline, seen, to));
            }
        }
        None
    }

    /// The first timeline of which more was seen than is in these data.
    pub fn ahead_of(&self, data: &Data) -> Option<Ahead> {
        self.seen.iter().find_map(|(timeline, seen)| {
            let end = data.end_on(*timeline);
            (end < *seen).then_some(Ahead { on: *timeline, seen: *seen, end })
        })
    }

    /// A slot is made on a primary that said that it had none that is safe: its consumer goes on there.
    pub fn begins_anew(&mut self, data: &Data) {
        if self.warned.contains(&data.timeline) {
            self.saw(data, data.wal_end);
        }
    }

    /// Everything of this history up to `end` is seen, or given up.
    fn saw(&mut self, data: &Data, end: u64) {
        for (timeline, switch) in data.history.iter().map(|row| (row.timeline, row.switch_lsn.0)) {
            let seen = self.seen.entry(timeline).or_default();
            *seen = switch.min(end).max(*seen);
        }
        let begin = data.history.last().map_or(0, |row| row.switch_lsn.0);
        if begin < end {
            let seen = self.seen.entry(data.timeline).or_default();
            *seen = end.max(*seen);
        }
    }
}

/// So long after a slot was told of the others may follow (true time; clocks may differ a little).
const OTHERS_WITHIN_MS: u64 = 9_900;

impl World {
    /// `status` may have changed: when did the present leader first tell of each slot?
    pub fn note_slots_told(&mut self) {
        let (status, told) = (&self.etcd.cluster.status, &mut self.checks.slots_told);
        let by_leader = self.etcd.cluster.status_is_leaders && self.etcd.leader().is_some();
        let now_told = |name: &str| by_leader && status.slots.contains_key(name);
        told.retain(|name, _| now_told(name));
        for name in SLOTS.into_iter().filter(|name| now_told(name)) {
            told.entry(name).or_insert(self.now);
        }
    }

    /// A standby is about to be restarted for these slots.
    pub fn check_one_restart_for_all(&mut self, n: usize, copied: &BTreeMap<String, Decoding>) {
        let told = &self.checks.slots_told;
        let Some(first) = copied.keys().filter_map(|name| told.get(name.as_str())).min() else { return };
        let Some(data) = self.nodes[n].pg.data.as_ref() else { return };
        let configured = |name: &&str| self.setup.settings.slots.permanent.contains_key(*name);
        let slots = SLOTS.into_iter().zip(data.logical.confirmed).filter(|(name, _)| configured(name));
        let left_out = slots.filter(|(name, here)| here.is_none() && !copied.contains_key(*name)).map(|(name, _)| name);
        let left_out: Vec<&str> = left_out.collect();
        if copied.len() > 1 {
            self.trace.count("happened:one restart for several slots");
        }
        if !left_out.is_empty() && self.now < first + OTHERS_WITHIN_MS {
            self.fail(format!(
                "slots: n{} is restarted for {:?} and may have to be again for {left_out:?}, {} ms after the first was told of",
                n + 1,
                copied.keys(),
                self.now - first
            ));
        }
    }

    /// A standby moved its slot: not beyond what the consumer has seen on the history of that standby.
    pub fn check_moved(&mut self, n: usize, data: &Data, at: u64) {
        if let Some((timeline, seen, to)) = self.checks.consumer.missed(data, at) {
            self.fail(format!(
                "slots: n{} moved its slot to {at:#x}, and the consumer has seen timeline {timeline} up to {seen:#x} only, not to {to:#x}",
                n + 1
            ));
        }
    }

    /// The consumer read from this node from `at` to `end`.
    pub fn check_consumed(&mut self, n: usize, data: &Data, at: u64, end: u64) {
        let consumer = &self.checks.consumer;
        let missed = consumer.missed(data, at);
        let decodes_blindly = at < data.logical.vacuumed;
        let warned = consumer.warned.contains(&data.timeline);
        if let Some((timeline, seen, to)) = missed.filter(|_| !warned) {
            return self.fail(format!(
                "slots: the consumer goes on at {at:#x} on n{}, and has seen timeline {timeline} up to {seen:#x} only, not to {to:#x}",
                n + 1
            ));
        }
        if decodes_blindly && !warned {
            let gone = data.logical.vacuumed;
            return self.fail(format!("slots: n{} decodes from {at:#x} and has catalog rows from {gone:#x} on", n + 1));
        }
        if missed.is_some() || decodes_blindly {
            self.trace.count("happened:consumer lost its place on a node that warned");
        }
        if data.timeline > Timeline(1) {
            self.trace.count("happened:consumer went on after a promotion");
        }
        // it is told once: from here on its place is known again
        self.checks.consumer.saw(data, end);
    }
}
