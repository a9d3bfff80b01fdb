//! Logs that branch.

use pgherd_types::Timeline;
use std::collections::BTreeMap;

/// A place in a log.
pub type Place = (Timeline, u64);

/// Where each timeline branched off; the first one did nowhere.
#[derive(Default)]
pub struct History(BTreeMap<Timeline, Place>);

impl History {
    /// A new timeline that begins there.
    pub fn branch(&mut self, at: Place) -> Place {
        let next = Timeline(u32::try_from(self.0.len()).unwrap() + 2);
        self.0.insert(next, at);
        (next, at.1)
    }

    pub fn began(&self, timeline: Timeline) -> u64 {
        self.0.get(&timeline).map_or(0, |(_, lsn)| *lsn)
    }

    /// Where `place` and its ancestors lie on each timeline, the youngest first.
    fn line(&self, place: Place) -> Vec<Place> {
        std::iter::successors(Some(place), |(timeline, _)| self.0.get(timeline).copied()).collect()
    }

    /// Up to where two logs are the same.
    pub fn common(&self, one: Place, other: Place) -> u64 {
        let other = self.line(other);
        let shared = |(timeline, lsn): Place| {
            let theirs = other.iter().find(|(theirs, _)| *theirs == timeline)?;
            Some(lsn.min(theirs.1))
        };
        self.line(one).into_iter().find_map(shared).unwrap() // all begin on timeline 1
    }

    /// A position of this log with its timeline: that of an ancestor until the position is past where the next one began.
    pub fn on_line(&self, log: Place, lsn: u64) -> Place {
        let mut line = self.line(log).into_iter();
        let (timeline, _) = line.find(|(timeline, _)| lsn > self.began(*timeline)).unwrap();
        (timeline, lsn)
    }
}
