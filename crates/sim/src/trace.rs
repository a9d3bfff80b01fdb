//! What happened, for people: printed while a seed is replayed, kept for a story's transcript, and counted.

use std::collections::BTreeMap;

/// Counters and, if wanted, lines.
#[derive(Debug, Default)]
pub struct Trace {
    /// Print every line at once.
    pub loud: bool,
    /// Keep the lines that a story shows.
    pub keep: bool,
    /// The kept lines.
    pub lines: Vec<String>,
    /// How often each thing happened.
    pub counts: BTreeMap<String, u64>,
}

impl Trace {
    /// Count.
    pub fn count(&mut self, what: &str) {
        match self.counts.get_mut(what) {
            Some(n) => *n += 1,
            None => drop(self.counts.insert(what.to_owned(), 1)),
        }
    }
    /// A line of detail.
    pub fn detail(&self, at: u64, text: impl FnOnce() -> String) {
        if self.loud {
            println!("{:>9.3}  {}", at as f64 / 1000.0, text());
        }
    }
    /// A line that belongs to a story.
    pub fn tell(&mut self, at: u64, text: impl FnOnce() -> String) {
        if self.loud || self.keep {
            let text = text();
            if self.loud {
                println!("{:>9.3}* {text}", at as f64 / 1000.0);
            }
            if self.keep {
                self.lines.push(format!("{:>5} s  {text}", at / 1000));
            }
        }
    }
}
