//! What the leader says of its slots. It is asked as for a rewind: with all that libpq knows, as the same role.

use super::sql;
use crate::control::OperationControl;
use crate::error::Outcome;
use crate::rewind_source::Source;
use crate::server::Postgres;
use pgherd_types::{Decoding, LeaderSlots, SlotComparison, Upstream, Xid};
use std::collections::BTreeMap;
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(5);

/// Asks what its slots keep. Blocks.
pub(super) fn ask(server: &Postgres, asked: &SlotComparison) -> Outcome<LeaderSlots> {
    let source = Source::for_purpose(server, &asked.leader, "slots")?;
    let output = source.psql(&sql::marks_question(&asked.through), PATIENCE, &OperationControl::new(None))?;
    let mut said = LeaderSlots { leader: asked.leader.member.clone(), ..LeaderSlots::default() };
    for (name, kind, mark) in output.lines().filter_map(three) {
        let mark = mark.parse().ok().map(Xid);
        match (kind, mark) {
            ("physical", mark) if name == asked.through => said.through = Some(mark),
            ("logical", Some(mark)) => {
                said.oldest_logical = Some(said.oldest_logical.filter(|oldest| oldest.not_after(mark)).unwrap_or(mark));
            }
            _ => {}
        }
    }
    Ok(said)
}

/// The state files of its slots as they are on its disk; `Err`: why one cannot be used.
pub(super) fn states(
    server: &Postgres,
    from: &Upstream,
    slots: &BTreeMap<String, Decoding>,
    control: &OperationControl,
) -> Outcome<BTreeMap<String, Result<Vec<u8>, String>>> {
    let source = Source::for_purpose(server, from, "slot-copy")?;
    let output = source.psql(&sql::states_question(slots), PATIENCE, control)?;
    let found: BTreeMap<&str, (&str, &str)> =
        output.lines().filter_map(three).map(|(name, good, state)| (name, (good, state))).collect();
    let of = |name: &String| match found.get(name.as_str()) {
        None => Err(format!("{} has no such slot", source.name)),
        Some(("t", state)) => bytes(state).ok_or_else(|| "its state could not be read".to_owned()),
        Some(_) => Err(format!("it has another kind, database or plugin on {}", source.name)),
    };
    Ok(slots.keys().map(|name| (name.clone(), of(name))).collect())
}

/// The fields behind the word by which a line is recognised.
fn three(line: &str) -> Option<(&str, &str, &str)> {
    let mut fields = line.strip_prefix("slot|")?.splitn(3, '|');
    Some((fields.next()?, fields.next()?, fields.next()?))
}

fn bytes(hex: &str) -> Option<Vec<u8>> {
    let pairs = hex.as_bytes().chunks(2);
    pairs.map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_recognised_among_others() {
        assert_eq!(three("slot|a|t|00ff"), Some(("a", "t", "00ff")));
        assert_eq!(three("slot|a|logical|"), Some(("a", "logical", "")));
        assert_eq!((three("NOTICE:  x"), three("slot|a")), (None, None));
        assert_eq!(bytes("00fF10"), Some(vec![0, 255, 16]));
        assert_eq!((bytes("0g"), bytes("000")), (None, Some(vec![0, 0])));
    }
}
