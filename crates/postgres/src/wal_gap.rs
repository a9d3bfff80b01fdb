//! Does the source still have the WAL that a restored backup needs? A member's slot keeps it only from its own creation
//! on; a backup that is older needs an archive, and it is better to say so than to leave a replica that waits for ever.

use crate::room::ask_source;
use crate::server::Postgres;
use crate::sql::literal;
use pgherd_types::{Lsn, Upstream};
use std::fs;
use std::path::Path;

/// Warns if the WAL from the backup's start on is probably nowhere.
pub(crate) async fn warn(server: &Postgres, dir: &Path, from: &Upstream) {
    let config = server.config();
    let label = fs::read_to_string(dir.join("backup_label")).unwrap_or_default();
    let Some(start) = start_in(&label).filter(|_| !config.recovery.contains_key("restore_command")) else { return };
    let slot = server.options.name.slot_name();
    let text = format!(
        "SELECT COALESCE(max(restart_lsn::text), '-') FROM pg_replication_slots WHERE slot_name = {}",
        literal(&slot)
    );
    let Some(answer) = ask_source(server, from, &[&text]).await else { return };
    if !is_kept(start, answer.parse().ok()) {
        log::warn!(
            "the restored backup begins at {start}, and the slot {slot} on {} does not keep WAL from there on; unless \
             wal_keep_size covers it, this replica needs a restore_command",
            from.member
        );
    }
}

/// The position in a line such as `START WAL LOCATION: 0/2000028 (file 000000010000000000000002)`.
fn start_in(label: &str) -> Option<Lsn> {
    let line = label.lines().find_map(|line| line.strip_prefix("START WAL LOCATION: "))?;
    line.split(' ').next()?.parse().ok()
}

/// Does a slot at this position keep everything from the start on?
fn is_kept(start: Lsn, slot: Option<Lsn>) -> bool {
    slot.is_some_and(|slot| slot <= start)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_keeps_only_what_is_behind_it() {
        let label = "START WAL LOCATION: 1/2000028 (file 000000010000000100000002)\nCHECKPOINT LOCATION: 1/2000060\n";
        let start = start_in(label).unwrap();
        assert_eq!(start.to_string(), "1/2000028");
        assert_eq!(start_in("LABEL: x"), None);
        for (slot, kept) in [("1/2000000", true), ("1/2000028", true), ("1/3000000", false), ("-", false)] {
            assert_eq!(is_kept(start, slot.parse().ok()), kept, "{slot}");
        }
    }
}
