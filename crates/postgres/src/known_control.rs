//! What `pg_controldata` said last, kept while the file is the same. PostgreSQL writes it at checkpoints and at few other
//! moments, and to start a program costs more than a whole look at a running server.

use crate::control_data::ControlFile;
use crate::options::PostgresOptions;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The clock of a file system ticks at least this often: what was written within one tick has one time.
const TICK: Duration = Duration::from_secs(2);

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct KnownControl(Mutex<Option<(Stamp, ControlFile)>>);

/// Which file it is and when it was changed last; the time of change cannot be set by anybody.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    changed: Duration,
}

impl Stamp {
    fn of(path: &Path) -> io::Result<Self> {
        let found = fs::metadata(path)?;
        let seconds = Duration::from_secs(u64::try_from(found.ctime()).unwrap_or_default());
        let changed = seconds + Duration::from_nanos(u64::try_from(found.ctime_nsec()).unwrap_or_default());
        Ok(Self { device: found.dev(), inode: found.ino(), size: found.size(), changed })
    }
    /// Whatever is written from now on gets another time.
    fn is_settled(&self, now: Duration) -> bool {
        self.changed + TICK < now
    }
}

impl KnownControl {
    /// What the file says, without a program if it is the one that was read before.
    pub fn read(&self, options: &PostgresOptions) -> Result<ControlFile, String> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let stamp = Stamp::of(&options.data_dir.join("global/pg_control")).ok().filter(|stamp| stamp.is_settled(now));
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        match (stamp, known) {
            (Some(stamp), Some((of, file))) if of == stamp => return Ok(file),
            _ => {}
        }
        let file = ControlFile::read(options)?;
        let remembered = stamp.map(|stamp| (stamp, file.clone()));
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = remembered;
        Ok(file)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_counts_once_a_later_write_must_have_another_one() {
        let stamp = |ms| Stamp { device: 1, inode: 2, size: 8192, changed: Duration::from_millis(ms) };
        let now = Duration::from_secs(10);
        assert!(stamp(7999).is_settled(now));
        assert!(!stamp(8000).is_settled(now), "within a tick");
        assert!(!stamp(20_000).is_settled(now), "the clock was set back");
    }

    #[test]
    fn every_change_and_every_other_file_has_another_stamp() {
        let home = std::env::temp_dir().join(format!("pgherd-control-{}", std::process::id()));
        fs::create_dir_all(&home).unwrap();
        let (path, other) = (home.join("a"), home.join("b"));
        fs::write(&path, "1").unwrap();
        let first = Stamp::of(&path).unwrap();
        assert_eq!(Stamp::of(&path).unwrap(), first);
        fs::copy(&path, &other).unwrap();
        let file = fs::File::options().write(true).open(&other).unwrap();
        file.set_modified(fs::metadata(&path).unwrap().modified().unwrap()).unwrap();
        fs::rename(&other, &path).unwrap();
        assert_ne!(Stamp::of(&path).unwrap(), first, "as old and as long, and another file");
        assert!(Stamp::of(&other).is_err());
        fs::remove_dir_all(&home).unwrap();
    }
}
