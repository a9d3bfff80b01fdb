//! History files in `pg_wal`. PostgreSQL gives a promotion the number behind the longest unbroken row of history
//! files, so numbers that shall be skipped get a file that holds a comment only. Such a file never describes an
//! ancestor: a server that meets it finds that the timeline is not a child of its own, and does not follow it.

use crate::error::{OperationError, Outcome};
use crate::state_dir::write_private;
use pgherd_types::{HistoryRow, Lsn, Timeline};
use std::fs;
use std::path::{Path, PathBuf};

/// First line of a file that stands for a number nobody used.
const UNUSED: &str = "# unused timeline number, skipped by pgherd\n";
/// More than this many numbers are not skipped at once: the wanted number would be nonsense.
const SKIPPED_MAX: u32 = 10_000;

fn path(data_dir: &Path, timeline: u32) -> PathBuf {
    data_dir.join("pg_wal").join(format!("{timeline:08X}.history"))
}

fn is_placeholder(path: &Path) -> bool {
    fs::read_to_string(path).is_ok_and(|text| text == UNUSED)
}

/// Numbers that have a history file, with whether it is a placeholder.
fn numbers(data_dir: &Path) -> Vec<(u32, bool)> {
    let entries = fs::read_dir(data_dir.join("pg_wal")).into_iter().flatten().flatten();
    let number = |entry: fs::DirEntry| {
        let name = entry.file_name();
        let digits = name.to_str()?.strip_suffix(".history").filter(|d| d.len() == 8)?;
        Some((u32::from_str_radix(digits, 16).ok()?, is_placeholder(&entry.path())))
    };
    entries.filter_map(number).collect()
}

/// The highest timeline with a history file that describes one.
pub(crate) fn newest_real(data_dir: &Path) -> Option<Timeline> {
    numbers(data_dir).into_iter().filter(|(_, placeholder)| !placeholder).map(|(n, _)| Timeline(n)).max()
}

/// Where a standby's timeline ended by the history of a newer one, whose file came from the server it follows.
pub(crate) fn fork(data_dir: &Path, ours: Timeline) -> Option<(Timeline, Lsn)> {
    let newest = newest_real(data_dir).filter(|newest| *newest > ours)?;
    let row = history(data_dir, newest).into_iter().find(|row| row.timeline == ours)?;
    Some((newest, row.switch_lsn))
}

/// The ancestors of a timeline, oldest first, from its history file; none when there is no such file.
pub(crate) fn history(data_dir: &Path, timeline: Timeline) -> Vec<HistoryRow> {
    fs::read_to_string(path(data_dir, timeline.0)).map(|text| parse(&text)).unwrap_or_default()
}

/// The rows of a history file.
pub(crate) fn parse(text: &str) -> Vec<HistoryRow> {
    let row = |line: &str| {
        let mut words = line.splitn(3, '\t').map(str::trim);
        let timeline = Timeline(words.next()?.parse().ok()?);
        let switch_lsn = words.next()?.parse().ok()?;
        Some(HistoryRow {
            timeline,
            switch_lsn,
            reason: words.next().unwrap_or_default().to_owned(),
            at: None,
            new_leader: None,
        })
    };
    text.lines().filter_map(row).collect()
}

/// Makes `wanted` the number of the next promotion.
pub(crate) fn reserve(data_dir: &Path, wanted: Timeline, owner: Option<(u32, u32)>) -> Outcome<()> {
    let existing = numbers(data_dir);
    if let Some(used) = existing.iter().filter(|(n, placeholder)| !placeholder && *n >= wanted.0).map(|(n, _)| n).max()
    {
        return Err(OperationError::failed(format!("timeline {used} was used already, cannot promote to {wanted}")));
    }
    let missing: Vec<u32> =
        (2..wanted.0).filter(|n| existing.iter().all(|(known, _)| known != n)).take(SKIPPED_MAX as usize + 1).collect();
    if missing.len() > SKIPPED_MAX as usize {
        return Err(OperationError::failed(format!(
            "promotion to timeline {wanted} would skip more than {SKIPPED_MAX} numbers"
        )));
    }
    if existing.contains(&(wanted.0, true)) {
        remove(data_dir, wanted.0)?;
    }
    missing.iter().try_for_each(|n| write_private(&path(data_dir, *n), UNUSED, owner))
}

/// Removes placeholders that no promotion followed: a standby that starts would take the highest for its target.
pub(crate) fn forget_unused(data_dir: &Path) -> Outcome<()> {
    let newest = newest_real(data_dir).map_or(1, |t| t.0);
    let leading = numbers(data_dir).into_iter().filter(|(n, placeholder)| *placeholder && *n > newest);
    leading.map(|(n, _)| n).try_for_each(|n| remove(data_dir, n))
}

fn remove(data_dir: &Path, timeline: u32) -> Outcome<()> {
    let path = path(data_dir, timeline);
    fs::remove_file(&path).map_err(|e| OperationError::failed(format!("could not remove {}: {e}", path.display())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_files(files: &[(u32, &str)], test: impl FnOnce(&Path)) {
        let dir = std::env::temp_dir().join(format!(
            "pgherd-timelines-{}-{:?}",
            std::process::id(),
            std::thread::current().id()
        ));
        fs::create_dir_all(dir.join("pg_wal")).unwrap();
        for (n, text) in files {
            fs::write(path(&dir, *n), text).unwrap();
        }
        test(&dir);
        fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn gaps_are_filled_and_unused_numbers_forgotten() {
        with_files(&[(3, "1\t0/3000000\tno recovery target specified\n")], |dir| {
            reserve(dir, Timeline(7), None).unwrap();
            let mut all = numbers(dir);
            all.sort_unstable();
            assert_eq!(all, [(2, true), (3, false), (4, true), (5, true), (6, true)]);
            assert_eq!(newest_real(dir), Some(Timeline(3)));
            forget_unused(dir).unwrap();
            let mut left = numbers(dir);
            left.sort_unstable();
            assert_eq!(left, [(2, true), (3, false)]);
        });
    }

    #[test]
    fn history_files_are_read() {
        let rows = parse("1\t0/3000148\tno recovery target specified\n\n# comment\n4\t0/5000000\tbefore x\n");
        let seen: Vec<_> = rows.iter().map(|r| (r.timeline.0, r.switch_lsn.to_string(), r.reason.as_str())).collect();
        let wanted =
            [(1, "0/3000148".to_owned(), "no recovery target specified"), (4, "0/5000000".to_owned(), "before x")];
        assert_eq!(seen, wanted);
        assert!(parse(UNUSED).is_empty());
    }

    #[test]
    fn a_used_number_is_never_given_again() {
        with_files(&[(5, "4\t0/3000000\tx\n")], |dir| {
            assert!(reserve(dir, Timeline(5), None).is_err());
            assert!(reserve(dir, Timeline(3), None).is_err(), "PostgreSQL would take 6");
            assert!(reserve(dir, Timeline(6), None).is_ok());
        });
    }
}
