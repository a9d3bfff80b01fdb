//! The record of what happened: a thread that nobody waits for. It is told what the coordinator publishes, finds out what
//! changed (`changes`), numbers that, writes it down beside the data directory (`store`) and shows it to whoever follows
//! (`pgherd_protocol::events`). What is derived from states cannot be lost by a refused message: the next state shows it.

mod changes;
mod position;
mod store;
mod webhooks;

pub use webhooks::{Webhook, run as tell_webhook};

use changes::{Changes, Happening};
use pgherd_protocol::events::{Event, EventFeed, EventId, EventSink, Told};
use pgherd_types::{NodeStatus, WallTime};
use serde_json::{Value, json};
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, sync_channel};
use store::Store;

/// So much may wait to be recorded; states beyond that are passed over.
const TOLD_MAX: usize = 1024;
/// What is said of one event is not longer than this.
const DATA_BYTES_MAX: usize = 16 << 10;

/// Reads what was recorded before, in this directory, and records from now on, as this node of this cluster.
pub fn start(directory: &Path, scope: &str, name: &str) -> io::Result<(EventSink, EventFeed)> {
    let feed = EventFeed::default();
    let mut recorder = Recorder::new(Store::open(directory), feed.clone(), format!("/pgherd/{scope}/{name}"));
    recorder.happened(Happening::new("agent.started", json!({"version": pgherd_types::PRODUCT_VERSION})));
    let (to, told) = sync_channel(TOLD_MAX);
    let sink = EventSink::new(to);
    let lost = sink.lost();
    std::thread::Builder::new().name("events".to_owned()).spawn(move || recorder.run(&told, &lost))?;
    Ok((sink, feed))
}

struct Recorder {
    store: Store,
    feed: EventFeed,
    source: String,
    last: EventId,
    changes: Changes,
}

impl Recorder {
    fn new((store, before): (Store, Vec<Event>), feed: EventFeed, source: String) -> Self {
        let last = before.last().map(|event| event.id).unwrap_or_default();
        before.into_iter().for_each(|event| feed.push(event));
        Self { store, feed, source, last, changes: Changes::default() }
    }

    /// Until nobody is left to tell anything.
    fn run(mut self, told: &Receiver<Told>, lost: &AtomicU64) {
        while let Ok(told) = told.recv() {
            match lost.swap(0, Ordering::Relaxed) {
                0 => {}
                count => self.happened(Happening::new("events.lost", json!({"lost": count}))),
            }
            match told {
                Told::Status(status) => {
                    self.last.term = self.last.term.max(term(&status));
                    let happened = self.changes.seen(&status);
                    happened.into_iter().for_each(|happening| self.happened(happening));
                }
                Told::Happened(kind, data) => self.happened(Happening::new(kind, data)),
            }
        }
    }

    fn happened(&mut self, happening: Happening) {
        self.last.seq += 1;
        let event = self.event(happening, pgherd_clock::wall());
        self.store.append(&event.text);
        self.feed.push(event);
    }

    /// As a CloudEvent of version 1.0.
    fn event(&self, Happening { kind, data }: Happening, at: WallTime) -> Event {
        let kind = format!("pgherd.{kind}");
        let size = data.to_string().len();
        let data = if size > DATA_BYTES_MAX { json!({"left_out_bytes": size}) } else { data };
        let document = json!({
            "specversion": "1.0",
            "id": self.last.to_string(),
            "source": self.source,
            "type": kind,
            "time": time(at),
            "datacontenttype": "application/json",
            "data": data,
        });
        Event { id: self.last, kind, text: document.to_string() }
    }
}

/// RFC 3339.
fn time(at: WallTime) -> String {
    jiff::Timestamp::from_millisecond(at.0).unwrap_or_default().strftime("%Y-%m-%dT%H:%M:%S.%3fZ").to_string()
}

/// The newest timeline that is known.
fn term(status: &NodeStatus) -> u32 {
    let of_cluster = status.cluster.as_ref().and_then(|(cluster, _)| cluster.latest_timeline());
    of_cluster.max(status.timeline).map_or(0, |timeline| timeline.0)
}

/// An event as it was written.
fn read(line: &str) -> Option<Event> {
    let document: Value = serde_json::from_str(line).ok()?;
    let id = document["id"].as_str()?.parse().ok()?;
    Some(Event { id, kind: document["type"].as_str()?.to_owned(), text: line.to_owned() })
}

#[cfg(test)]
#[path = "events_tests.rs"]
mod tests;
