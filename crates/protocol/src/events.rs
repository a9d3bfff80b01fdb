//! What happened, in order: one recorder writes it, any number of readers follow it without ever holding that up.

use pgherd_types::NodeStatus;
use serde_json::Value;
use std::collections::VecDeque;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::SyncSender;
use std::sync::{Arc, PoisonError, RwLock};
use tokio::sync::watch;

/// An event's place: `term.seq`. The term is the newest timeline that was known, and the number grows by one with every
/// event of this node, over restarts, too. Neither ever falls.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct EventId {
    /// The timeline.
    pub term: u32,
    /// The number.
    pub seq: u64,
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.term, self.seq)
    }
}

impl std::str::FromStr for EventId {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text}: must be the id of an event, such as 3.142");
        let (term, seq) = text.trim().split_once('.').ok_or_else(wrong)?;
        Ok(Self { term: term.parse().map_err(|_| wrong())?, seq: seq.parse().map_err(|_| wrong())? })
    }
}

/// An event.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Event {
    /// Its place.
    pub id: EventId,
    /// What kind of thing happened: `pgherd.leader.elected`.
    pub kind: String,
    /// The whole of it as a CloudEvents document, on one line.
    pub text: String,
}

/// So many kinds may be named.
const KINDS_MAX: usize = 32;

/// Kinds of events: those that are one of these, or lie below it (`leader` is `pgherd.leader.lost`, too). None: all.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Kinds(Vec<String>);

impl Kinds {
    /// From words such as `leader` or `pgherd.role.changed`.
    pub fn read<'a>(words: impl IntoIterator<Item = &'a str>) -> Result<Self, String> {
        let words: Vec<&str> = words.into_iter().collect();
        let plain = |word: &str| !word.is_empty() && word.bytes().all(|b| b.is_ascii_lowercase() || b == b'.');
        if words.len() > KINDS_MAX {
            return Err(format!("must not be more than {KINDS_MAX} kinds of events"));
        }
        match words.iter().find(|word| !plain(word)) {
            Some(word) => Err(format!("{word}: must be a kind of event such as leader or pgherd.role.changed")),
            None => {
                Ok(Self(words.iter().map(|word| format!("pgherd.{}", word.trim_start_matches("pgherd."))).collect()))
            }
        }
    }
    /// Is this one of them?
    pub fn include(&self, kind: &str) -> bool {
        let below = |of: &String| kind.strip_prefix(of).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'));
        self.0.is_empty() || self.0.iter().any(below)
    }
}

/// What the recorder is told.
#[derive(Clone, Debug)]
pub enum Told {
    /// This was published; what changed since the last one happened.
    Status(Arc<NodeStatus>),
    /// This happened, and no status shows it: the kind without `pgherd.`, and what there is to say.
    Happened(&'static str, Value),
}

/// The way to the recorder. Telling it something never waits.
#[derive(Clone)]
pub struct EventSink {
    to: SyncSender<Told>,
    lost: Arc<AtomicU64>,
}

impl EventSink {
    /// To whoever receives there.
    pub fn new(to: SyncSender<Told>) -> Self {
        Self { to, lost: Arc::default() }
    }
    /// False if it was not taken because the recorder is far behind. A state is shown by the next one; what merely happened
    /// is counted.
    pub fn tell(&self, told: Told) -> bool {
        let happened = matches!(told, Told::Happened(..));
        let taken = self.to.try_send(told).is_ok();
        if happened && !taken {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
        taken
    }
    /// Counts what is lost, for the recorder, which begins anew with every look.
    pub fn lost(&self) -> Arc<AtomicU64> {
        self.lost.clone()
    }
}

/// So many events are kept.
pub const EVENTS_KEPT: usize = 4096;

/// The last events, in memory.
#[derive(Clone)]
pub struct EventFeed(Arc<Kept>);

struct Kept {
    events: RwLock<VecDeque<Arc<Event>>>,
    /// The number of the newest event; `None`: there will be no more.
    newest: watch::Sender<Option<u64>>,
}

/// Some of them.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Events {
    /// In order.
    pub events: Vec<Arc<Event>>,
    /// So many came after the one that was named and are not kept any more.
    pub missed: u64,
    /// The one that was named is of another life of the log, which begins anew.
    pub reset: bool,
}

impl Default for EventFeed {
    fn default() -> Self {
        Self(Arc::new(Kept { events: RwLock::default(), newest: watch::Sender::new(Some(0)) }))
    }
}

impl EventFeed {
    /// One more, which is newer than all.
    pub fn push(&self, event: Event) {
        let seq = event.id.seq;
        {
            let mut events = self.0.events.write().unwrap_or_else(PoisonError::into_inner);
            if events.len() == EVENTS_KEPT {
                events.pop_front();
            }
            events.push_back(Arc::new(event));
        }
        // what is closed stays closed
        self.0.newest.send_if_modified(|newest| match newest {
            Some(newest) => {
                *newest = seq;
                true
            }
            None => false,
        });
    }

