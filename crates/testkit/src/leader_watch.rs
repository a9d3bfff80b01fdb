//! Watches the leader key while a test does something else, so that what happened to it can be put in order with other
//! events: a reading begun at one time and ended at another saw a value that the key had between the two.

use crate::keys::{Key, Keys};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

const PAUSE: Duration = Duration::from_millis(10);

/// One reading.
#[derive(Clone, Debug)]
pub struct Reading {
    /// When the question was sent.
    pub begun: Instant,
    /// When the answer was there.
    pub ended: Instant,
    /// The key; `None` if it was absent.
    pub key: Option<Key>,
}

impl Reading {
    /// Does the key name this member?
    pub fn names(&self, member: &str) -> bool {
        self.key.as_ref().is_some_and(|key| key.value == member.as_bytes())
    }
}

/// Reads the key `leader` over and over until dropped.
pub struct LeaderWatch {
    readings: Arc<Mutex<Vec<Reading>>>,
    end: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl LeaderWatch {
    /// Begins, with one reading made before it returns.
    pub fn start(keys: Keys) -> Self {
        let readings = Arc::new(Mutex::new(Vec::new()));
        let end = Arc::new(AtomicBool::new(false));
        look(&keys, &readings);
        let (shared, over) = (readings.clone(), end.clone());
        let thread = std::thread::spawn(move || {
            while !over.load(Ordering::Relaxed) {
                look(&keys, &shared);
                std::thread::sleep(PAUSE);
            }
        });
        Self { readings, end, thread: Some(thread) }
    }
    /// All readings so far; those without an answer are left out.
    pub fn readings(&self) -> Vec<Reading> {
        self.readings.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
    /// The last reading that saw this member as the leader.
    pub fn last_naming(&self, member: &str) -> Option<Reading> {
        self.readings().into_iter().rev().find(|reading| reading.names(member))
    }
    /// The first reading at or after `from` that saw another state of the key than this member's leadership.
    pub fn first_not_naming(&self, member: &str, from: Instant) -> Option<Reading> {
        self.readings().into_iter().find(|reading| reading.begun >= from && !reading.names(member))
    }
}

impl Drop for LeaderWatch {
    fn drop(&mut self) {
        self.end.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn look(keys: &Keys, readings: &Mutex<Vec<Reading>>) {
    let begun = Instant::now();
    if let Some(key) = keys.try_get("leader") {
        let reading = Reading { begun, ended: Instant::now(), key };
        readings.lock().unwrap_or_else(PoisonError::into_inner).push(reading);
    }
}
