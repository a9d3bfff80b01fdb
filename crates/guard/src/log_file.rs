//! The guard's own log: a few lines an event, and it begins anew when it is long. A thread of its own writes it, because
//! a disk may hang and the guard must not.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

const LIMIT_BYTES: u64 = 64 << 10;
/// Lines that may wait for a slow disk; more are lost.
const WAITING_MAX: usize = 64;
/// How long the last lines may take.
const FLUSH_PATIENCE: Duration = Duration::from_secs(1);

/// Where the guard says what it does.
pub(crate) struct Log {
    lines: SyncSender<String>,
    written: Receiver<()>,
}

impl Log {
    pub(crate) fn open(path: &Path) -> std::io::Result<Self> {
        let file = OpenOptions::new().create(true).append(true).mode(0o600).open(path)?;
        let (lines, to_write) = sync_channel(WAITING_MAX);
        let (done, written) = sync_channel(1);
        let write = move || {
            to_write.iter().for_each(|line: String| append(&file, &line));
            let _ = done.send(());
        };
        std::thread::Builder::new().name("log".to_owned()).stack_size(64 << 10).spawn(write)?;
        Ok(Self { lines, written })
    }

    /// Adds a line, without waiting for it to be written.
    pub(crate) fn say(&self, what: &str) {
        let time = jiff::Timestamp::from_millisecond(pgherd_clock::wall().0).unwrap_or_default();
        let _ = self.lines.try_send(format!("{time} guard[{}]: {what}\n", std::process::id()));
    }

    /// The end of the log, written if the disk allows it.
    pub(crate) fn close(self) {
        drop(self.lines);
        let _ = self.written.recv_timeout(FLUSH_PATIENCE);
    }
}

/// What cannot be written is lost: there is nobody to tell.
fn append(mut file: &File, line: &str) {
    if file.metadata().is_ok_and(|m| m.len() > LIMIT_BYTES) {
        let _ = file.set_len(0);
    }
    let _ = file.write_all(line.as_bytes());
}

/// The newest line, for an error message.
pub(crate) fn last_line(path: &Path) -> String {
    let text = std::fs::read(path).unwrap_or_default();
    String::from_utf8_lossy(&text).lines().last().unwrap_or("its log is empty").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_log_begins_anew() {
        let path = std::env::temp_dir().join(format!("pgherd-guard-log-{}", std::process::id()));
        let log = Log::open(&path).unwrap();
        log.say(&"x".repeat(usize::try_from(LIMIT_BYTES).unwrap()));
        log.say("the last");
        log.close();
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.lines().count() == 1 && last_line(&path).ends_with(": the last"), "{}", text.len());
        std::fs::remove_file(&path).unwrap();
    }
}
