//! What can be asked of a DCS. Object safe; futures are boxed and not `Send`, because the HTTP client behind them is
//! not: make the adapter inside the thread that uses it.

use crate::Complaint;
use pgherd_types::{Cluster, DcsSurvey, DcsWrite, Instant, LeaseGrant, LeaseId, Refused, StatusKey, SyncGuard};
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

/// A boxed future that stays on its thread.
pub type Answer<'a, T> = Pin<Box<dyn Future<Output = T> + 'a>>;

/// One linearizable look at everything under the cluster's prefix.
#[derive(Clone, PartialEq, Debug)]
pub struct Reading {
    /// What it says; garbage is replaced by the documented fallback.
    pub cluster: Cluster,
    /// Highest revision of a key under the prefix: grows only if the prefix itself changed.
    pub changed_at: i64,
    /// What was garbage.
    pub complaints: Vec<Complaint>,
}

/// Something came through a watch.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct WatchEvent {
    /// The store's revision at that moment.
    pub revision: i64,
}

/// A watch came to its end, or never began.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum WatchEnded {
    /// The revision to begin with is not kept any more; events were missed.
    Compacted {
        /// The oldest revision that is kept.
        oldest: i64,
    },
    /// The store is at an older revision than was seen before: it was restored from a backup.
    WentBack {
        /// Where it is now.
        revision: i64,
    },
    /// The server ended it and said why.
    Canceled(String),
    /// The connection broke or could not be made.
    Broken(String),
}

impl fmt::Display for WatchEnded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Compacted { oldest } => write!(f, "events before revision {oldest} were compacted away"),
            Self::WentBack { revision } => {
                write!(
                    f,
                    "etcd is back at revision {revision}, older than what was seen before: restored from a backup?"
                )
            }
            Self::Canceled(why) => write!(f, "canceled by etcd: {why}"),
            Self::Broken(why) => f.write_str(why),
        }
    }
}

/// An open watch; dropping it closes its connection.
pub trait Watch {
    /// The store's revision when the watch was made: everything after it is reported.
    fn created_at(&self) -> i64;
    /// The next event. Waits for ever: silence proves nothing.
    fn next(&mut self) -> Answer<'_, Result<WatchEvent, WatchEnded>>;
}

/// The port. Every call ends at its deadline (boot-time clock) at the latest; an outcome that could not be learned
/// is read back, and only if that fails too the answer is [`Refused::Unreachable`].
pub trait Dcs {
    /// Reads the whole prefix, linearizably. Asks each endpoint once.
    fn read(&self, deadline: Instant) -> Answer<'_, Result<Reading, Refused>>;

    /// A new lease.
    fn grant(&self, ttl: Duration, deadline: Instant) -> Answer<'_, Result<LeaseGrant, Refused>>;

    /// Keeps the lease alive; with `prove_leader` then compares LEASE(`leader`) with it. [`Refused::LeaseGone`] when
    /// the lease is lost, [`Refused::Absent`] when there is no leader key, [`Refused::Compare`] when it does not hang on the
    /// lease.
    fn renew(&self, lease: LeaseId, prove_leader: bool, deadline: Instant) -> Answer<'_, Result<LeaseGrant, Refused>>;

    /// Carries our keys from one lease over to another in one step: the member key, and the leader key if it hangs on the
    /// old lease. With `prove_leader` only if it does, or hangs on the new one already: [`Refused::Absent`] when there is no
    /// leader key, [`Refused::Compare`] when it hangs on neither. [`Refused::LeaseGone`] when the new lease is lost.
    /// [`Refused::Unreachable`]: it may yet happen, as long as the new lease lives.
    fn move_keys(
        &self,
        from: LeaseId,
        to: LeaseId,
        prove_leader: bool,
        deadline: Instant,
    ) -> Answer<'_, Result<(), Refused>>;

    /// Ends a lease, and with it whatever hangs on it.
    fn revoke(&self, lease: LeaseId, deadline: Instant) -> Answer<'_, ()>;

    /// Creates the leader key on this lease if there is none, and the `sync` key is as the race was judged by. Says nothing
    /// about how long the lease lives.
    fn acquire(&self, lease: LeaseId, sync: SyncGuard, deadline: Instant) -> Answer<'_, Result<(), Refused>>;

    /// Writes `status` (if given) and removes the leader key in one transaction, if the key hangs on this lease.
    fn release(&self, lease: LeaseId, status: Option<StatusKey>, deadline: Instant) -> Answer<'_, Result<(), Refused>>;

    /// One write with the guard its documentation names. Without a lease, writes that need one are
    /// [`Refused::LeaseGone`].
    fn write(&self, lease: Option<LeaseId>, write: DcsWrite, deadline: Instant) -> Answer<'_, Result<(), Refused>>;

    /// Removes every key of the cluster, whoever wrote it and whatever it hangs on. What is written meanwhile may stay.
    fn remove_all(&self, deadline: Instant) -> Answer<'_, Result<(), Refused>>;

    /// Watches the prefix: everything after `after` if given, else everything from now on. Ends at the deadline if
    /// the server did not confirm it by then.
    fn watch(&self, after: Option<i64>, deadline: Instant) -> Answer<'_, Result<Box<dyn Watch>, WatchEnded>>;

    /// Looks at the store itself: who belongs to it, who leads it, what is wrong with it. `leading`: this node is the
    /// cluster's leader, so the store's own leader should be on another host.
    fn survey(&self, _leading: bool, _deadline: Instant) -> Answer<'_, Result<DcsSurvey, Refused>> {
        Box::pin(std::future::ready(Ok(DcsSurvey::default())))
    }

    /// Why nothing can ever be done: the store itself refused our user or password, and has never answered anything else.
    fn login_refused(&self) -> Option<String> {
        None
    }

    /// The store's revision in the latest answer to any call.
    fn revision_seen(&self) -> i64;
}
