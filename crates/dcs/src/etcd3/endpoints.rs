//! Which endpoints there are, and in which order to ask them: the one that answered last, then those that have not
//! failed, then those that failed a moment ago. Two endpoints behind which the same member answered count as one: the
//! second is asked last.

use super::endpoint::Endpoint;
use pgherd_types::Instant;
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::Duration;

/// How long an endpoint that failed is asked after all others.
const AVOIDED_FOR: Duration = Duration::from_secs(10);
/// More are not looked at: no cluster of etcd has so many members.
pub(super) const ENDPOINTS_MAX: usize = 32;

#[derive(Default)]
pub(crate) struct Endpoints(RefCell<State>);

#[derive(Default)]
struct State {
    configured: Vec<Rc<Endpoint>>,
    discovered: Vec<Rc<Endpoint>>,
    current: Option<Rc<Endpoint>>,
    failed_at: BTreeMap<Rc<Endpoint>, Instant>,
    member: BTreeMap<Rc<Endpoint>, u64>,
}

impl Endpoints {
    /// What the settings name; forgets what was discovered.
    pub fn configure(&self, endpoints: &[Endpoint]) {
        let configured = endpoints.iter().take(ENDPOINTS_MAX).cloned().map(Rc::new).collect();
        *self.0.borrow_mut() = State { configured, ..State::default() };
    }
    /// What DNS names instead of the settings. True if that is something new.
    pub fn named(&self, endpoints: &[Endpoint]) -> bool {
        let mut state = self.0.borrow_mut();
        let named: Vec<_> = endpoints.iter().take(ENDPOINTS_MAX).cloned().map(Rc::new).collect();
        let changed = named != state.configured;
        state.discovered.retain(|endpoint| !named.contains(endpoint));
        state.configured = named;
        state.forget_the_unknown();
        changed
    }
    /// What etcd's members advertise. True if that is something new.
    pub fn discovered(&self, endpoints: BTreeSet<Endpoint>) -> bool {
        let mut state = self.0.borrow_mut();
        let new = endpoints.into_iter().filter(|e| !state.configured.iter().any(|c| **c == *e));
        let new: Vec<_> = new.take(ENDPOINTS_MAX).map(Rc::new).collect();
        let changed = new != state.discovered;
        state.discovered = new;
        state.forget_the_unknown();
        changed
    }
    /// That member answered there: it is asked first from now on.
    pub fn answered(&self, endpoint: &Rc<Endpoint>, member: u64) {
        let mut state = self.0.borrow_mut();
        state.failed_at.remove(endpoint);
        state.current = Some(endpoint.clone());
        if member != 0 {
            state.member.insert(endpoint.clone(), member);
        }
    }
    /// Nothing usable came from there.
    pub fn failed(&self, endpoint: &Rc<Endpoint>, now: Instant) {
        self.0.borrow_mut().failed_at.insert(endpoint.clone(), now);
    }
    pub fn is_empty(&self) -> bool {
        self.0.borrow().all().next().is_none()
    }
    /// For messages.
    pub fn names(&self) -> String {
        self.0.borrow().all().map(|e| e.to_string()).collect::<Vec<_>>().join(", ")
    }
    /// All of them, in the order in which to ask.
    pub fn order(&self, now: Instant) -> Vec<Rc<Endpoint>> {
        let state = self.0.borrow();
        let all: Vec<_> = state.all().cloned().collect();
        let first = state.current.as_ref().and_then(|current| all.iter().position(|e| e == current)).unwrap_or(0);
        let mut order: Vec<_> = all[first..].iter().chain(&all[..first]).cloned().collect();
        order.sort_by_key(|endpoint| state.avoided_since(endpoint, now)); // stable
        let mut members = BTreeSet::new();
        let (firsts, seconds): (Vec<_>, Vec<_>) =
            order.into_iter().partition(|endpoint| state.member.get(endpoint).is_none_or(|m| members.insert(*m)));
        [firsts, seconds].concat()
    }
}

impl State {
    fn all(&self) -> impl Iterator<Item = &Rc<Endpoint>> {
        self.configured.iter().chain(&self.discovered)
    }
    fn forget_the_unknown(&mut self) {
        let known: BTreeSet<_> = self.all().cloned().collect();
        self.failed_at.retain(|endpoint, _| known.contains(endpoint));
        self.member.retain(|endpoint, _| known.contains(endpoint));
    }
    /// `None`, which comes first, if it is not; then the one that failed longest ago.
    fn avoided_since(&self, endpoint: &Rc<Endpoint>, now: Instant) -> Option<Instant> {
        self.failed_at.get(endpoint).copied().filter(|at| now.since(*at) < AVOIDED_FOR)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Instant = Instant::from_millis(100_000);

    fn hosts(endpoints: &Endpoints, now: Instant) -> String {
        endpoints.order(now).iter().map(|e| e.host().to_owned()).collect::<Vec<_>>().join(" ")
    }

    fn three() -> (Endpoints, Vec<Rc<Endpoint>>) {
        let endpoints = Endpoints::default();
        endpoints.configure(&["a", "b", "c"].map(|host| host.parse().unwrap()));
        let all = endpoints.order(NOW);
        (endpoints, all)
    }

    #[test]
    fn who_answered_last_is_first_and_who_failed_is_last_for_a_while() {
        let (endpoints, all) = three();
        assert_eq!(hosts(&endpoints, NOW), "a b c");
        endpoints.answered(&all[1], 0);
        assert_eq!(hosts(&endpoints, NOW), "b c a");
        endpoints.failed(&all[1], NOW);
        assert_eq!(hosts(&endpoints, NOW), "c a b");
        endpoints.failed(&all[2], NOW + Duration::from_secs(1));
        assert_eq!(
            hosts(&endpoints, NOW + Duration::from_secs(1)),
            "a b c",
            "of the failed ones the older failure first"
        );
        assert_eq!(hosts(&endpoints, NOW + AVOIDED_FOR), "b a c", "it is tried again");
        endpoints.answered(&all[2], 0);
        assert_eq!(hosts(&endpoints, NOW), "c a b");
    }

    #[test]
    fn what_is_discovered_comes_after_what_is_configured_and_no_member_twice() {
        let (endpoints, all) = three();
        let set = |hosts: &[&str]| hosts.iter().map(|host| host.parse().unwrap()).collect::<BTreeSet<_>>();
        assert!(endpoints.discovered(set(&["a", "d", "e"])));
        assert!(!endpoints.discovered(set(&["d", "e"])));
        assert_eq!(hosts(&endpoints, NOW), "a b c d e");
        let d = endpoints.order(NOW)[3].clone();
        endpoints.answered(&all[1], 7);
        endpoints.answered(&d, 7);
        assert_eq!(hosts(&endpoints, NOW), "d e a c b", "b is the same member as d");
        assert!(endpoints.discovered(BTreeSet::new()));
        assert_eq!(hosts(&endpoints, NOW), "a b c");
    }

    #[test]
    fn what_dns_names_takes_the_place_of_what_is_configured() {
        let (endpoints, _) = three();
        let list = |hosts: &[&str]| hosts.iter().map(|host| host.parse().unwrap()).collect::<Vec<_>>();
        endpoints.discovered(list(&["d", "e"]).into_iter().collect());
        assert!(endpoints.named(&list(&["e", "c"])));
        assert!(!endpoints.named(&list(&["e", "c"])));
        assert_eq!(hosts(&endpoints, NOW), "e c d", "what was discovered stays");
    }
}
