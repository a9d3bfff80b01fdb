//! Timelines and their history.

use crate::Lsn;
use serde::{Deserialize, Serialize};
use std::fmt;

/// A timeline number; 1 for a new cluster, larger after every promotion.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Timeline(pub u32);

impl Timeline {
    /// The next number.
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl fmt::Display for Timeline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// One finished timeline: a row of the `history` key and of PostgreSQL's history files. In JSON an array of three to
/// five items (spec/dcs-etcd3.md 2.7).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HistoryRow {
    /// The timeline that ended.
    pub timeline: Timeline,
    /// Where it ended: the first position that belongs to its successor.
    pub switch_lsn: Lsn,
    /// Why, in PostgreSQL's words.
    pub reason: String,
    /// When, ISO 8601, if known.
    pub at: Option<String>,
    /// Who led the successor, if known.
    pub new_leader: Option<String>,
}
