//! Synchronous replication: the requested mode, the `sync` key, and whom PostgreSQL waits for.

use crate::MemberName;
use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::fmt;

/// A member's name where PostgreSQL and the `sync` key compare it: without regard to the case of ASCII letters. (Names
/// that differ in the case of other letters only are different names here.)
#[derive(Clone, Debug)]
pub struct SyncName(MemberName);

/// A set of such names, in the order in which both texts list them.
pub type SyncNames = BTreeSet<SyncName>;

impl SyncName {
    /// The name as it was written.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }
    /// The member's name as it was written.
    pub fn member(&self) -> &MemberName {
        &self.0
    }
    /// May this name stand in the `sync` key and in `synchronous_standby_names`, so that both mean this member and no
    /// other? Not if it holds a comma or outer blanks (the key separates by commas and trims), is `*` (everybody), or is
    /// the placeholder (nobody).
    pub fn is_usable(&self) -> bool {
        let name = self.as_str();
        let plain = !name.is_empty() && name == name.trim() && !name.contains([',', '\0']);
        plain && name != "*" && !name.eq_ignore_ascii_case(PLACEHOLDER)
    }
    fn folded(&self) -> impl Iterator<Item = u8> {
        self.as_str().bytes().map(|b| b.to_ascii_lowercase())
    }
}

impl PartialEq for SyncName {
    fn eq(&self, other: &Self) -> bool {
        self.as_str().eq_ignore_ascii_case(other.as_str())
    }
}
impl Eq for SyncName {}
impl Ord for SyncName {
    fn cmp(&self, other: &Self) -> Ordering {
        self.folded().cmp(other.folded())
    }
}
impl PartialOrd for SyncName {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
impl fmt::Display for SyncName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
impl From<&str> for SyncName {
    fn from(name: &str) -> Self {
        Self(name.into())
    }
}
impl From<MemberName> for SyncName {
    fn from(name: MemberName) -> Self {
        Self(name)
    }
}
impl From<&MemberName> for SyncName {
    fn from(name: &MemberName) -> Self {
        Self(name.clone())
    }
}

/// The name nobody has: a primary that waits for it acknowledges nothing (spec/sync-and-quorum.md 3).
pub const PLACEHOLDER: &str = "__patroni_strict_sync_replica_placeholder__";

/// `synchronous_mode`.
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug, Default)]
pub enum SyncMode {
    /// No synchronous replication but what the user configured in PostgreSQL.
    #[default]
    Off,
    /// Every chosen standby has every acknowledged commit.
    On,
    /// Any `number` of the chosen standbys have it.
    Quorum,
}

/// The settings of synchronous replication.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct SyncSettings {
    /// `synchronous_mode`.
    pub mode: SyncMode,
    /// `synchronous_mode_strict`: rather acknowledge nothing than run without a synchronous standby.
    pub strict: bool,
    /// `synchronous_node_count`: how many standbys must have a commit; what is missing is done without.
    pub node_count: u32,
    /// `maximum_lag_on_syncnode`, in bytes: standbys further behind are not chosen.
    pub maximum_lag: Option<u64>,
}

impl Default for SyncSettings {
    fn default() -> Self {
        Self { mode: SyncMode::Off, strict: false, node_count: 1, maximum_lag: None }
    }
}

impl SyncSettings {
    /// How many standbys are wanted, at least one.
    pub fn wanted(&self) -> usize {
        self.node_count.max(1) as usize
    }
}

/// The `sync` key.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct SyncKey {
    /// Revision of its last change.
    pub mod_revision: i64,
    /// The primary that wrote it; without one the mode is not yet active.
    pub leader: Option<MemberName>,
    /// How many other voters a racer must be level with; 0 outside quorum mode.
    pub quorum: u32,
    /// The standbys (voters).
    pub standbys: SyncNames,
}

impl SyncKey {
    /// The standbys and the leader.
    pub fn members(&self) -> SyncNames {
        self.standbys.iter().cloned().chain(self.leader.as_ref().map(SyncName::from)).collect()
    }
    /// Is it the key's leader?
    pub fn is_led_by(&self, name: &SyncName) -> bool {
        self.leader.as_ref().is_some_and(|leader| SyncName::from(leader) == *name)
    }
    /// Is it in the key, as standby or as leader?
    pub fn has_member(&self, name: &SyncName) -> bool {
        self.is_led_by(name) || self.standbys.contains(name)
    }
}

/// The `sync` key as it was read.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum SyncSeen {
    /// There is none.
    #[default]
    Absent,
    /// It cannot be understood.
    Garbage {
        /// Revision of its last change.
        mod_revision: i64,
    },
    /// It can.
    Valid(SyncKey),
}

impl SyncSeen {
    /// The key, if it can be understood and names a leader.
    pub fn active(&self) -> Option<&SyncKey> {
        match self {
            Self::Valid(key) if key.leader.is_some() => Some(key),
            Self::Valid(_) | Self::Absent | Self::Garbage { .. } => None,
        }
    }
    /// The key, if this mode is asked for and active.
    pub fn active_in(&self, mode: SyncMode) -> Option<&SyncKey> {
        self.active().filter(|_| mode != SyncMode::Off)
    }
    /// What a write must compare with; `None`: the key must not exist.
    pub fn revision(&self) -> Option<i64> {
        match self {
            Self::Absent => None,
            Self::Garbage { mod_revision } => Some(*mod_revision),
            Self::Valid(key) => Some(key.mod_revision),
        }
    }
}

