//! Events on disk: one JSON document a line, in two files of a limited size; when the newer one is full it becomes the
//! older one. Nothing depends on them but the answer to "what happened?": what cannot be written is lost with the agent,
//! and that is said once.

use super::read;
use pgherd_protocol::events::{EVENTS_KEPT, Event};
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// A file is full beyond this.
const FILE_BYTES_MAX: u64 = 2 << 20;

/// See the module.
pub struct Store {
    newer: PathBuf,
    older: PathBuf,
    file: Option<File>,
    bytes: u64,
    bytes_max: u64,
    complained: bool,
}

impl Store {
    /// In this directory, with the events that are there already, in order. What cannot be read is passed over: the end of
    /// the last line may be missing, because the machine died.
    pub fn open(directory: &Path) -> (Self, Vec<Event>) {
        let (newer, older) = (directory.join("events.jsonl"), directory.join("events.old.jsonl"));
        let mut store = Self { newer, older, file: None, bytes: 0, bytes_max: FILE_BYTES_MAX, complained: false };
        let mut events: Vec<Event> = Vec::new();
        for path in [&store.older, &store.newer] {
            let text = text(path).unwrap_or_else(|e| {
                log::warn!("events: {} cannot be read, what it says is lost: {e}", path.display());
                String::new()
            });
            let after = |last: Option<&Event>, event: &Event| last.is_none_or(|last| last.id.seq < event.id.seq);
            for event in text.lines().filter_map(read) {
                if after(events.last(), &event) {
                    events.push(event);
                }
            }
        }
        events.drain(..events.len().saturating_sub(EVENTS_KEPT));
        if let Err(e) = store.begin() {
            store.complain(&e);
        }
        (store, events)
    }

    /// Goes on with the newer file. A line that lacks its end gets it.
    fn begin(&mut self) -> io::Result<()> {
        let mut file = OpenOptions::new().create(true).append(true).read(true).mode(0o600).open(&self.newer)?;
        self.bytes = file.metadata()?.len();
        if self.bytes > 0 && !text(&self.newer).is_ok_and(|text| text.ends_with('\n')) {
            file.write_all(b"\n")?;
            self.bytes += 1;
        }
        self.file = Some(file);
        Ok(())
    }

    /// One more line.
    pub fn append(&mut self, line: &str) {
        if let Err(e) = self.try_append(line) {
            self.file = None; // the next one begins anew
            self.complain(&e);
        }
    }

    fn try_append(&mut self, line: &str) -> io::Result<()> {
        if self.bytes > self.bytes_max {
            self.file = None;
            fs::rename(&self.newer, &self.older)?;
        }
        if self.file.is_none() {
            self.begin()?;
        }
        let Some(file) = &mut self.file else { return Ok(()) };
        file.write_all(format!("{line}\n").as_bytes())?;
        self.bytes += line.len() as u64 + 1;
        self.complained = false;
        Ok(())
    }

    fn complain(&mut self, error: &io::Error) {
        if !std::mem::replace(&mut self.complained, true) {
            let path = self.newer.display();
            log::warn!("events: {path} cannot be written, a restart of the agent will forget what happens: {error}");
        }
    }
}

/// Empty if there is none; what is no text is replaced. No more is read than there should be.
fn text(path: &Path) -> io::Result<String> {
    let file = match File::open(path) {
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(String::new()),
        opened => opened?,
    };
    let mut bytes = Vec::new();
    file.take(2 * FILE_BYTES_MAX).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use pgherd_testkit::postgres::TestDir;

    fn line(seq: u64) -> String {
        format!(r#"{{"id":"1.{seq}","type":"pgherd.x","data":{{}}}}"#)
    }

    fn found(directory: &Path) -> Vec<u64> {
        Store::open(directory).1.iter().map(|event| event.id.seq).collect()
    }

    #[test]
    fn what_was_written_is_found_again_whatever_stands_between() {
        let directory = TestDir::new();
        let (mut store, before) = Store::open(directory.path());
        assert_eq!(before, []);
        (1..=3).for_each(|seq| store.append(&line(seq)));
        assert_eq!(found(directory.path()), [1, 2, 3]);
        let path = directory.path().join("events.jsonl");
        let mut bytes = fs::read(&path).unwrap();
        bytes.extend_from_slice(b"\xff\xfe not json\n{\"id\":\"1.3\",\"type\":\"again\"}\n{\"id\":\"1.4\",\"ty");
        fs::write(&path, bytes).unwrap();
        let (mut store, before) = Store::open(directory.path());
        assert_eq!(before.len(), 3);
        store.append(&line(4));
        assert_eq!(found(directory.path()), [1, 2, 3, 4], "the torn line does not swallow the next one");
    }

    #[test]
    fn the_files_are_bounded_and_the_newest_stay() {
        let directory = TestDir::new();
        let (mut store, _) = Store::open(directory.path());
        store.bytes_max = 1000;
        (1..=500).for_each(|seq| store.append(&line(seq)));
        let sizes: u64 =
            fs::read_dir(directory.path()).unwrap().map(|entry| entry.unwrap().metadata().unwrap().len()).sum();
        assert!(sizes < 2200, "{sizes}");
        let found = found(directory.path());
        assert!(found.len() > 20 && found.is_sorted() && found.last() == Some(&500), "{found:?}");
        assert!(found.windows(2).all(|pair| pair[0] + 1 == pair[1]), "{found:?}");
    }

    #[test]
    fn a_directory_that_cannot_be_written_costs_nothing_but_the_files() {
        let (mut store, before) = Store::open(Path::new("/no/such/directory"));
        store.append(&line(1));
        assert_eq!(before, []);
        assert!(store.complained && store.file.is_none());
    }
}
