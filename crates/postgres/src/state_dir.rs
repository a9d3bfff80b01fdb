//! The directory beside the data directory where the agent keeps what must not be in it: the lock, the marker of an
//! operation in progress, the server's log, password files.

use crate::error::{Outcome, Tried};
use crate::options::PostgresOptions;
use rustix::fs::{FlockOperation, flock};
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, chown};
use std::path::{Path, PathBuf};

/// The path of the state directory: the data directory's with `.pgherd` behind it.
pub fn state_dir(data_dir: &Path) -> PathBuf {
    beside(data_dir, "pgherd")
}

/// Where a copy or a new cluster is made before it takes the data directory's place.
pub fn staging_dir(data_dir: &Path) -> PathBuf {
    beside(data_dir, "clone")
}

fn beside(data_dir: &Path, suffix: &str) -> PathBuf {
    // Without a slash at the end, which would put it inside.
    let mut path = data_dir.components().as_path().as_os_str().to_owned();
    path.push(".");
    path.push(suffix);
    PathBuf::from(path)
}

/// The state directory, locked for this process. The lock ends with the process, however that ends.
#[derive(Debug)]
pub struct StateDir {
    path: PathBuf,
    run_as: Option<(u32, u32)>,
    _lock: File,
}

impl StateDir {
    /// Creates the directory (mode 0700) if needed and takes the lock.
    pub fn open(options: &PostgresOptions) -> Outcome<Self> {
        let path = state_dir(&options.data_dir);
        match DirBuilder::new().mode(0o700).create(&path) {
            Err(e) if e.kind() != ErrorKind::AlreadyExists => {
                return Err(e)
                    .tried(|| format!("create the state directory {} (its parent must be writable)", path.display()));
            }
            _ => {}
        }
        give_to(&path, options.run_as)?;
        let lock_path = path.join("lock");
        let file = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(&lock_path);
        let lock = file.tried(|| format!("open {}", lock_path.display()))?;
        flock(&lock, FlockOperation::NonBlockingLockExclusive).tried(|| {
            format!("lock {}: another agent works on this data directory; end it first", lock_path.display())
        })?;
        Ok(Self { path, run_as: options.run_as, _lock: lock })
    }
    /// Its path.
    pub fn path(&self) -> &Path {
        &self.path
    }
    /// Where the server's standard output and error go.
    pub fn log_path(&self) -> PathBuf {
        self.path.join("postgres.log")
    }
    /// Opens the server's log for appending.
    pub(crate) fn open_log(&self) -> Outcome<File> {
        let path = self.log_path();
        let file = OpenOptions::new().create(true).append(true).mode(0o600).open(&path);
        let file = file.tried(|| format!("open {}", path.display()))?;
        give_to(&path, self.run_as)?;
        Ok(file)
    }
    /// Keeps the log of a server that runs for years from filling the disk: beyond the limit it begins anew, and one
    /// old part is kept. The server appends, so it goes on writing at the new end.
    pub(crate) fn trim_log(&self, limit_bytes: u64) {
        let (log, old) = (self.log_path(), self.path.join("postgres.log.1"));
        if !fs::metadata(&log).is_ok_and(|m| m.len() > limit_bytes) {
            return;
        }
        let trim = || fs::copy(&log, &old).and_then(|_| OpenOptions::new().write(true).open(&log)?.set_len(0));
        if let Err(e) = trim() {
            log::warn!("the log {} could not be trimmed: {e}", log.display());
        }
    }
    /// Writes a file that only the server's user can read, whole or not at all.
    pub(crate) fn write(&self, path: &Path, content: &str) -> Outcome<()> {
        write_private(path, content, self.run_as)
    }
}

/// Writes a file with mode 0600 under a temporary name, flushes it and renames it.
pub(crate) fn write_private(path: &Path, content: &str, owner: Option<(u32, u32)>) -> Outcome<()> {
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(".new");
    let temporary = PathBuf::from(temporary);
    let write = || -> std::io::Result<()> {
        let _ = fs::remove_file(&temporary);
        let mut file = OpenOptions::new().create_new(true).write(true).mode(0o600).open(&temporary)?;
        file.write_all(content.as_bytes())?;
        if let Some((uid, gid)) = owner {
            chown(&temporary, Some(uid), Some(gid))?;
        }
        file.sync_all()?;
        fs::rename(&temporary, path)?;
        path.parent().map_or(Ok(()), |dir| File::open(dir)?.sync_all())
    };
    write().tried(|| format!("write {}", path.display()))
}

/// Hands a path to the server's user, when that is not ours.
pub(crate) fn give_to(path: &Path, owner: Option<(u32, u32)>) -> Outcome<()> {
    let Some((uid, gid)) = owner else { return Ok(()) };
    chown(path, Some(uid), Some(gid)).tried(|| format!("change the owner of {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_log_begins_anew_and_is_appended_to() {
        let dir = std::env::temp_dir().join(format!("pgherd-log-{}", std::process::id()));
        let state = StateDir::open(&PostgresOptions::new("a".into(), "s", &dir)).unwrap();
        let mut log = state.open_log().unwrap();
        log.write_all(b"long enough").unwrap();
        state.trim_log(100);
        assert_eq!(fs::read(state.log_path()).unwrap(), b"long enough");
        state.trim_log(5);
        log.write_all(b"new").unwrap();
        assert_eq!(fs::read(state.log_path()).unwrap(), b"new");
        assert_eq!(fs::read(state.path().join("postgres.log.1")).unwrap(), b"long enough");
        fs::remove_dir_all(state.path()).unwrap();
    }

    #[test]
    fn the_directories_are_beside_the_data_directory() {
        for data_dir in ["/data/pg", "/data/pg/", "/data//pg/."] {
            assert_eq!(state_dir(Path::new(data_dir)), Path::new("/data/pg.pgherd"));
            assert_eq!(staging_dir(Path::new(data_dir)), Path::new("/data/pg.clone"));
        }
    }
}
