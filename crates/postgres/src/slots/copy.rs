//! Copies of the leader's logical slots. All that can be known is found out before the server is stopped: a copy that could
//! not be used would cost a restart, and the next attempt another one.

use super::{leader, place, state_file};
use crate::control::OperationControl;
use crate::error::{OperationError, Outcome};
use crate::process::find_postmaster;
use crate::server::Postgres;
use crate::stop::stop_fast;
use crate::wal_end::segment_bytes;
use pgherd_types::{Decoding, Lsn, Upstream};
use std::collections::BTreeMap;
use std::fs;

/// Puts them in place and ends with the server stopped; fails before the stop if there is nothing to put in place. Where the
/// server was down already, slots that are there are kept.
pub async fn copy(
    server: &Postgres,
    from: &Upstream,
    slots: &BTreeMap<String, Decoding>,
    control: &OperationControl,
) -> Outcome<()> {
    control.go_on()?;
    let runs = find_postmaster(&server.options.data_dir).is_some();
    let wanted: BTreeMap<String, Decoding> = slots
        .iter()
        .filter(|(name, _)| runs || !place::is_there(server, name))
        .map(|(name, decoding)| (name.clone(), decoding.clone()))
        .collect();
    if wanted.is_empty() {
        return Ok(());
    }
    let states = leader::states(server, from, &wanted, control)?;
    let (good, bad) = judged(server, &states);
    if good.is_empty() {
        return Err(OperationError::failed(format!("no slot can be copied: {}", bad.join("; "))));
    }
    bad.iter().for_each(|why| log::warn!("a logical slot is not copied: {why}"));
    server.managed_slots.add(&server.state, good.keys())?;
    control.go_on()?;
    if runs {
        stop_fast(server, control).await?;
    }
    server.require_stopped()?;
    // a restart point at the stop may have removed WAL
    let (good, gone) = judged(server, &good.into_iter().map(|(name, state)| (name, Ok(state))).collect());
    gone.iter().for_each(|why| log::warn!("a logical slot is not copied: {why}"));
    for (name, state) in &good {
        place::put(server, name, state)?;
        log::info!("logical replication slot {name} was copied from {}", from.member);
    }
    Ok(())
}

type States = BTreeMap<String, Vec<u8>>;

/// Those that can be used, and why the others cannot.
fn judged(server: &Postgres, states: &BTreeMap<String, Result<Vec<u8>, String>>) -> (States, Vec<String>) {
    let oldest = oldest_wal(server);
    let (mut good, mut bad) = (States::new(), Vec::new());
    for (name, state) in states {
        match state.as_ref().map_err(Clone::clone).and_then(|state| usable(state, name, oldest)) {
            Ok(state) => drop(good.insert(name.clone(), state)),
            Err(why) => bad.push(format!("{name}: {why}")),
        }
    }
    (good, bad)
}

fn usable(state: &[u8], name: &str, oldest: Option<Lsn>) -> Result<Vec<u8>, String> {
    let needs = state_file::restart_lsn(state, name)?;
    match oldest {
        Some(oldest) if oldest <= needs => Ok(state.to_vec()),
        Some(oldest) => Err(format!(
            "it needs WAL from {needs} on, and this server has it from {oldest} on; it is copied once its consumer has moved on"
        )),
        None => Err("it is not known what WAL this server has".to_owned()),
    }
}

/// The oldest WAL file's beginning.
fn oldest_wal(server: &Postgres) -> Option<Lsn> {
    let segment = segment_bytes(&server.options)?;
    let files = fs::read_dir(server.options.data_dir.join("pg_wal")).ok()?;
    let begins = files.flatten().filter_map(|file| begin_of(file.file_name().to_str()?, segment));
    begins.min()
}

/// Where the WAL file of this name begins.
fn begin_of(name: &str, segment: u64) -> Option<Lsn> {
    if name.len() != 24 || !name.bytes().all(|b| b.is_ascii_hexdigit()) {
        return None;
    }
    let (log, part) = (u64::from_str_radix(&name[8..16], 16).ok()?, u64::from_str_radix(&name[16..], 16).ok()?);
    Some(Lsn((log << 32) + part * segment))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_tells_where_its_wal_begins() {
        let begin = |name| begin_of(name, 16 << 20).map(|lsn| lsn.to_string());
        assert_eq!(begin("000000010000000000000003"), Some("0/3000000".to_owned()));
        assert_eq!(begin("0000000A00000002000000FF"), Some("2/FF000000".to_owned()));
        for other in
            ["00000002.history", "archive_status", "000000010000000000000003.partial", "00000001000000000000000x"]
        {
            assert_eq!(begin(other), None, "{other}");
        }
    }
}
