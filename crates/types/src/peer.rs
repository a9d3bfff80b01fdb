//! What a peer said when it was asked before a leader race.

use crate::{Instant, Lsn, MemberName, Timeline};
use std::collections::BTreeSet;

/// One peer to ask.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PeerToAsk {
    /// Its name.
    pub name: MemberName,
    /// `http(s)://host:port/patroni`.
    pub api_url: String,
    /// How long to wait for it, in milliseconds: shorter for one whose member key has already lapsed.
    pub patience_ms: u64,
}

/// The answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum PeerAnswer {
    /// None, or nothing usable; the text says what happened.
    Silent(String),
    /// It answered.
    Said(PeerSaid),
}

/// The usable part of a peer's status document (spec/ha.md 9.2).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PeerSaid {
    /// Its PostgreSQL is out of recovery.
    pub is_primary: bool,
    /// The position that counts in a race; zero when unknown.
    pub position: Lsn,
    /// Its timeline when known.
    pub timeline: Option<Timeline>,
    /// `failover_priority`, 0 with `nofailover`.
    pub priority: i32,
    /// Logical slots that are safe to be used once it leads; `None` when it does not say.
    pub safe_slots: Option<BTreeSet<String>>,
    /// It says that its watchdog is unusable.
    pub watchdog_failed: bool,
    /// When it looked at its PostgreSQL, on OUR clock: answer time minus the age it stated, or the time of the
    /// request for a peer that looks while it answers (Patroni).
    pub looked_at: Instant,
}

impl PeerSaid {
    /// Which of these logical slots it has no safe copy of; none if it does not say.
    pub fn lacks<'a>(&self, needed: &'a BTreeSet<String>) -> Vec<&'a str> {
        let safe = |name: &String| self.safe_slots.as_ref().is_none_or(|slots| slots.contains(name));
        needed.iter().filter(|name| !safe(name)).map(String::as_str).collect()
    }
}

/// One peer's report.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PeerReport {
    /// Who.
    pub name: MemberName,
    /// What.
    pub answer: PeerAnswer,
}
