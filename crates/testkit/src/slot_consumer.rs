//! A consumer of a logical slot: it reads the rows of `ledger` from whichever server is the primary, at least once each,
//! and remembers the order. What it has read is confirmed afterwards, so nothing is lost when a connection breaks.

use crate::cluster::PATIENCE;
use crate::eventually::eventually_blocking;
use crate::writer::connect;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;
use tokio_postgres::{Client, SimpleQueryMessage};

const PATIENCE_WITH_A_QUERY: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_millis(20);

/// See the module; it ends when dropped.
pub struct Consumer {
    seen: Arc<Mutex<Vec<i64>>>,
    end: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Consumer {
    /// Begins to read this slot, of the plugin test_decoding.
    pub fn start(ports: Vec<u16>, slot: &str) -> Self {
        let (seen, end) = (Arc::default(), Arc::new(AtomicBool::new(false)));
        let (rows, over, slot) = (Arc::clone(&seen), end.clone(), slot.to_owned());
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(consume(&ports, &slot, &rows, &over));
        });
        Self { seen, end, thread: Some(thread) }
    }
    fn seen(&self) -> Vec<i64> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
    /// Waits until so many more rows were seen for the first time.
    pub fn await_rows(&self, more: usize) {
        let wanted = self.seen().len() + more;
        let what = format!("the consumer has seen {wanted} rows");
        eventually_blocking(PATIENCE, &what, || (self.seen().len() >= wanted).then_some(()));
    }
    /// Waits until this row was seen.
    pub fn await_row(&self, id: i64) {
        let what = format!("the consumer has seen row {id}");
        eventually_blocking(PATIENCE, &what, || self.seen().contains(&id).then_some(()));
    }
    /// Ends it; the rows in the order in which they were seen first, which must be that of their numbers.
    pub fn stop(mut self) -> Vec<i64> {
        self.join();
        let seen = self.seen();
        assert!(seen.is_sorted(), "rows came out of order: {seen:?}");
        seen
    }
    fn join(&mut self) {
        self.end.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        self.join();
    }
}

async fn consume(ports: &[u16], slot: &str, seen: &Mutex<Vec<i64>>, end: &AtomicBool) {
    while !end.load(Ordering::Relaxed) {
        for port in ports {
            if let Some(client) = connect(*port).await {
                while !end.load(Ordering::Relaxed) && read(&client, slot, seen).await.is_some() {
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Reads what is there, then confirms it. A standby refuses.
async fn read(client: &Client, slot: &str, seen: &Mutex<Vec<i64>>) -> Option<()> {
    let text = format!("SELECT lsn, data FROM pg_logical_slot_peek_changes('{slot}', NULL, 200)");
    let rows = ask(client, &text).await?;
    let mut end = None;
    for row in &rows {
        let data = row.get(1).unwrap_or_default();
        let id = data.strip_prefix("table public.ledger: INSERT: id[bigint]:").and_then(|id| id.parse::<i64>().ok());
        let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
        // what was seen before a change of leader may come again
        let new = id.filter(|id| !seen.contains(id));
        seen.extend(new);
        end = row.get(0).map(str::to_owned).or(end);
    }
    if let Some(end) = end {
        ask(client, &format!("SELECT pg_replication_slot_advance('{slot}', '{end}')")).await?;
    }
    Some(())
}

async fn ask(client: &Client, text: &str) -> Option<Vec<tokio_postgres::SimpleQueryRow>> {
    let answer = tokio::time::timeout(PATIENCE_WITH_A_QUERY, client.simple_query(text)).await.ok()?.ok()?;
    let row = |message| match message {
        SimpleQueryMessage::Row(row) => Some(row),
        _ => None,
    };
    Some(answer.into_iter().filter_map(row).collect())
}
