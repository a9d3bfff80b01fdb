//! The small world: five nodes, one of them primary.

use crate::timelines::{History, Place};
use pgherd_kernel::sync::{
    KeyWrite, Peer, RaceRule, ReadyMemory, StandbyRow, SyncMember, SyncState, SyncStep, SyncView, before_promotion,
    may_race, next_step, remember, votes,
};
use pgherd_types::{Lsn, StandbyNames, SyncKey, SyncKind, SyncMode, SyncName, SyncSeen, SyncSettings, Timeline};
use std::collections::BTreeMap;

#[derive(Clone, Debug)]
pub enum Event {
    /// The primary writes.
    Write,
    /// A standby receives (percent of what it lacks).
    Follow(usize, u64),
    /// A standby connects, its log cut back to what it has in common with the primary's.
    Connect(usize),
    Disconnect(usize),
    /// The planner's next step is performed.
    Perform,
    /// The same, but nothing is heard of a write, which may arrive later.
    PerformUnheard,
    /// A write that nothing was heard of arrives.
    Arrive,
    /// The agent is started anew.
    Forget,
    /// PostgreSQL is started anew.
    Restart,
    Settings(SyncMode, bool, u32),
    NoSync(usize, bool),
    Patient(bool),
    /// The primary dies; this node takes over if the key lets it, seeing these nodes (mask).
    Failover {
        to: usize,
        reachable: u8,
    },
}

#[derive(Clone, Debug)]
struct Node {
    name: SyncName,
    at: Place,
    connected: bool,
    pid: u32,
    nosync: bool,
}

/// A planted fault.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Fault {
    None,
    /// The planner is not told of writes whose end is unknown.
    DoubtUntold,
    /// A new primary writes the key only when it is one.
    KeyAfterPromotion,
    /// A new primary waits for nobody at first.
    NoNamesAtPromotion,
    /// A proof outlives the change of names (the memory is not told of it).
    ProofForEver,
    /// Only positions are compared in a race, not timelines.
    TimelineIgnored,
}

pub struct World {
    nodes: Vec<Node>,
    pub primary: usize,
    promoted: bool,
    view: SyncView,
    /// The last commit that was acknowledged.
    acknowledged: Place,
    history: History,
    /// The key as everybody remembers it.
    last: Option<SyncKey>,
    pub fault: Fault,
    /// A winner that lacked a commit.
    broken: Option<String>,
    pub late: Vec<(Option<i64>, SyncKey)>,
    revision: i64,
}

impl World {
    pub const NODES: usize = 5;

    pub fn new() -> Self {
        let node =
            |name: &str| Node { name: name.into(), at: (Timeline(1), 100), connected: false, pid: 1, nosync: false };
        let settings = SyncSettings { mode: SyncMode::On, ..SyncSettings::default() };
        let mut world = Self {
            nodes: ["p", "a", "b", "c", "d"].map(node).into(),
            primary: 0,
            promoted: true,
            view: fresh_view("p".into(), SyncSeen::Absent, settings),
            acknowledged: (Timeline(1), 100),
            history: History::default(),
            last: None,
            fault: Fault::None,
            broken: None,
            late: Vec::new(),
            revision: 10,
        };
        world.look();
        world
    }

    pub fn happen(&mut self, event: &Event) {
        match *event {
            Event::Write if self.promoted => self.nodes[self.primary].at.1 += 10,
            Event::Write => {}
            Event::Follow(who, percent) => self.follow(who, percent),
            Event::Connect(who) => self.connect(who),
            Event::Disconnect(who) => self.nodes[who].connected = false,
            Event::Perform => drop(self.perform(true)),
            Event::PerformUnheard => drop(self.perform(false)),
            Event::Arrive => {
                if let Some((seen, key)) = self.late.pop() {
                    self.put(seen, key);
                }
            }
            Event::Forget => self.view.ready.forget(),
            Event::Restart => {
                self.view.ready.forget();
                self.nodes.iter_mut().for_each(|node| node.connected = false);
            }
            Event::Settings(mode, strict, node_count) => {
                self.view.settings = SyncSettings { mode, strict, node_count, maximum_lag: None };
            }
            Event::NoSync(who, nosync) => self.nodes[who].nosync = nosync,
            Event::Patient(patient) => self.view.patient = patient,
            Event::Failover { to, reachable } => self.fail_over(to, reachable),
        }
        if self.view.in_doubt.is_some_and(|seen| seen != self.view.key.revision()) {
            self.view.in_doubt = None;
        }
        self.last = remember(self.last.take(), self.view.settings.mode, &self.view.key);
        self.look();
    }

