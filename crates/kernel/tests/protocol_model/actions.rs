//! What can happen, and what it does.

use crate::Mutant;
use crate::cluster::{Cluster, Key, NODES, Node, Protocol, Role, TTL};
use crate::kernel::Step;

#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Action {
    /// Time passes.
    Tick,
    KeepAlive(usize),
    /// A node whose time is over ends its PostgreSQL; the guard sees to it before more time passes.
    Fence(usize),
    /// A node reads the `sync` key.
    Look(usize),
    /// A node wins a race in which these answered (a mask).
    Win(usize, u8),
    /// It takes the leader key.
    Acquire(usize),
    /// The next step of synchronous replication.
    Perform(usize, Step),
    /// The same with a write of the key, of which nothing is heard.
    Send(usize, Key),
    /// It arrives.
    Arrive,
    Promote(usize),
    Write(usize),
    /// A standby receives one record.
    Receive(usize),
    /// A standby connects to a primary; what that one does not have is undone.
    Connect(usize, usize),
    Break(usize),
    Crash(usize),
    /// The node comes back, as a standby.
    Start(usize),
}

impl Protocol {
    pub fn possible(&self, cluster: &Cluster, found: &mut Vec<Action>) {
        let leads = |node: &Node| matches!(node.role, Role::Elected | Role::Primary);
        if !cluster.nodes.iter().any(|node| leads(node) && node.deadline == 0) {
            found.push(Action::Tick);
        }
        if cluster.late.is_some() {
            found.push(Action::Arrive);
        }
        for at in 0..NODES {
            let (node, leads) = (&cluster.nodes[at], cluster.leader == Some(at));
            if node.role == Role::Down {
                found.push(Action::Start(at));
                continue;
            }
            if cluster.crashes < self.bounds.crashes {
                found.push(Action::Crash(at));
            }
            // a standby needs the key in a race only
            if node.stale.is_some() && (node.role != Role::Standby || cluster.leader.is_none()) {
                found.push(Action::Look(at));
            }
            match node.role {
                Role::Standby => self.standby(cluster, at, found),
                Role::Elected | Role::Primary => {
                    if node.deadline == 0 {
                        found.push(Action::Fence(at));
                    }
                    if leads && cluster.lease < TTL {
                        found.push(Action::KeepAlive(at));
                    }
                    self.leader(cluster, at, found);
                }
                Role::Down => {}
            }
        }
    }

    fn standby(&self, cluster: &Cluster, at: usize, found: &mut Vec<Action>) {
        let node = &cluster.nodes[at];
        if node.won {
            let compares = self.mutant != Mutant::CompareForgotten;
            if cluster.leader.is_none() && (node.stale.is_none() || !compares) {
                found.push(Action::Acquire(at));
            }
        } else if cluster.leader.is_none() {
            let mut others = (0..1 << NODES).filter(|mask: &u8| mask & 1 << at == 0);
            found.extend(others.find(|mask| self.wins(cluster, at, *mask)).map(|mask| Action::Win(at, mask)));
        }
        match node.upstream {
            Some(upstream) => {
                if node.log.len() < cluster.nodes[upstream].log.len() {
                    found.push(Action::Receive(at));
                }
                if cluster.breaks < self.bounds.breaks {
                    found.push(Action::Break(at));
                }
            }
            None => found.extend(cluster.writable().map(|primary| Action::Connect(at, primary))),
        }
    }

    fn leader(&self, cluster: &Cluster, at: usize, found: &mut Vec<Action>) {
        let (node, step) = (&cluster.nodes[at], self.step(cluster, at));
        // the write compares the revision of the key and the lease of the leader key
        let valid = cluster.leader == Some(at) && node.stale.is_none();
        match step {
            Step::Key(_) if !valid => {}
            Step::Nothing if node.role == Role::Elected && cluster.promotions < self.bounds.promotions => {
                found.push(Action::Promote(at));
            }
            Step::Nothing => {}
            step => found.push(Action::Perform(at, step)),
        }
        if let (Step::Key(key), true, None) = (step, valid && cluster.unheard < self.bounds.unheard, cluster.late) {
            found.push(Action::Send(at, key));
        }
        if node.role == Role::Primary && cluster.writes < self.bounds.writes {
            found.push(Action::Write(at));
        }
    }

