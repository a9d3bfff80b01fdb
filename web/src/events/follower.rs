//! One who follows the events, at its own pace.

use super::query::Query;
use pgherd_protocol::events::{Event, EventFeed, Events};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::watch;

/// So many may follow at a time; each keeps a connection.
const FOLLOWERS_MAX: usize = 1200;
/// A connection on which nothing happens says so, so that both ends notice when the other is gone.
const IDLE: Duration = Duration::from_secs(15);
/// So many events are taken at a time.
const BATCH: usize = 64;

static FOLLOWERS: AtomicUsize = AtomicUsize::new(0);

/// See the module.
pub struct Follower {
    feed: EventFeed,
    newest: watch::Receiver<Option<u64>>,
    query: Query,
    /// The number of the last event that was seen, wanted or not.
    seen: u64,
}

/// What comes next.
#[derive(Clone, PartialEq, Debug)]
pub enum Next {
    /// These.
    Events(Vec<Arc<Event>>),
    /// So many are not kept any more; with `reset` the log began anew, and how many is not known.
    Missed {
        /// How many.
        count: u64,
        /// The log began anew.
        reset: bool,
    },
    /// Nothing for a while.
    Idle,
    /// No more.
    End,
}

impl Follower {
    /// From where the query says, else from the next event on. `None`: too many follow.
    pub fn begin(feed: EventFeed, query: Query) -> Option<Self> {
        if FOLLOWERS.fetch_add(1, Ordering::Relaxed) >= FOLLOWERS_MAX {
            FOLLOWERS.fetch_sub(1, Ordering::Relaxed);
            return None;
        }
        let newest = feed.watch();
        let now = newest.borrow().unwrap_or_default();
        let seen = query.since.map_or(now, |since| since.seq);
        Some(Self { feed, newest, query, seen })
    }

    /// Waits for it.
    pub async fn next(&mut self) -> Next {
        loop {
            let ended = self.newest.borrow_and_update().is_none();
            let Events { events, missed, reset } = self.feed.after(self.seen, BATCH);
            if missed > 0 || reset {
                self.seen = events.first().map_or(0, |first| first.id.seq - 1);
                return Next::Missed { count: missed, reset };
            }
            if let Some(last) = events.last() {
                self.seen = last.id.seq;
                let wanted: Vec<_> = events.into_iter().filter(|event| self.query.wants(event)).collect();
                if wanted.is_empty() {
                    continue;
                }
                return Next::Events(wanted);
            }
            if ended {
                return Next::End;
            }
            match tokio::time::timeout(IDLE, self.newest.changed()).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => return Next::End,
                Err(_) => return Next::Idle,
            }
        }
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        FOLLOWERS.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What was missed, for the client: an event of its own, which is not recorded.
pub fn missed_text(count: u64, reset: bool) -> String {
    format!(
        r#"{{"specversion": "1.0", "id": "missed", "source": "/pgherd", "type": "pgherd.events.missed", "data": {{"missed": {count}, "reset": {reset}}}}}"#
    )
}
