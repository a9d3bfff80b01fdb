//! Where the WAL of a stopped primary ends: the first position behind its last whole record, as crash recovery would
//! find it. `pg_waldump` reads from the last checkpoint until it meets something that is no record.

use crate::options::PostgresOptions;
use crate::programs::Said;
use crate::timeline_files;
use pgherd_types::{ControlData, Lsn, Timeline};
use std::process::Command;
use std::time::Duration;

/// A checkpoint may lie many gigabytes back.
const PATIENCE: Duration = Duration::from_secs(600);
/// Bytes of a WAL page and of its header; a segment's first page has a longer one.
const PAGE: u64 = 8192;
const PAGE_HEADER: u64 = 24;
const FIRST_PAGE_HEADER: u64 = 40;

/// The end of the WAL on disk, or why that cannot be decided.
pub fn wal_end(options: &PostgresOptions, control: &ControlData) -> Result<Lsn, String> {
    let timeline = control.wal_timeline();
    if let Some(newest) = timeline_files::newest_real(&options.data_dir).filter(|newest| *newest > timeline) {
        return Err(format!("a promotion to timeline {newest} did not come to its end"));
    }
    let begin = begin(options, control).ok_or_else(|| format!("there is no history of timeline {timeline}"))?;
    let segment = segment_bytes(options).ok_or("pg_controldata does not say how long a WAL file is")?;
    let missing = first_missing_segment(options, timeline, begin, segment)?;
    let dump = |from: Lsn, more: &[&str]| {
        let arguments = |c: &mut Command| {
            c.arg("-p").arg(options.data_dir.join("pg_wal")).arg("-t").arg(timeline.to_string());
            c.args(["-s", &from.to_string(), "-e", &missing.to_string()]).args(more);
            // else it learns the size of a file from any one that is there, also from one that was made in advance and is empty
            let (first, last) = (from.0 / segment, (missing.0 / segment).saturating_sub(1));
            c.args([first, last].map(|number| file_name(timeline, number, segment)));
        };
        options.run_short("pg_waldump", arguments, PATIENCE).map_err(|e| e.to_string())
    };
    let quiet = dump(begin, &["--quiet"])?;
    let last = match last_record_before_error(&quiet.stderr) {
        Some(lsn) => lsn,
        // It read to the end of the last segment there is, and says nothing then: the records are listed instead.
        None if quiet.success => listed(&dump(begin, &[])?)?.start,
        None => return Err(unreadable(&quiet)),
    };
    let record = listed(&dump(last, &["-n", "1"])?)?;
    match record.start == last {
        true => Ok(record.end(segment)),
        false => Err(format!("pg_waldump lists a record at {} instead of the one at {last}", record.start)),
    }
}

fn listed(said: &Said) -> Result<Record, String> {
    last_listed(&said.stdout).ok_or_else(|| unreadable(said))
}

fn unreadable(said: &Said) -> String {
    let words = said.stderr.trim();
    format!("pg_waldump finds no record: {}", if words.is_empty() { "it says nothing" } else { words })
}

/// From where to read: the last checkpoint, or where the timeline began that was promoted to since.
fn begin(options: &PostgresOptions, control: &ControlData) -> Option<Lsn> {
    let timeline = control.wal_timeline();
    if timeline == control.checkpoint_timeline {
        return Some(control.checkpoint_lsn);
    }
    timeline_files::history(&options.data_dir, timeline).last().map(|parent| parent.switch_lsn)
}

/// Where the unbroken row of segment files ends: `pg_waldump` would wait seconds for a file that is not there, and for ever
/// on what is no file.
fn first_missing_segment(
    options: &PostgresOptions,
    timeline: Timeline,
    begin: Lsn,
    segment: u64,
) -> Result<Lsn, String> {
    let place = |number: u64| options.data_dir.join("pg_wal").join(file_name(timeline, number, segment));
    for number in begin.0 / segment.. {
        match std::fs::metadata(place(number)) {
            Ok(found) if found.is_file() => {}
            Ok(_) => return Err(format!("{} is no file", place(number).display())),
            Err(_) => return Ok(Lsn(number * segment)),
        }
    }
    Err("there is no end to the WAL files".to_owned())
}

