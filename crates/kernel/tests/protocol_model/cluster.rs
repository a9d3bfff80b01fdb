//! The world: etcd's two keys, three nodes with their logs, and what was acknowledged.

use crate::Mutant;
use pgherd_types::SyncMode;

pub const NODES: usize = 3;
/// Ticks that a lease lasts.
pub const TTL: u8 = 2;

pub struct Protocol {
    pub mode: SyncMode,
    pub mutant: Mutant,
    pub bounds: Bounds,
}

/// How often each of these may happen in a run.
#[derive(Copy, Clone, Debug)]
pub struct Bounds {
    pub writes: u8,
    pub promotions: u8,
    pub crashes: u8,
    /// Broken connections of a standby.
    pub breaks: u8,
    /// Writes of the `sync` key of which nothing is heard.
    pub unheard: u8,
}

/// The `sync` key; the voters are a mask.
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug)]
pub struct Key {
    pub leader: usize,
    pub quorum: u8,
    pub voters: u8,
}

/// `synchronous_standby_names`: any `number` of these (a mask).
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct Waits {
    pub number: u8,
    pub names: u8,
    pub blocked: bool,
}

#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug, Default)]
pub enum Role {
    #[default]
    Down,
    Standby,
    /// It holds the leader key and is not promoted yet.
    Elected,
    Primary,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct Node {
    pub role: Role,
    /// The timeline of each record.
    pub log: Vec<u8>,
    /// Whom it receives from.
    pub upstream: Option<usize>,
    /// Ticks until it must not take writes any more.
    pub deadline: u8,
    /// The `sync` key as last read, where that is not the present one.
    pub stale: Option<Key>,
    /// It wrote the key and heard nothing of that.
    pub in_doubt: bool,
    /// It won a race by that key, and has not taken the leader key yet.
    pub won: bool,
    pub waits: Waits,
    /// The position at which PostgreSQL began to wait like this.
    pub safe: usize,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Cluster {
    pub leader: Option<usize>,
    pub lease: u8,
    pub key: Key,
    /// A write of the `sync` key that is still on its way, and by whom.
    pub late: Option<(usize, Key)>,
    pub nodes: [Node; NODES],
    /// The longest log that was acknowledged.
    pub acknowledged: Vec<u8>,
    /// Somebody was promoted without it.
    pub lost: bool,
    pub writes: u8,
    pub promotions: u8,
    pub crashes: u8,
    pub breaks: u8,
    pub unheard: u8,
}

impl Cluster {
    /// Node 0 is primary of two standbys, and has not begun to wait for them.
    pub fn new() -> Self {
        let node = |at| Node {
            role: if at == 0 { Role::Primary } else { Role::Standby },
            log: vec![1],
            upstream: (at != 0).then_some(0),
            deadline: u8::from(at == 0),
            stale: None,
            in_doubt: false,
            won: false,
            waits: Waits::default(),
            safe: 1,
        };
        Self {
            leader: Some(0),
            lease: TTL,
            key: Key { leader: 0, quorum: 0, voters: 0 },
            late: None,
            nodes: [node(0), node(1), node(2)],
            acknowledged: vec![1],
            lost: false,
            writes: 0,
            promotions: 0,
            crashes: 0,
            breaks: 0,
            unheard: 0,
        }
    }

    pub fn writable(&self) -> impl Iterator<Item = usize> {
        (0..NODES).filter(|node| self.nodes[*node].role == Role::Primary)
    }

    /// The standbys that receive from this node.
    pub fn standbys(&self, of: usize) -> impl Iterator<Item = usize> {
        (0..NODES).filter(move |node| self.nodes[*node].upstream == Some(of))
    }

    /// The `sync` key as this node last read it.
    pub fn key_of(&self, node: usize) -> Key {
        self.nodes[node].stale.unwrap_or(self.key)
    }

    /// The `sync` key is written: nobody has read it yet.
    pub fn put(&mut self, key: Key) {
        let before = self.key;
        for other in self.nodes.iter_mut().filter(|other| other.role != Role::Down) {
            other.stale = other.stale.or(Some(before));
        }
        self.key = key;
    }

    /// PostgreSQL ends, or is no primary any more.
    pub fn end(&mut self, node: usize, role: Role) {
        let at = &mut self.nodes[node];
        let stale = at.stale.filter(|_| role != Role::Down); // it reads the key when it comes back
        *at = Node { role, stale, log: std::mem::take(&mut at.log), ..Node::default() };
        for other in &mut self.nodes {
            other.upstream = other.upstream.filter(|upstream| *upstream != node);
        }
    }

    /// PostgreSQL acknowledges what it may.
    pub fn acknowledge(&mut self) {
        for primary in self.writable().collect::<Vec<_>>() {
            let node = &self.nodes[primary];
            let named = self.standbys(primary).filter(|standby| node.waits.names & 1 << standby != 0);
            let mut reached: Vec<usize> = named.map(|standby| self.nodes[standby].log.len()).collect();
            reached.sort_unstable();
            let up_to = match usize::from(node.waits.number) {
                _ if node.waits.blocked => None,
                0 => Some(node.log.len()),
                number => reached.len().checked_sub(number).map(|at| reached[at]),
            };
            let commits = &node.log[..up_to.unwrap_or(0)];
            if commits.len() > self.acknowledged.len() {
                self.acknowledged = commits.to_vec();
            }
        }
    }
}
