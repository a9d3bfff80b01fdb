//! What was asked for and how it was answered: the memory that makes decisions quiescent.

use pgherd_types::{DcsWrite, Instant, SlotTarget, SyncApply};
use std::collections::BTreeMap;
use std::time::Duration;

/// After a refusal the same thing is not asked again for this long.
pub const RETRY_AFTER: Duration = Duration::from_secs(1);
/// An answer may be late by this much beyond the time given to the request; then it is taken as lost.
pub const ANSWER_GRACE: Duration = Duration::from_secs(2);

/// One request.
#[derive(Clone, PartialEq, Debug)]
pub struct Ask<T> {
    /// What.
    pub what: T,
    /// When.
    pub at: Instant,
    /// The answer: when, and whether it was yes.
    pub answer: Option<(Instant, bool)>,
}

impl<T: PartialEq> Ask<T> {
    /// A new one.
    pub fn new(what: T, at: Instant) -> Self {
        Self { what, at, answer: None }
    }
    /// Is the answer still to come?
    pub fn pending(&self, now: Instant, patience: Duration) -> bool {
        self.answer.is_none() && now < self.at + patience + ANSWER_GRACE
    }
    /// Until when asking for `what` makes no sense: an answer is pending, or a refusal is recent.
    pub fn blocked_until(&self, now: Instant, patience: Duration) -> Option<Instant> {
        let until = match self.answer {
            None => self.at + patience + ANSWER_GRACE,
            Some((at, false)) => at + RETRY_AFTER,
            Some((_, true)) => return None,
        };
        (now < until).then_some(until)
    }
    /// Was exactly this asked and granted?
    pub fn granted(&self, what: &T) -> Option<Instant> {
        match self.answer {
            Some((at, true)) if self.what == *what => Some(at),
            _ => None,
        }
    }
    /// Note the answer.
    pub fn answered(&mut self, at: Instant, yes: bool) {
        self.answer = Some((at, yes));
    }
}

/// Everything asked for.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Asked {
    /// A renewal, with its "prove".
    pub renew: Option<Ask<bool>>,
    /// A new lease with this time to live, to which our keys are moved; a renewal at the same time.
    pub moved: Option<Ask<Duration>>,
    /// The leader key.
    pub acquire: Option<Ask<()>>,
    /// Its release.
    pub release: Option<Ask<()>>,
    /// Writes by key.
    pub writes: BTreeMap<&'static str, Ask<DcsWrite>>,
    /// The repair of `config`.
    pub config: Option<Ask<()>>,
    /// A probe of the peers, by round.
    pub probe: Option<Ask<u64>>,
    /// The members' agreement to go on without the DCS, by round.
    pub failsafe: Option<Ask<u64>>,
    /// A look at PostgreSQL.
    pub look: Option<Instant>,
    /// A step of synchronous replication that is PostgreSQL's.
    pub sync: Option<(u64, Ask<SyncApply>)>,
    /// An alignment of slots.
    pub slots: Option<(u64, Ask<SlotTarget>)>,
}

impl Asked {
    /// Is a request about the leader lock under way? Two at a time could be answered in either order.
    pub fn lock_request_pending(&self, now: Instant, patience: Duration) -> bool {
        self.acquire.as_ref().is_some_and(|a| a.pending(now, patience))
            || self.release.as_ref().is_some_and(|a| a.pending(now, patience))
            || self.renew.as_ref().is_some_and(|a| a.what && a.pending(now, patience))
    }
    /// Note the answer to a write.
    pub fn write_answered(&mut self, write: &DcsWrite, at: Instant, yes: bool) {
        let ask = match write {
            DcsWrite::Config(_) => {
                return if let Some(ask) = &mut self.config {
                    ask.answered(at, yes)
                };
            }
            _ => self.writes.get_mut(write.key()),
        };
        if let Some(ask) = ask.filter(|ask| ask.what == *write) {
            ask.answered(at, yes);
        }
    }
}