    fn follow(&mut self, who: usize, percent: u64) {
        let (primary, at) = (self.nodes[self.primary].at, self.nodes[who].at.1);
        let end = primary.1;
        if self.nodes[who].connected {
            self.nodes[who].at = self.history.on_line(primary, at + (end - at) * percent / 100);
        }
    }

    fn connect(&mut self, who: usize) {
        if who == self.primary || !self.promoted || self.nodes[who].connected {
            return;
        }
        let primary = self.nodes[self.primary].at;
        let at = self.history.on_line(primary, self.history.common(self.nodes[who].at, primary));
        let node = &mut self.nodes[who];
        (node.at, node.connected, node.pid) = (at, true, node.pid + 1);
    }

    fn has(&self, node: &Node, commit: Place) -> bool {
        self.history.common(node.at, commit) >= commit.1
    }

    fn put(&mut self, seen: Option<i64>, key: SyncKey) {
        if self.view.key.revision() == seen {
            self.revision += 1;
            self.view.key = SyncSeen::Valid(SyncKey { mod_revision: self.revision, ..key });
        }
    }

    pub fn perform(&mut self, heard: bool) -> SyncStep {
        let step = if self.promoted { next_step(&self.view) } else { self.before_promotion() };
        match step.clone() {
            SyncStep::WriteKey(KeyWrite { leader, quorum, standbys, seen }) => {
                let key = SyncKey { mod_revision: 0, leader: Some(leader), quorum, standbys };
                if heard {
                    self.put(seen, key);
                } else {
                    self.late.push((seen, key));
                    self.view.in_doubt = Some(seen).filter(|_| self.fault != Fault::DoubtUntold);
                }
            }
            SyncStep::DeleteKey { seen } => {
                assert_eq!(self.view.key.revision(), Some(seen));
                self.view.key = SyncSeen::Absent;
            }
            SyncStep::SetNames(names) => self.view.names = Some(names),
            SyncStep::SetUserNames => self.view.names = Some(self.view.user_names.clone()),
            SyncStep::ForceWal => {
                self.nodes[self.primary].at.1 += 1;
                self.view.ready.forced();
            }
            SyncStep::Nothing if !self.promoted => self.promote(),
            SyncStep::Nothing | SyncStep::Wait(_) => {}
        }
        step
    }

    fn before_promotion(&self) -> SyncStep {
        match (before_promotion(&self.view), self.fault) {
            (SyncStep::WriteKey(_), Fault::KeyAfterPromotion) => SyncStep::Nothing,
            (SyncStep::SetNames(_), Fault::NoNamesAtPromotion) => SyncStep::Nothing,
            (step, _) => step,
        }
    }

    fn promote(&mut self) {
        let node = &mut self.nodes[self.primary];
        node.at = self.history.branch(node.at);
        self.promoted = true;
        if self.view.key.active().is_none() {
            self.acknowledged = node.at; // nothing was promised of the time before
        }
    }

    fn fail_over(&mut self, to: usize, reachable: u8) {
        let me = &self.nodes[to];
        let timeline = |node: &Node| if self.fault == Fault::TimelineIgnored { Timeline(1) } else { node.at.0 };
        let seen = |(at, _): &(usize, &Node)| *at != to && reachable & 1 << at != 0;
        let peer = |(_, node): (usize, &Node)| Peer {
            name: node.name.clone(),
            position: Lsn(node.at.1),
            timeline: Some(timeline(node)),
            in_recovery: true,
            limited: false,
        };
        let peers: Vec<Peer> = self.nodes.iter().enumerate().filter(seen).map(peer).collect();
        let free = match may_race(&self.view.key, self.last.as_ref(), self.view.settings.mode, &me.name) {
            RaceRule::Asynchronous => true,
            RaceRule::Barred(_) => false,
            RaceRule::Ballot(ballot) => {
                let wins = votes(&ballot, &me.name, (Some(timeline(me)), Lsn(me.at.1)), &peers).wins();
                if wins && !self.has(me, self.acknowledged) {
                    self.broken = Some(format!("{me:?} wins and lacks {:?}", self.acknowledged));
                }
                wins
            }
        };
        if free && to != self.primary {
            let new = self.nodes[to].at;
            let common = self.history.common(new, self.acknowledged);
            if common < self.acknowledged.1 {
                self.acknowledged = (new.0, common); // the rest is lost, as may be without a synchronous mode
            }
            (self.primary, self.promoted) = (to, false);
            self.view = fresh_view(self.nodes[to].name.clone(), self.view.key.clone(), self.view.settings);
            self.nodes.iter_mut().for_each(|node| node.connected = false);
            self.late.clear(); // each write compares the lease of the leader key as well
        }
    }