fn file_name(timeline: Timeline, number: u64, segment: u64) -> String {
    let per_log = (1 << 32) / segment;
    format!("{:08X}{:08X}{:08X}", timeline.0, number / per_log, number % per_log)
}

/// The size of a WAL file.
pub(crate) fn segment_bytes(options: &PostgresOptions) -> Option<u64> {
    let file = crate::control_data::ControlFile::read(options).ok()?;
    file.text("Bytes per WAL segment").ok()?.parse().ok().filter(|bytes| *bytes > 0)
}

/// `pg_waldump: error: error in WAL record at 0/15D6F28: invalid record length at …` names the last good record.
fn last_record_before_error(stderr: &str) -> Option<Lsn> {
    let (_, rest) = stderr.split_once("error in WAL record at ")?;
    rest.split([':', ' ']).next()?.parse().ok()
}

/// One line of `pg_waldump`.
#[derive(Debug, PartialEq, Eq)]
struct Record {
    start: Lsn,
    total_bytes: u64,
    switches: bool,
}

/// The last record listed. Its position and length are all that counts.
fn last_listed(stdout: &str) -> Option<Record> {
    let line = stdout.lines().rev().find(|l| l.contains(", lsn: "))?;
    let start = line.split_once(", lsn: ")?.1.split(',').next()?.parse().ok()?;
    let lengths = line.split_once("len (rec/tot):")?.1.split(',').next()?;
    let total_bytes = lengths.rsplit('/').next()?.trim().parse().ok()?;
    let switches = line.starts_with("rmgr: XLOG ") && line.contains("desc: SWITCH");
    Some(Record { start, total_bytes, switches })
}

impl Record {
    /// The position behind the record: page headers inside it count, and it is aligned to 8 bytes. A segment switch
    /// uses up the rest of its segment.
    fn end(&self, segment: u64) -> Lsn {
        let mut at = self.start.0;
        let mut left = self.total_bytes;
        loop {
            let room = PAGE - at % PAGE;
            if left <= room {
                at += left;
                break;
            }
            at += room;
            left -= room;
            at += if at.is_multiple_of(segment) { FIRST_PAGE_HEADER } else { PAGE_HEADER };
        }
        let at = at.next_multiple_of(8);
        Lsn(if self.switches { at.next_multiple_of(segment) } else { at })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: &str = "rmgr: XLOG        len (rec/tot):    114/   114, tx:          0, lsn: 0/01000028, prev 0/00000000, desc: CHECKPOINT_SHUTDOWN";
    const SEGMENT: u64 = 16 << 20;

    #[test]
    fn both_outputs_are_understood() {
        let stderr = "pg_waldump: error: error in WAL record at 0/1000028: invalid record length at 0/10000A0: wanted 24, got 0\n";
        assert_eq!(last_record_before_error(stderr), Some(Lsn(0x100_0028)));
        assert_eq!(last_record_before_error("pg_waldump: error: could not find file"), None);
        let record = last_listed(LINE).unwrap();
        assert_eq!(record, Record { start: Lsn(0x100_0028), total_bytes: 114, switches: false });
        assert_eq!(record.end(SEGMENT), Lsn(0x100_00A0));
    }

    #[test]
    fn page_headers_inside_a_record_count() {
        let record = |start, total_bytes| Record { start: Lsn(start), total_bytes, switches: false };
        assert_eq!(record(8192 - 24, 24).end(SEGMENT), Lsn(8192));
        assert_eq!(record(8192 - 24, 32).end(SEGMENT), Lsn(8192 + 24 + 8));
        assert_eq!(record(SEGMENT - 8, 16).end(SEGMENT), Lsn(SEGMENT + 40 + 8));
        let switch = Record { switches: true, ..record(100 * 8, 24) };
        assert_eq!(switch.end(SEGMENT), Lsn(SEGMENT));
    }
}