    /// The oldest ones after this number, `limit` at most.
    pub fn after(&self, seq: u64, limit: usize) -> Events {
        let events = self.0.events.read().unwrap_or_else(PoisonError::into_inner);
        let (Some(first), Some(last)) = (events.front(), events.back()) else { return Events::default() };
        let reset = seq > last.id.seq;
        let from = if reset { 0 } else { seq };
        let missed = if reset { 0 } else { (first.id.seq - 1).saturating_sub(from) };
        let at = events.partition_point(|event| event.id.seq <= from);
        Events { events: events.range(at..).take(limit).cloned().collect(), missed, reset }
    }

    /// The newest ones that are wanted, in order.
    pub fn newest(&self, limit: usize, wanted: impl Fn(&Event) -> bool) -> Vec<Arc<Event>> {
        let events = self.0.events.read().unwrap_or_else(PoisonError::into_inner);
        let mut newest: Vec<_> = events.iter().rev().filter(|event| wanted(event)).take(limit).cloned().collect();
        newest.reverse();
        newest
    }

    /// The oldest that is kept, and the newest.
    pub fn ends(&self) -> Option<(EventId, EventId)> {
        let events = self.0.events.read().unwrap_or_else(PoisonError::into_inner);
        Some((events.front()?.id, events.back()?.id))
    }

    /// Shows the number of the newest event; `None` when there will be no more.
    pub fn watch(&self) -> watch::Receiver<Option<u64>> {
        self.0.newest.subscribe()
    }

    /// Whoever follows need not wait any longer.
    pub fn close(&self) {
        self.0.newest.send_replace(None);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn feed(seqs: std::ops::RangeInclusive<u64>) -> EventFeed {
        let feed = EventFeed::default();
        for seq in seqs {
            feed.push(Event { id: EventId { term: 2, seq }, kind: format!("pgherd.k{}", seq % 2), text: "{}".into() });
        }
        feed
    }

    fn seqs(events: &[Arc<Event>]) -> Vec<u64> {
        events.iter().map(|event| event.id.seq).collect()
    }

    #[test]
    fn ids_are_read_and_written() {
        assert_eq!("3.142".parse(), Ok(EventId { term: 3, seq: 142 }));
        assert_eq!(EventId { term: 3, seq: 142 }.to_string(), "3.142");
        for bad in ["", "3", "3.", ".1", "a.b", "3.1.2", "-1.2", "3.99999999999999999999999"] {
            assert!(bad.parse::<EventId>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_reader_goes_on_where_it_was() {
        let feed = feed(5..=9);
        assert_eq!(seqs(&feed.after(6, 2).events), [7, 8]);
        assert_eq!(feed.after(9, 2), Events::default());
        let late = feed.after(1, 100);
        assert_eq!(
            (seqs(&late.events), late.missed, late.reset),
            (vec![5, 6, 7, 8, 9], 3, false),
            "2, 3 and 4 are gone"
        );
        let of_another_log = feed.after(100, 1);
        assert_eq!((seqs(&of_another_log.events), of_another_log.reset), (vec![5], true));
        assert_eq!(EventFeed::default().after(7, 9), Events::default());
    }

    #[test]
    fn what_is_lost_is_counted_unless_the_next_state_shows_it() {
        let (to, told) = std::sync::mpsc::sync_channel(1);
        let sink = EventSink::new(to);
        let happened = || Told::Happened("request", Value::Null);
        assert!(sink.tell(happened()));
        assert!(!sink.tell(happened()) && !sink.tell(happened()) && !sink.tell(Told::Status(Arc::default())));
        assert_eq!(sink.lost().swap(0, Ordering::Relaxed), 2);
        told.recv().unwrap();
        assert!(sink.clone().tell(happened()) && sink.lost().load(Ordering::Relaxed) == 0);
    }

    #[test]
    fn the_newest_are_kept() {
        let feed = feed(1..=EVENTS_KEPT as u64 + 10);
        assert_eq!(feed.ends().map(|(first, last)| (first.seq, last.seq)), Some((11, EVENTS_KEPT as u64 + 10)));
        let last = EVENTS_KEPT as u64 + 10;
        assert_eq!(seqs(&feed.newest(2, |event| event.kind == "pgherd.k0")), [last - 2, last]);
        assert_eq!(*feed.watch().borrow(), Some(last));
        feed.close();
        feed.push(Event { id: EventId { term: 2, seq: last + 1 }, kind: "pgherd.x".into(), text: "{}".into() });
        assert_eq!(*feed.watch().borrow(), None, "closed for good");
    }
}
