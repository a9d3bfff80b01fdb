//! Who runs next, as data: one script at a time, and a newer one makes an older one pointless. The exception is a change
//! of role, which moves addresses and names: nothing but another change of role ends it early, the others wait for it.

use super::transitions::Event;
use pgherd_types::CallbackAction;
use std::collections::VecDeque;

/// What runs and what waits. At most one of each kind waits.
#[derive(Debug, Default)]
pub struct Lane {
    running: Option<CallbackAction>,
    waiting: VecDeque<Event>,
}

impl Lane {
    /// One more. True if the script that is running must be ended for it.
    pub fn add(&mut self, event: Event) -> bool {
        let newest = event.action;
        let outdated = |waiting: &Event| newest == CallbackAction::OnRoleChange || waiting.action == newest;
        for gone in self.waiting.iter().filter(|waiting| outdated(waiting)) {
            log::info!("callback {} {} is outdated and not called", gone.action.as_str(), gone.role.as_str());
        }
        self.waiting.retain(|waiting| !outdated(waiting));
        self.waiting.push_back(event);
        self.running
            .is_some_and(|running| running != CallbackAction::OnRoleChange || newest == CallbackAction::OnRoleChange)
    }

    /// The one to start now, if none runs; it counts as running from here on.
    pub fn start_next(&mut self) -> Option<Event> {
        if self.running.is_some() {
            return None;
        }
        let next = self.waiting.pop_front()?;
        self.running = Some(next.action);
        Some(next)
    }

    /// The running one has ended.
    pub fn ended(&mut self) {
        self.running = None;
    }

    /// Nothing but the running one counts any more.
    pub fn forget_waiting(&mut self) {
        self.waiting.clear();
    }

    /// Nothing runs and nothing waits.
    pub fn is_idle(&self) -> bool {
        self.running.is_none() && self.waiting.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use CallbackAction::{OnRestart, OnRoleChange, OnStart, OnStop};
    use pgherd_types::Role;

    fn event(action: CallbackAction, role: Role) -> Event {
        Event { action, role, previous: None, timeline: None }
    }

    fn running(action: CallbackAction) -> Lane {
        let mut lane = Lane::default();
        assert!(!lane.add(event(action, Role::Replica)), "nothing to end");
        assert_eq!(lane.start_next().map(|e| e.action), Some(action));
        lane
    }

    #[test]
    fn a_newer_one_ends_the_running_one_and_runs_only_when_that_is_gone() {
        let mut lane = running(OnStart);
        assert!(lane.add(event(OnStop, Role::Replica)));
        assert_eq!(lane.start_next(), None);
        lane.ended();
        assert_eq!(lane.start_next().map(|e| e.action), Some(OnStop));
        lane.ended();
        assert!(lane.is_idle());
    }

    #[test]
    fn a_change_of_role_is_ended_by_another_one_only_and_the_others_wait() {
        let mut lane = running(OnRoleChange);
        assert!(!lane.add(event(OnStop, Role::Primary)));
        assert!(!lane.add(event(OnStart, Role::Primary)));
        assert!(!lane.add(event(OnStop, Role::Replica)), "the older one of its kind is gone");
        assert!(!lane.is_idle());
        lane.ended();
        let order = std::iter::from_fn(|| {
            lane.ended();
            lane.start_next().map(|e| (e.action, e.role))
        });
        assert_eq!(order.collect::<Vec<_>>(), [(OnStart, Role::Primary), (OnStop, Role::Replica)]);
    }

    #[test]
    fn another_change_of_role_comes_before_all_that_waits() {
        let mut lane = running(OnRoleChange);
        assert!(!lane.add(event(OnRestart, Role::Primary)));
        assert!(lane.add(event(OnRoleChange, Role::Replica)));
        lane.ended();
        assert_eq!(lane.start_next().map(|e| e.action), Some(OnRoleChange));
        lane.ended();
        assert!(lane.is_idle(), "the restart is outdated");
    }
}