    fn lease_taken(&self, cluster: &mut Cluster, at: usize) {
        let margin = u8::from(self.mutant != Mutant::MarginZero);
        cluster.lease = TTL;
        cluster.nodes[at].deadline = TTL - margin;
    }

    /// What is on its way compares a revision that is gone then.
    fn put(&self, cluster: &mut Cluster, key: Key) {
        cluster.late = cluster.late.filter(|_| self.mutant == Mutant::StaleViewTrusted);
        cluster.put(key);
    }

    pub fn act(&self, cluster: &mut Cluster, action: Action) {
        match action {
            Action::Tick => tick(cluster, self.mutant != Mutant::StaleViewTrusted),
            Action::KeepAlive(at) => self.lease_taken(cluster, at),
            Action::Fence(at) => cluster.end(at, Role::Standby),
            Action::Look(at) => read(&mut cluster.nodes[at]),
            Action::Win(at, _) => cluster.nodes[at].won = true,
            Action::Acquire(at) => {
                cluster.leader = Some(at);
                cluster.late = cluster.late.filter(|_| self.mutant == Mutant::StaleViewTrusted); // another lease
                self.lease_taken(cluster, at);
                let node = &mut cluster.nodes[at];
                (node.role, node.won, node.upstream, node.safe) = (Role::Elected, false, None, node.log.len());
            }
            Action::Perform(at, Step::Key(key)) => {
                self.put(cluster, key);
                read(&mut cluster.nodes[at]);
            }
            Action::Send(at, key) => {
                cluster.late = Some((at, key));
                cluster.nodes[at].in_doubt = true;
                cluster.unheard += 1;
            }
            Action::Arrive => {
                let (_, key) = cluster.late.take().unwrap();
                self.put(cluster, key);
            }
            Action::Perform(at, Step::Waits(waits)) => {
                let node = &mut cluster.nodes[at];
                (node.waits, node.safe) = (waits, node.log.len());
            }
            Action::Perform(_, Step::Nothing) => {}
            Action::Promote(at) => promote(cluster, at),
            Action::Write(at) => {
                let timeline = *cluster.nodes[at].log.last().unwrap();
                cluster.nodes[at].log.push(timeline);
                cluster.writes += 1;
            }
            Action::Receive(at) => {
                let upstream = cluster.nodes[at].upstream.unwrap();
                let record = cluster.nodes[upstream].log[cluster.nodes[at].log.len()];
                cluster.nodes[at].log.push(record);
            }
            Action::Connect(at, primary) => {
                let same = |(mine, theirs): &(&u8, &u8)| mine == theirs;
                let common = cluster.nodes[at].log.iter().zip(&cluster.nodes[primary].log).take_while(same).count();
                cluster.nodes[at].log.truncate(common);
                cluster.nodes[at].upstream = Some(primary);
                cluster.nodes[at].won = false;
            }
            Action::Break(at) => {
                cluster.nodes[at].upstream = None;
                cluster.breaks += 1;
            }
            Action::Crash(at) => {
                cluster.end(at, Role::Down);
                cluster.crashes += 1;
            }
            Action::Start(at) => cluster.nodes[at].role = Role::Standby,
        }
    }
}

/// The present key is known: another revision ends every doubt, and what a race was judged by.
fn read(node: &mut Node) {
    (node.stale, node.won, node.in_doubt) = (None, false, false);
}

fn tick(cluster: &mut Cluster, compares: bool) {
    cluster.lease = cluster.lease.saturating_sub(1);
    if cluster.lease == 0 {
        cluster.leader = None; // a write that is on its way would compare it
        cluster.late = cluster.late.filter(|_| !compares);
    }
    for node in &mut cluster.nodes {
        node.deadline = node.deadline.saturating_sub(1);
    }
}

fn promote(cluster: &mut Cluster, at: usize) {
    cluster.promotions += 1;
    cluster.lost |= !cluster.nodes[at].log.starts_with(&cluster.acknowledged);
    cluster.nodes[at].log.push(cluster.promotions + 1);
    cluster.nodes[at].role = Role::Primary;
}