    /// What PostgreSQL does by itself, and a look at it.
    fn look(&mut self) {
        let names = self.view.names.clone().unwrap();
        let state = if names.kind == SyncKind::Any { SyncState::Quorum } else { SyncState::Sync };
        let others = || self.nodes.iter().enumerate().filter(|(at, _)| *at != self.primary).map(|(_, node)| node);
        let row = |node: &Node| StandbyRow {
            name: node.name.clone(),
            pid: node.pid,
            lsn: Some(Lsn(node.at.1)),
            sync_state: if names.names.contains(&node.name) { state } else { SyncState::Async },
            slot_matches: true,
            silent: false,
        };
        let member = |node: &Node| (node.name.clone(), SyncMember { nosync: node.nosync, ..SyncMember::default() });
        let rows: Vec<StandbyRow> = others().filter(|node| node.connected).map(row).collect();
        self.view.members = others().map(member).collect();
        self.view.rows = rows;
        self.view.position = Lsn(self.nodes[self.primary].at.1);
        if self.promoted {
            self.acknowledge(&names);
            let before = self.view.names.clone().filter(|_| self.fault == Fault::ProofForEver);
            self.view.ready.look(&names, self.view.position, &self.view.rows);
            if before.is_some() {
                // whoever streams has everything that was acknowledged before
                let all = self.view.rows.iter().map(|row| StandbyRow { lsn: Some(self.view.position), ..row.clone() });
                self.view.ready.look(&names, self.view.position, &all.collect::<Vec<_>>());
            }
        }
    }

    fn acknowledge(&mut self, names: &StandbyNames) {
        let rows = self.view.rows.iter().filter(|row| names.names.contains(&row.name));
        let mut positions: Vec<Lsn> = rows.filter_map(|row| row.lsn).collect();
        positions.sort_unstable();
        let everybody_has = match names.number as usize {
            0 => Some(self.view.position),
            number => positions.len().checked_sub(number).map(|at| positions[at]),
        };
        let timeline = self.nodes[self.primary].at.0;
        let began = self.history.began(timeline);
        if let Some(Lsn(lsn)) = everybody_has.filter(|lsn| lsn.0 >= began.max(self.acknowledged.1)) {
            self.acknowledged = (timeline, lsn);
        }
    }

    /// Whoever is level with `quorum` others of voters and leader has what was acknowledged: of those, at most `quorum` may
    /// lack it. And a leader of the key can win alone.
    pub fn lost(&self) -> Option<String> {
        if self.broken.is_some() {
            return self.broken.clone();
        }
        let key = self.view.key.active()?;
        let leader = SyncName::from(key.leader.as_ref().unwrap());
        let lacks = |node: &&Node| !self.has(node, self.acknowledged);
        let lacking = self.nodes.iter().filter(lacks).map(|node| &node.name);
        let lacking: Vec<&SyncName> = lacking.filter(|name| key.standbys.contains(name) || **name == leader).collect();
        let lost = lacking.len() > key.quorum as usize || lacking.contains(&&leader);
        lost.then(|| format!("{:?}, lacking {lacking:?}, {key:?}, {:?}", self.acknowledged, self.view.names))
    }

    /// Nothing goes wrong any more: until the planner has nothing to do.
    pub fn calm(&mut self) -> Result<(), String> {
        self.late.clear();
        for _ in 0..40 {
            self.view.patient = false;
            for who in 0..Self::NODES {
                self.happen(&Event::NoSync(who, false));
                self.happen(&Event::Connect(who));
                self.happen(&Event::Follow(who, 100));
            }
            let promoted = self.promoted;
            if self.perform(true) == SyncStep::Nothing && promoted {
                return Ok(());
            }
            self.happen(&Event::Patient(false));
            if let Some(lost) = self.lost() {
                return Err(lost);
            }
        }
        Err(format!("no rest: {:?}", self.view))
    }
}

fn fresh_view(me: SyncName, key: SyncSeen, settings: SyncSettings) -> SyncView {
    SyncView {
        me,
        settings,
        key,
        in_doubt: None,
        names: Some(StandbyNames::none()),
        user_names: StandbyNames::none(),
        rows: Vec::new(),
        members: BTreeMap::new(),
        position: Lsn(0),
        ready: ReadyMemory::default(),
        patient: false,
        pristine: false,
    }
}
