//! Up to where a webhook's receiver has been told: the number of an event, in a file of its own beside the events. Losing it
//! costs an event that is told twice or not at all, so it is not flushed.

use sha2::{Digest, Sha256};
use std::path::{Path, PathBuf};

/// See the module.
pub struct Position {
    path: PathBuf,
    known: Option<u64>,
    complained: bool,
}

impl Position {
    /// That of this URL, which may hold a secret: the file's name is a hash of it.
    pub async fn read(directory: &Path, url: &str) -> Self {
        let hash: String = Sha256::digest(url).iter().take(8).map(|byte| format!("{byte:02x}")).collect();
        let path = directory.join(format!("webhook.{hash}"));
        let file = path.clone();
        let read = move || std::fs::read_to_string(file).ok()?.trim().parse().ok();
        let known = tokio::task::spawn_blocking(read).await.ok().flatten();
        Self { path, known, complained: false }
    }

    /// The event after which to begin, when that is the newest there is. A position beyond it is of another life of the
    /// record, which began anew: all of it is new.
    pub fn begin_after(&self, newest: u64) -> u64 {
        match self.known {
            None => newest,
            Some(known) if known > newest => 0,
            Some(known) => known,
        }
    }

    /// It has been told up to here. The old file stays until the new one is whole.
    pub async fn write(&mut self, seen: u64) {
        if self.known == Some(seen) {
            return;
        }
        self.known = Some(seen);
        let (path, part) = (self.path.clone(), self.path.with_extension("new"));
        let write = move || std::fs::write(&part, format!("{seen}\n")).and_then(|()| std::fs::rename(&part, &path));
        let written = tokio::task::spawn_blocking(write).await;
        if let (Ok(Err(e)), false) = (&written, self.complained) {
            self.complained = true;
            log::warn!(
                "events: {} cannot be written, events may be told twice after a restart: {e}",
                self.path.display()
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[actix_rt::test]
    async fn it_goes_on_where_it_was() {
        let directory = std::env::temp_dir().join(format!("pgherd-position-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let mut position = Position::read(&directory, "http://a/").await;
        assert_eq!(position.begin_after(7), 7, "the first time: what is to come");
        position.write(9).await;
        let again = Position::read(&directory, "http://a/").await;
        assert_eq!((again.begin_after(12), again.begin_after(9), again.begin_after(3)), (9, 9, 0));
        assert_eq!(Position::read(&directory, "http://b/").await.begin_after(3), 3);
        std::fs::remove_dir_all(&directory).unwrap();
    }
}
