//! The client: it writes wherever it can and keeps a ledger of what was acknowledged. On one timeline acknowledged commits
//! form a prefix of the WAL, so a position for each timeline is a complete ledger.

use crate::postgres::Data;
use pgherd_types::Timeline;
use std::collections::BTreeMap;

/// What was acknowledged.
#[derive(Debug, Default)]
pub struct Ledger {
    /// Timeline to the end of the last acknowledged commit.
    pub acknowledged: BTreeMap<Timeline, u64>,
    /// How many commits were.
    pub commits: u64,
    /// The timeline of the newest primary.
    newest: Timeline,
}

impl Ledger {
    /// A commit was acknowledged. Does it count?
    pub fn acknowledge(&mut self, timeline: Timeline, end: u64) -> bool {
        self.commits += 1;
        if timeline < self.newest {
            return false; // a forsaken primary that nobody could fence: its commits are lost as they are made
        }
        let last = self.acknowledged.entry(timeline).or_default();
        *last = end.max(*last);
        true
    }
    /// There is a new primary: what it does not have is lost, and cannot be lost again. Was there any?
    pub fn go_on_from(&mut self, primary: &Data) -> bool {
        self.newest = self.newest.max(primary.timeline);
        let before = self.acknowledged.clone();
        for (timeline, end) in &mut self.acknowledged {
            *end = primary.end_on(*timeline).min(*end);
        }
        before != self.acknowledged
    }
    /// The first timeline on which `has` holds an acknowledged commit that `lacks` does not.
    pub fn missing(&self, has: &Data, lacks: &Data) -> Option<(Timeline, u64, u64)> {
        self.acknowledged.iter().find_map(|(timeline, end)| {
            let (there, here) = (has.end_on(*timeline).min(*end), lacks.end_on(*timeline).min(*end));
            (here < there).then_some((*timeline, here, there))
        })
    }
}
