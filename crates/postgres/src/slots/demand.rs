//! What the slots on the disk demand of a server that starts: with a logical one PostgreSQL refuses to start below
//! `wal_level = logical`, and with more slots than `max_replication_slots`. Whoever lowers these in the configuration must
//! not find all nodes down: the server starts with what its slots need, and a pending restart is shown.

use super::state_file;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// Raises what these slots need more of; one sentence for each.
pub(crate) fn raise(dir: &Path, parameters: &mut BTreeMap<String, String>) -> Vec<String> {
    let mut told = Vec::new();
    let (count, logical) = found(dir);
    if let Some(slot) = logical.filter(|_| parameters.get("wal_level").is_some_and(|level| level != "logical")) {
        parameters.insert("wal_level".to_owned(), "logical".to_owned());
        told.push(format!(
            "wal_level stays logical, because PostgreSQL does not start otherwise while there is a logical replication slot \
             ({slot}): drop such slots first"
        ));
    }
    let most = parameters.get("max_replication_slots").and_then(|most| most.parse::<usize>().ok());
    if most.is_some_and(|most| most < count) {
        parameters.insert("max_replication_slots".to_owned(), count.to_string());
        told.push(format!(
            "max_replication_slots is {count} and not as configured, because PostgreSQL does not start otherwise with \
             {count} replication slots: drop some first"
        ));
    }
    told
}

/// How many slots there are, and one that is logical.
fn found(dir: &Path) -> (usize, Option<String>) {
    let (mut count, mut logical) = (0, None);
    for slot in fs::read_dir(dir.join("pg_replslot")).into_iter().flatten().flatten() {
        let name = slot.file_name().to_string_lossy().into_owned();
        // what the server was making or dropping when it died it removes itself
        let Ok(state) = fs::read(slot.path().join("state")) else { continue };
        if !name.ends_with(".tmp") && state_file::is_kept(&state) {
            count += 1;
            logical = logical.or(Some(name).filter(|_| state_file::is_logical(&state)));
        }
    }
    (count, logical)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;

    fn with_slots(slots: &[(&str, u32, u32)]) -> PathBuf {
        let dir = std::env::temp_dir().join(format!("pgherd-demand-{}", std::process::id()));
        let _ = fs::remove_dir_all(&dir);
        for (name, database, persistency) in slots {
            let place = dir.join("pg_replslot").join(name);
            fs::create_dir_all(&place).unwrap();
            let mut state = state_file::tests::state(name, 5);
            state[80..84].copy_from_slice(&database.to_le_bytes());
            state[84..88].copy_from_slice(&persistency.to_le_bytes());
            fs::write(place.join("state"), state).unwrap();
        }
        dir
    }

    #[test]
    fn a_server_starts_with_what_its_slots_need() {
        let raised = |slots: &[(&str, u32, u32)], level: &str, most: &str| {
            let dir = with_slots(slots);
            let given = [("wal_level", level), ("max_replication_slots", most)];
            let mut parameters = given.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
            let told = raise(&dir, &mut parameters).len();
            let _ = fs::remove_dir_all(&dir);
            (parameters["wal_level"].clone(), parameters["max_replication_slots"].clone(), told)
        };
        let is = |level: &str, most: &str, told| (level.to_owned(), most.to_owned(), told);
        assert_eq!(raised(&[], "replica", "4"), is("replica", "4", 0));
        assert_eq!(raised(&[("a", 0, 0), ("b", 0, 0)], "replica", "4"), is("replica", "4", 0));
        assert_eq!(raised(&[("a", 0, 0), ("cdc", 5, 0)], "replica", "4"), is("logical", "4", 1));
        assert_eq!(raised(&[("cdc", 5, 0)], "logical", "4"), is("logical", "4", 0));
        assert_eq!(raised(&[("cdc", 5, 1), ("cdc.tmp", 5, 0)], "replica", "0"), is("replica", "0", 0), "not kept");
        assert_eq!(raised(&[("a", 0, 0), ("b", 0, 0), ("c", 0, 0)], "replica", "2"), is("replica", "3", 1));
    }
}