/// What is to be done to PostgreSQL for synchronous replication.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum SyncApply {
    /// Wait for these standbys, whatever the user configured, from now on and after a restart.
    Names(StandbyNames),
    /// Wait for those the user configured.
    UserNames,
    /// Write a little WAL without waiting for standbys.
    ForceWal,
}

/// The method of `synchronous_standby_names`.
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug, Default)]
pub enum SyncKind {
    /// `FIRST n`: the first ones of the list that are connected.
    #[default]
    First,
    /// `ANY n`.
    Any,
}

/// What `synchronous_standby_names` means. The order of the list is not kept: where all names must answer, and with
/// `ANY`, it does not matter, and the agent writes nothing else.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct StandbyNames {
    /// The method.
    pub kind: SyncKind,
    /// How many of them a commit waits for; 0 when it waits for none.
    pub number: u32,
    /// The names, the placeholder among them, `*` not.
    pub names: SyncNames,
    /// `*` is among them: any standby counts.
    pub has_star: bool,
}

impl StandbyNames {
    /// No commit waits.
    pub fn none() -> Self {
        Self::default()
    }
    /// Every one of these (none: no commit waits).
    pub fn all(names: SyncNames) -> Self {
        Self { kind: SyncKind::First, number: count(&names), names, has_star: false }
    }
    /// Any `number` of these; none of them or of number 0: no commit waits.
    pub fn any(number: u32, names: SyncNames) -> Self {
        match number.min(count(&names)) {
            0 => Self::none(),
            number => Self { kind: SyncKind::Any, number, names, has_star: false },
        }
    }
    /// Nobody can answer: no commit is acknowledged.
    pub fn blocked(kind: SyncKind) -> Self {
        Self { kind, number: 1, names: SyncNames::from([PLACEHOLDER.into()]), has_star: false }
    }
    /// Does no commit wait?
    pub fn is_none(&self) -> bool {
        self.number == 0
    }
    /// Is it the placeholder and nobody else?
    pub fn is_blocked(&self) -> bool {
        !self.has_star && self.names.len() == 1 && self.names.contains(&PLACEHOLDER.into())
    }
}

fn count(names: &SyncNames) -> u32 {
    u32::try_from(names.len()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_differ_in_more_than_case() {
        let set: SyncNames = ["n1", "N1", "n2"].map(SyncName::from).into();
        assert_eq!(set.len(), 2);
        assert!(set.contains(&"N2".into()) && !set.contains(&"n3".into()));
        assert_ne!(SyncName::from("ä"), SyncName::from("Ä"));
    }

    #[test]
    fn some_names_cannot_be_told_apart_in_the_texts() {
        for usable in ["n1", "a b", "first", "x\"y"] {
            assert!(SyncName::from(usable).is_usable(), "{usable}");
        }
        for bad in ["", " n1", "n1 ", "a,b", "*", PLACEHOLDER, "__PATRONI_STRICT_SYNC_REPLICA_PLACEHOLDER__"] {
            assert!(!SyncName::from(bad).is_usable(), "{bad}");
        }
    }

    #[test]
    fn only_a_readable_key_with_a_leader_is_active() {
        let key = SyncKey { mod_revision: 4, leader: Some("a".into()), ..SyncKey::default() };
        assert!(SyncSeen::Valid(key.clone()).active().is_some());
        assert!(SyncSeen::Valid(SyncKey { leader: None, ..key.clone() }).active().is_none());
        let seen = SyncSeen::Valid(SyncKey { standbys: ["A".into(), "b".into()].into(), ..key.clone() });
        assert!(seen.active_in(SyncMode::On).is_some() && seen.active_in(SyncMode::Quorum).is_some());
        assert_eq!(seen.active_in(SyncMode::Off), None, "whatever an earlier leader left behind");
        let listed = seen.active().unwrap();
        let members = listed.members();
        assert_eq!((members.len(), members.contains(&"B".into())), (2, true), "the leader is counted once");
        assert!(listed.has_member(&"B".into()) && listed.has_member(&"A".into()) && !listed.has_member(&"c".into()));
        assert!(listed.is_led_by(&"A".into()) && !listed.is_led_by(&"b".into()));
        assert_eq!(SyncSeen::Garbage { mod_revision: 3 }.active(), None);
        assert_eq!((SyncSeen::Absent.revision(), SyncSeen::Valid(key).revision()), (None, Some(4)));
    }

    #[test]
    fn nobody_of_many_is_nobody() {
        assert!(StandbyNames::any(0, SyncNames::from(["a".into()])).is_none());
        assert_eq!(StandbyNames::any(3, SyncNames::from(["a".into()])).number, 1);
        assert!(StandbyNames::all(SyncNames::new()).is_none());
        assert!(StandbyNames::blocked(SyncKind::Any).is_blocked() && !StandbyNames::none().is_blocked());
    }
}
