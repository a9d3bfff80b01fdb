//! The file `state` of a slot, as far as the agent reads it. The fields it reads lie at the same place from PostgreSQL 11
//! to 16; anything that does not look like that is not used.

use pgherd_types::Lsn;

const MAGIC: u32 = 0x0105_1CA1;
/// Magic, checksum, version and length come first, then the slot's name.
const NAME: std::ops::Range<usize> = 16..80;
const DATABASE: usize = 80;
const PERSISTENCY: usize = 84;
const RESTART_LSN: usize = 96;
const SHORTEST: usize = 160;

/// The oldest WAL that the slot needs, if this is the state of the slot of this name.
pub(super) fn restart_lsn(state: &[u8], name: &str) -> Result<Lsn, String> {
    let length = number(state, 12).and_then(|length| usize::try_from(length).ok());
    let whole = number(state, 0) == Some(MAGIC)
        && state.len() >= SHORTEST
        && length.is_some_and(|n| n + NAME.start == state.len());
    let theirs = state.get(NAME).map(|field| field.split(|byte| *byte == 0).next().unwrap_or_default());
    if !whole || theirs != Some(name.as_bytes()) {
        return Err("its state file has an unknown form".to_owned());
    }
    let bytes: [u8; 8] = state[RESTART_LSN..RESTART_LSN + 8].try_into().map_err(|_| "too short".to_owned())?;
    match u64::from_le_bytes(bytes) {
        0 => Err("it keeps no WAL (it is not complete, or was invalidated)".to_owned()),
        at => Ok(Lsn(at)),
    }
}

fn number(state: &[u8], at: usize) -> Option<u32> {
    state.get(at..at + 4)?.try_into().ok().map(u32::from_le_bytes)
}

/// Is it the state of a slot that outlives its server?
pub(super) fn is_kept(state: &[u8]) -> bool {
    number(state, 0) == Some(MAGIC) && number(state, PERSISTENCY) == Some(0)
}

/// Does it belong to a database?
pub(super) fn is_logical(state: &[u8]) -> bool {
    number(state, DATABASE).is_some_and(|database| database != 0)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub fn state(name: &str, restart: u64) -> Vec<u8> {
        let mut bytes = vec![0; 200];
        bytes[..4].copy_from_slice(&MAGIC.to_le_bytes());
        bytes[8..12].copy_from_slice(&3_u32.to_le_bytes());
        bytes[12..16].copy_from_slice(&184_u32.to_le_bytes());
        bytes[16..16 + name.len()].copy_from_slice(name.as_bytes());
        bytes[96..104].copy_from_slice(&restart.to_le_bytes());
        bytes
    }

    #[test]
    fn only_what_is_surely_a_state_is_read() {
        assert_eq!(restart_lsn(&state("cdc", 0x0300_0028), "cdc"), Ok(Lsn(0x0300_0028)));
        assert!(restart_lsn(&state("cdc", 0), "cdc").unwrap_err().contains("keeps no WAL"));
        for other in [state("cdcx", 5), state("cd", 5), vec![0; 200], state("cdc", 5)[..150].to_vec(), Vec::new()] {
            assert!(restart_lsn(&other, "cdc").unwrap_err().contains("unknown form"));
        }
    }
}
