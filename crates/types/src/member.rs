//! Members of a cluster as their keys describe them.

use crate::{LeaseId, Lsn, ScheduledRestart, Tags, Timeline};
use serde::Serialize;
use std::fmt;

/// A member's name, unique in its cluster.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize)]
#[serde(transparent)]
pub struct MemberName(pub String);

impl MemberName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
    /// The replication slot that belongs to this member: lower case, `-` and `.` as `_`, any other character outside
    /// `[a-z0-9_]` as `u` and its code point in decimal, cut to 63 characters (spec/slots.md 1).
    pub fn slot_name(&self) -> String {
        let mut slot = String::new();
        for c in self.0.chars().flat_map(char::to_lowercase) {
            match c {
                'a'..='z' | '0'..='9' | '_' => slot.push(c),
                '-' | '.' => slot.push('_'),
                other => slot.push_str(&format!("u{:04}", u32::from(other))),
            }
        }
        slot.chars().take(63).collect()
    }
}

impl fmt::Display for MemberName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl From<&str> for MemberName {
    fn from(name: &str) -> Self {
        Self(name.to_owned())
    }
}

/// The role shown in the member key and in REST (spec/postgres-control.md 1).
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug, Default)]
pub enum Role {
    /// Out of recovery.
    Primary,
    /// Promotion was sent, the end of recovery is not yet confirmed.
    Promoted,
    /// In recovery.
    Replica,
    /// Leads a standby cluster.
    StandbyLeader,
    /// Was primary, was stopped.
    Demoted,
    /// No data directory.
    #[default]
    Uninitialized,
}

impl Role {
    /// The text on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Primary => "primary",
            Self::Promoted => "promoted",
            Self::Replica => "replica",
            Self::StandbyLeader => "standby_leader",
            Self::Demoted => "demoted",
            Self::Uninitialized => "uninitialized",
        }
    }
    /// Reads the wire form; `master` is the old word for primary.
    pub fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "primary" | "master" => Self::Primary,
            "promoted" => Self::Promoted,
            "replica" => Self::Replica,
            "standby_leader" => Self::StandbyLeader,
            "demoted" => Self::Demoted,
            "uninitialized" => Self::Uninitialized,
            _ => return None,
        })
    }
}

/// What a member says of itself: the value of `members/<name>`.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct MemberDoc {
    /// `postgres://host:port/db`.
    pub conn_url: Option<String>,
    /// `http(s)://host:port/patroni`.
    pub api_url: Option<String>,
    /// `postgres://host:port/db` of a connection pooler before it.
    pub proxy_url: Option<String>,
    /// PostgreSQL's state as text (spec/postgres-control.md 1), any text on reading.
    pub state: String,
    /// The role.
    pub role: Option<Role>,
    /// The Patroni version it behaves like.
    pub version: Option<String>,
    /// Our own version; `None` for a Patroni member.
    pub pgherd: Option<String>,
    /// Its tags.
    pub tags: Tags,
    /// Flush position on a primary, the larger of receive and replay on a standby.
    pub xlog_location: Option<Lsn>,
    /// Standby only.
    pub receive_lsn: Option<Lsn>,
    /// Standby only.
    pub replay_lsn: Option<Lsn>,
    /// `streaming` or `in archive recovery`.
    pub replication_state: Option<String>,
    /// Its timeline, when known.
    pub timeline: Option<Timeline>,
    /// A restart of its PostgreSQL is pending.
    pub pending_restart: bool,
    /// Which settings wait for it: name, value in force, value wanted.
    pub pending_restart_reason: Vec<(String, String, String)>,
    /// A restart is scheduled.
    pub scheduled_restart: Option<ScheduledRestart>,
    /// The node has seen that maintenance mode is on.
    pub pause: bool,
    /// A new primary whose control file still shows the old timeline (`checkpoint_after_promote` is false): nobody may
    /// rewind from it yet.
    pub checkpoint_pending: bool,
    /// Why the member does not do what is expected of it, as text; our own field (`pgherd_reason`).
    pub trouble: Option<String>,
    /// Our own field, of a leader in a synchronous mode: `synchronous_standby_names` in force.
    pub sync_names: Option<String>,
}

impl MemberDoc {
    /// Host and port of `conn_url`; the port is 5432 if the URL has none.
    pub fn endpoint(&self) -> Option<(String, u16)> {
        let url = self.conn_url.as_deref()?;
        let rest = url.strip_prefix("postgres://").or_else(|| url.strip_prefix("postgresql://"))?;
        let authority = rest.split(['/', '?']).next()?.rsplit('@').next()?;
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) if !port.contains(']') => (host, port.parse().ok()?),
            _ => (authority, 5432),
        };
        let host = host.trim_start_matches('[').trim_end_matches(']');
        (!host.is_empty()).then(|| (host.to_owned(), port))
    }
    /// The same document without what changes with every write to the database.
    pub fn without_positions(&self) -> Self {
        Self { xlog_location: None, receive_lsn: None, replay_lsn: None, ..self.clone() }
    }
}

/// A member key.
#[derive(Clone, PartialEq, Debug)]
pub struct Member {
    /// The last part of the key.
    pub name: MemberName,
    /// The lease the key hangs on.
    pub lease: Option<LeaseId>,
    /// The parsed value; all defaults when it was garbage.
    pub doc: MemberDoc,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_are_read_from_connection_urls() {
        let of = |url: &str| MemberDoc { conn_url: Some(url.into()), ..MemberDoc::default() }.endpoint();
        assert_eq!(of("postgres://10.0.0.1:5433/postgres"), Some(("10.0.0.1".into(), 5433)));
        assert_eq!(of("postgresql://db.example/x"), Some(("db.example".into(), 5432)));
        assert_eq!(of("postgres://[::1]:5434/x?y=z"), Some(("::1".into(), 5434)));
        assert_eq!(of("postgres://[::1]/x"), Some(("::1".into(), 5432)));
        for bad in ["", "http://a:1/", "postgres://", "postgres://a:99999/x"] {
            assert_eq!(of(bad), None, "{bad}");
        }
    }

    #[test]
    fn slot_names_follow_the_rule() {
        for (name, slot) in [("pg-1.a", "pg_1_a"), ("A@b", "au0064b"), ("ä", "u0228"), ("x_9", "x_9")] {
            assert_eq!(MemberName::from(name).slot_name(), slot);
        }
        assert_eq!(MemberName::from("n".repeat(80).as_str()).slot_name().len(), 63);
    }
}
