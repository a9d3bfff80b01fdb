//! What counts only while the server has a role: `parameters_<role>`, `pg_hba_<role>`, `pg_ident_<role>`.

use std::collections::BTreeMap;

/// The roles that settings can be given for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum RoleClass {
    /// Out of recovery.
    Primary,
    /// In recovery.
    Replica,
    /// In recovery, and the leader of a standby cluster.
    StandbyLeader,
}

impl RoleClass {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Primary, Self::Replica, Self::StandbyLeader];

    /// The last part of the keys' names.
    pub const fn suffix(self) -> &'static str {
        match self {
            Self::Primary => "primary",
            Self::Replica => "replica",
            Self::StandbyLeader => "standby_leader",
        }
    }
}

/// The settings of one role; what is `None` is not set for it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Overlay {
    /// Count over `parameters`.
    pub parameters: Option<BTreeMap<String, String>>,
    /// Instead of `pg_hba`.
    pub pg_hba: Option<Vec<String>>,
    /// Instead of `pg_ident`.
    pub pg_ident: Option<Vec<String>>,
}

impl Overlay {
    /// This one, and what it does not say from the other.
    pub(crate) fn over(self, other: Self) -> Self {
        Self {
            parameters: self.parameters.or(other.parameters),
            pg_hba: self.pg_hba.or(other.pg_hba),
            pg_ident: self.pg_ident.or(other.pg_ident),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}
