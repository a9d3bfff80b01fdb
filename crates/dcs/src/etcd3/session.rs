//! The token for etcd's authentication. Tokens lapse, and a member that was restarted has forgotten all of them, so a new
//! one is got whenever the old one is refused: at once the first time, then at longer and longer intervals until one
//! works, so that a member that refuses everything is not asked for tokens without pause.

use super::failure::Failure;
use pgherd_clock::boottime;
use pgherd_types::Instant;
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;
use tokio::sync::Notify;

/// Shortest time between two logins while tokens are refused: from the first, doubled, to the second.
const INTERVAL: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(2));

/// How long a login that somebody else has begun is waited for.
const PATIENCE: Duration = Duration::from_millis(500);

/// What goes into the header; `None` where etcd wants no authentication.
pub(crate) type Token = Option<Rc<str>>;

#[derive(Default)]
pub(crate) struct Session {
    token: RefCell<Option<Token>>,
    /// Raised with every new token.
    number: Cell<u64>,
    asked_at: Cell<Option<Instant>>,
    interval: Cell<Duration>,
    refused: RefCell<Option<String>>,
    in_flight: Cell<u32>,
    settled: Notify,
}

/// A login on its way; it ends with this value.
pub(crate) struct InFlight<'a>(&'a Session);

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.0.in_flight.set(self.0.in_flight.get() - 1);
        self.0.settled.notify_waiters();
    }
}

impl Session {
    /// The token in use with its number, or `None` before the first login.
    pub fn token(&self) -> Option<(Token, u64)> {
        self.token.borrow().clone().map(|token| (token, self.number.get()))
    }
    /// The turn to replace the token with that number (0: there was none). `Ok(None)`: somebody else has a new one
    /// meanwhile. A login that is on its way is waited for, but not for long: its member may be silent.
    pub async fn turn(&self, instead_of: u64) -> Result<Option<InFlight<'_>>, Failure> {
        if self.in_flight.get() > 0 {
            let _ = tokio::time::timeout(PATIENCE, self.settled.notified()).await;
        }
        if !self.may_log_in(instead_of)? {
            return Ok(None);
        }
        self.in_flight.set(self.in_flight.get() + 1);
        Ok(Some(InFlight(self)))
    }
    fn may_log_in(&self, instead_of: u64) -> Result<bool, Failure> {
        if self.number.get() != instead_of {
            return Ok(false);
        }
        let now = boottime();
        if let Some(at) = self.asked_at.get().filter(|at| now.since(*at) < self.interval.get()) {
            let left = self.interval.get().saturating_sub(now.since(at));
            let why = self.refused.borrow().clone();
            let why = why.unwrap_or_else(|| "etcd refused a token, and another one was asked for just now".to_owned());
            return Err(Failure::unsure(format!("{why} (the next login in {} ms)", left.as_millis())));
        }
        self.asked_at.set(Some(now));
        self.interval.set(match self.interval.get() {
            Duration::ZERO => INTERVAL.0,
            interval => (interval * 2).min(INTERVAL.1),
        });
        Ok(true)
    }
    pub fn logged_in(&self, token: Token) {
        self.refused.replace(None);
        self.token.replace(Some(token));
        self.number.set(self.number.get() + 1);
    }
    /// etcd itself says that user or password is wrong. The old token, if any, stays in use.
    pub fn refused(&self, why: String) {
        self.refused.replace(Some(why));
    }
    /// What it said, if that is its last word.
    pub fn why_refused(&self) -> Option<String> {
        self.refused.borrow().clone()
    }
    /// A request was answered.
    pub fn works(&self) {
        self.interval.set(Duration::ZERO);
    }
    /// The number of the last token; 0 before the first.
    pub fn number(&self) -> u64 {
        self.number.get()
    }
    /// The token is no use any more.
    pub fn lost(&self) {
        self.token.replace(None);
    }
    /// Another user, or another password: begin anew.
    pub fn forget(&self) {
        self.lost();
        self.refused.replace(None);
        self.asked_at.set(None);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_that_is_refused_is_replaced_once_and_then_seldom() {
        let session = Session::default();
        assert!(session.may_log_in(0).unwrap(), "the first login needs no reason");
        session.logged_in(Some("t1".into()));
        session.works();
        let (_, number) = session.token().unwrap();
        assert!(session.may_log_in(number).unwrap(), "it worked, so the loss of a token is an accident");
        session.logged_in(Some("t2".into()));
        assert!(!session.may_log_in(number).unwrap(), "somebody who still had the old one takes the new one");
        let (_, number) = session.token().unwrap();
        assert!(session.may_log_in(number).is_err(), "refused although it is new: not at once");
    }

    #[test]
    fn the_last_word_on_a_login_is_kept_until_one_succeeds() {
        let session = Session::default();
        session.refused("wrong password".into());
        assert_eq!(session.why_refused().as_deref(), Some("wrong password"));
        session.logged_in(None);
        assert_eq!(session.why_refused(), None);
        session.forget();
        assert!(session.token().is_none());
    }
}
