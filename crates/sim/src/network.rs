//! The network: which directed links are cut, and how long a message takes.

use crate::rng::Rng;

/// An end of a link.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum End {
    /// The whole of etcd.
    Etcd,
    /// A node.
    Node(usize),
}

/// The state of the links.
#[derive(Debug, Default)]
pub struct Network {
    /// Directed links that carry nothing, by who cut them.
    pub cuts: Vec<(usize, End, End)>,
    /// Slow directed links: every message takes up to so much longer.
    pub slow: Vec<(usize, End, u64)>,
    /// Ends that lose so many of a thousand replies.
    pub lossy: Vec<(usize, End, u64)>,
    /// Nothing goes wrong any more.
    pub calm: bool,
}

impl Network {
    /// Does the link carry anything?
    pub fn up(&self, from: End, to: End) -> bool {
        !self.cuts.iter().any(|(_, f, t)| (*f, *t) == (from, to))
    }
    /// Do both directions?
    pub fn both(&self, a: End, b: End) -> bool {
        self.up(a, b) && self.up(b, a)
    }
    /// How long a message takes that leaves now; `None`: it is lost.
    pub fn delay(&self, rng: &mut Rng, from: End, to: End) -> Option<u64> {
        if !self.up(from, to) {
            return None;
        }
        let slow =
            self.slow.iter().filter(|(_, end, _)| *end == from || *end == to).map(|(_, _, ms)| *ms).max().unwrap_or(0);
        let usual = if rng.permille(20) { rng.range(5, 60) } else { rng.range(1, 4) };
        Some(usual + if slow > 0 { rng.below(slow) } else { 0 })
    }
    /// Is the reply to this end lost? One in a thousand is, as long as things go wrong at all.
    pub fn loses_reply(&self, rng: &mut Rng, to: End) -> bool {
        let chance = self.lossy.iter().filter(|(_, end, _)| *end == to).map(|(_, _, p)| *p).max().unwrap_or(0);
        rng.permille(if self.calm { 0 } else { chance.max(1) })
    }
    /// A fault is over.
    pub fn heal(&mut self, fault: usize) {
        self.cuts.retain(|(f, ..)| *f != fault);
        self.slow.retain(|(f, ..)| *f != fault);
        self.lossy.retain(|(f, ..)| *f != fault);
    }
}
