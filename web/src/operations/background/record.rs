//! One operation: who asked, since when, what came of it, and what happened meanwhile.

use super::super::Operation;
use crate::answer::Answer;
use pgherd_protocol::events::{Event, EventFeed, Kinds};
use pgherd_types::{NodeStatus, Now, WallTime, millis};
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// What of all that happens belongs to operations.
const KINDS: &[&str] = &["leader", "role", "race", "switchover", "operation", "postgresql", "fence"];
/// So many of it are shown.
const PHASES_MAX: usize = 200;

static LAST: AtomicU64 = AtomicU64::new(0);

/// See the module.
pub struct Record {
    id: String,
    operation: Operation,
    whom: String,
    begun: Now,
    /// The newest event when it began.
    since: u64,
    ended: Option<Ended>,
}

struct Ended {
    at: Now,
    answer: Answer,
    /// The newest event then.
    until: u64,
}

impl Record {
    /// One that begins now.
    pub fn new(operation: Operation, whom: &str, since: u64) -> Self {
        let begun = pgherd_clock::now();
        let id = format!("{}-{}", begun.wall.0, LAST.fetch_add(1, Ordering::Relaxed) + 1);
        Self { id, operation, whom: whom.to_owned(), begun, since, ended: None }
    }
    /// Its id.
    pub fn id(&self) -> &str {
        &self.id
    }
    /// Does it go on?
    pub fn is_running(&self) -> bool {
        self.ended.is_none()
    }
    /// It came to this end.
    pub fn end(&mut self, answer: Answer, until: u64) {
        self.ended = Some(Ended { at: pgherd_clock::now(), answer, until });
    }

    /// How it ended, for the record of events.
    pub fn ending(&self) -> Value {
        let brief = self.brief();
        let text: String = brief["text"].as_str().unwrap_or_default().chars().take(500).collect();
        json!({
            "id": self.id,
            "operation": brief["operation"],
            "state": brief["state"],
            "status": brief["status"],
            "text": text,
            "took_ms": brief["took_ms"],
        })
    }

    /// What it is and what came of it.
    pub fn brief(&self) -> Value {
        let state = match &self.ended {
            None => "running",
            Some(ended) if ended.answer.code.is_success() => "done",
            Some(_) => "failed",
        };
        let until = self.ended.as_ref().map_or_else(pgherd_clock::boottime, |ended| ended.at.mono);
        json!({
            "id": self.id,
            "operation": self.operation.as_str(),
            "from": self.whom,
            "state": state,
            "begun": time(self.begun.wall),
            "ended": self.ended.as_ref().map(|ended| time(ended.at.wall)),
            "took_ms": millis(until.since(self.begun.mono)),
            "status": self.ended.as_ref().map(|ended| ended.answer.code.as_u16()),
            "text": self.ended.as_ref().and_then(|ended| ended.answer.body.clone()),
        })
    }

    /// The same with what happened meanwhile, and how far a copy has come.
    pub fn document(&self, status: &NodeStatus, feed: &EventFeed) -> Value {
        let mut document = self.brief();
        let until = self.ended.as_ref().map_or(u64::MAX, |ended| ended.until);
        let kinds = Kinds::read(KINDS.iter().copied()).unwrap_or_default();
        let happened = feed.after(self.since, usize::MAX).events;
        let phases = happened.iter().filter(|event| event.id.seq <= until && kinds.include(&event.kind));
        document["phases"] = phases.take(PHASES_MAX).filter_map(|event| self.phase(event)).collect();
        let begun = happened
            .iter()
            .rev()
            .find(|event| event.kind == "pgherd.operation.started")
            .and_then(|event| time_of(event));
        let progress = self.ended.is_none().then(|| progress(status, begun)).flatten();
        document["progress"] = progress.unwrap_or(Value::Null);
        document
    }

    fn phase(&self, event: &Arc<Event>) -> Option<Value> {
        let document: Value = serde_json::from_str(&event.text).ok()?;
        let after_ms = time_of(event)?.saturating_sub(self.begun.wall.0).max(0);
        Some(json!({"id": document["id"], "type": event.kind, "after_ms": after_ms, "data": document["data"]}))
    }
}

/// Milliseconds since 1970.
fn time_of(event: &Event) -> Option<i64> {
    let document: Value = serde_json::from_str(&event.text).ok()?;
    let at: jiff::Timestamp = document["time"].as_str()?.parse().ok()?;
    Some(at.as_millisecond())
}

/// What has arrived of a copy, and how long the rest takes if it goes on like that.
fn progress(status: &NodeStatus, begun: Option<i64>) -> Option<Value> {
    let progress = status.postgres.as_ref()?.progress?;
    let (done, total) = (progress.done_bytes, progress.total_bytes);
    let took_ms = begun.map(|begun| pgherd_clock::wall().0.saturating_sub(begun).max(0).unsigned_abs());
    let left = total.map(|total| total.saturating_sub(done));
    let eta_ms = took_ms
        .zip(left)
        .and_then(|(took_ms, left)| u128::from(took_ms).checked_mul(left.into())?.checked_div(done.into()));
    let eta_s = eta_ms.and_then(|ms| u64::try_from(ms / 1000).ok());
    Some(json!({"operation": status.operation, "done_bytes": done, "total_bytes": total, "eta_s": eta_s}))
}

fn time(at: WallTime) -> String {
    jiff::Timestamp::from_millisecond(at.0).unwrap_or_default().strftime("%Y-%m-%dT%H:%M:%S.%3fZ").to_string()
}
