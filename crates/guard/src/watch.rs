//! What the guard does, as a function of the order in force, the time and who is connected.

use pgherd_types::{FenceDue, FenceOrder, Instant};
use std::time::Duration;

/// How long a guard stays that guards nothing and that no agent is connected to.
const LONELY: Duration = Duration::from_secs(10);
/// Between two attempts to kill.
const KILL_AGAIN: Duration = Duration::from_millis(50);
/// Between two looks whether something came to life after the kill.
const LOOK_AGAIN: Duration = Duration::from_millis(250);

/// The next thing to do.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) enum Step {
    /// Nothing until then, or until something is said.
    Wait(Option<Instant>),
    /// Stop PostgreSQL immediately.
    Stop,
    /// Kill whatever is alive, and report what was found with `killed`.
    Kill,
    /// The guard is not needed any more.
    End,
}

/// What the guard remembers.
#[derive(Debug, Default)]
pub(crate) struct Watch {
    order: FenceOrder,
    /// The stop that this order demands was carried out.
    stopped: bool,
    look_again_at: Instant,
    /// Since then nothing was found to kill.
    dead_since: Option<Instant>,
    /// Since then no agent is connected.
    lonely_since: Option<Instant>,
}

impl Watch {
    pub(crate) fn take(&mut self, order: FenceOrder) {
        self.order = order;
    }

    pub(crate) fn order(&self) -> FenceOrder {
        self.order
    }

    pub(crate) fn step(&mut self, now: Instant, connected: bool) -> Step {
        let lonely_since = if connected { None } else { Some(self.lonely_since.unwrap_or(now)) };
        self.lonely_since = lonely_since;
        let useless_at = lonely_since.map(|since| since + LONELY);
        match self.order.due(now) {
            FenceDue::Nothing { until } => {
                (self.stopped, self.dead_since) = (false, None);
                match (until, useless_at) {
                    (Some(until), _) => Step::Wait(Some(until)),
                    (None, Some(at)) if now >= at => Step::End,
                    (None, at) => Step::Wait(at),
                }
            }
            FenceDue::Stop { .. } if !self.stopped => {
                self.stopped = true;
                Step::Stop
            }
            FenceDue::Stop { kill_at } => Step::Wait(Some(kill_at)),
            FenceDue::Kill if useless_at.is_some_and(|at| now >= at) && self.dead_for(now) >= LONELY => Step::End,
            FenceDue::Kill if now < self.look_again_at => Step::Wait(Some(self.look_again_at)),
            FenceDue::Kill => Step::Kill,
        }
    }

    /// A kill was carried out; was there anything?
    pub(crate) fn killed(&mut self, now: Instant, anything: bool) {
        self.dead_since = if anything { None } else { Some(self.dead_since.unwrap_or(now)) };
        self.look_again_at = now + if anything { KILL_AGAIN } else { LOOK_AGAIN };
    }

    fn dead_for(&self, now: Instant) -> Duration {
        self.dead_since.map_or(Duration::ZERO, |since| now.since(since))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pgherd_types::LeaseId;

    fn at(ms: u64) -> Instant {
        Instant::from_millis(ms)
    }

    fn armed(stop_at: u64, kill_at: u64) -> FenceOrder {
        FenceOrder::Armed { lease: LeaseId(1), stop_at: at(stop_at), kill_at: at(kill_at) }
    }

    #[test]
    fn nothing_happens_before_the_deadline_then_one_stop_then_kills_until_nothing_is_left() {
        let mut watch = Watch::default();
        watch.take(armed(100, 200));
        assert_eq!(watch.step(at(99), false), Step::Wait(Some(at(100))));
        assert_eq!(watch.step(at(100), false), Step::Stop);
        assert_eq!(watch.step(at(150), false), Step::Wait(Some(at(200))));
        assert_eq!(watch.step(at(200), false), Step::Kill);
        watch.killed(at(210), true);
        assert_eq!(watch.step(at(211), false), Step::Wait(Some(at(260))));
        assert_eq!(watch.step(at(260), false), Step::Kill);
        watch.killed(at(270), false);
        assert_eq!(watch.step(at(271), false), Step::Wait(Some(at(520))));
        assert_eq!(watch.step(at(520), false), Step::Kill, "it goes on looking");
    }

    #[test]
    fn a_later_deadline_ends_the_fencing_and_is_fenced_anew() {
        let mut watch = Watch::default();
        watch.take(armed(100, 200));
        assert_eq!(watch.step(at(100), true), Step::Stop);
        watch.take(armed(500, 600));
        assert_eq!(watch.step(at(150), true), Step::Wait(Some(at(500))));
        assert_eq!(watch.step(at(500), true), Step::Stop);
        watch.take(FenceOrder::Disarmed);
        assert_eq!(watch.step(at(700), true), Step::Wait(None));
    }

    #[test]
    fn it_ends_by_itself_only_when_it_guards_nothing_and_nobody_is_there() {
        let mut watch = Watch::default();
        assert_eq!(watch.step(at(0), true), Step::Wait(None));
        assert_eq!(watch.step(at(1_000), false), Step::Wait(Some(at(11_000))));
        assert_eq!(watch.step(at(11_000), true), Step::Wait(None), "an agent came");
        assert_eq!(watch.step(at(12_000), false), Step::Wait(Some(at(22_000))));
        assert_eq!(watch.step(at(22_000), false), Step::End);
    }

    #[test]
    fn a_guard_that_has_fenced_stays_until_nothing_has_been_alive_for_a_while() {
        let mut watch = Watch::default();
        watch.take(armed(100, 200));
        assert_eq!(watch.step(at(50_000), false), Step::Kill, "however late it wakes up");
        watch.killed(at(50_000), false);
        assert_eq!(watch.step(at(60_250), true), Step::Kill, "not while the agent may thaw");
        watch.killed(at(60_250), false);
        assert_eq!(watch.step(at(61_000), false), Step::Kill);
        watch.killed(at(61_000), false);
        assert_eq!(watch.step(at(71_000), false), Step::End);
    }
}
