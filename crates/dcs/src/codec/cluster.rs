//! All keys of one reading to a [`Cluster`].

use super::{Complaint, Faults, manual, member, scalars};
use crate::Layout;
use pgherd_types::{Cluster, LeaderKey, LeaseId, Lsn, Member, MemberName};

/// One key as the store has it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct KeyValue {
    /// The full key.
    pub key: Vec<u8>,
    /// Its value.
    pub value: Vec<u8>,
    /// Revision of its creation.
    pub create_revision: i64,
    /// Revision of its last change.
    pub mod_revision: i64,
    /// The lease it hangs on.
    pub lease: Option<LeaseId>,
}

/// Puts the keys of one reading together. Keys that are none of ours are passed over.
pub fn cluster(layout: &Layout, revision: i64, keys: &[KeyValue]) -> (Cluster, Vec<Complaint>) {
    let mut cluster = Cluster { revision, ..Cluster::default() };
    let mut complaints = Vec::new();
    let mut legacy_optime = None;
    let (mut status_at, mut leader_since) = (0, i64::MAX);
    for kv in keys {
        let mut faults = Faults::default();
        match kv.key.strip_prefix(layout.prefix().as_bytes()).unwrap_or_default() {
            b"initialize" => cluster.initialize = Some(scalars::initialize(&kv.value, kv.lease, &mut faults)),
            b"leader" => {
                cluster.leader = Some(leader(kv, &mut faults));
                leader_since = kv.create_revision;
            }
            b"status" => {
                cluster.status = scalars::status(&kv.value, &mut faults);
                status_at = kv.mod_revision;
            }
            b"optime/leader" => legacy_optime = Some(kv),
            b"history" => cluster.history = scalars::history(&kv.value, &mut faults),
            b"timeline" => cluster.timeline_reserved = timeline(kv, &mut faults),
            b"config" => cluster.config = Some(scalars::config(&kv.value, kv.mod_revision, &mut faults)),
            b"failover" => cluster.failover = Some(manual::failover(&kv.value, kv.mod_revision, &mut faults)),
            b"sync" => {
                let (seen, fault) = super::sync::decode_sync(&kv.value, kv.mod_revision);
                cluster.sync = seen;
                if let Some(what) = fault {
                    faults.add(&what);
                }
            }
            b"failsafe" => cluster.failsafe = manual::failsafe(&kv.value, &mut faults),
            rest => {
                if let Some(name) = rest.strip_prefix(b"members/").filter(|n| !n.is_empty() && !n.contains(&b'/')) {
                    let member = named_member(name, kv, &mut faults);
                    cluster.members.insert(member.name.clone(), member);
                }
            }
        }
        complaints.extend(faults.into_text().map(|what| complaint(kv, what)));
    }
    cluster.status_is_leaders = status_at > leader_since;
    if let Some(kv) = legacy_optime.filter(|_| cluster.status.optime.is_zero()) {
        cluster.status.optime = legacy_position(kv);
    }
    (cluster, complaints)
}

fn complaint(kv: &KeyValue, what: String) -> Complaint {
    Complaint { key: printable(&kv.key), mod_revision: kv.mod_revision, what }
}

fn printable(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).chars().map(|c| if c.is_control() { '?' } else { c }).collect()
}

/// The name is taken as it is: whatever it says, the key exists and nobody else may take it.
fn leader(kv: &KeyValue, faults: &mut Faults) -> LeaderKey {
    if kv.value.is_empty() || std::str::from_utf8(&kv.value).is_err() {
        faults.add("not a member name; the lock counts as held by an unknown member until the key is gone");
    }
    LeaderKey { name: MemberName(String::from_utf8_lossy(&kv.value).into_owned()), lease: kv.lease }
}

fn timeline(kv: &KeyValue, faults: &mut Faults) -> Option<pgherd_types::Timeline> {
    let timeline = scalars::read_timeline(&kv.value);
    if timeline.is_none() {
        faults.add("not a timeline number; taken as absent");
    }
    timeline
}

fn named_member(name: &[u8], kv: &KeyValue, faults: &mut Faults) -> Member {
    let name = MemberName(String::from_utf8_lossy(name).into_owned());
    Member { name, lease: kv.lease, doc: member::decode_member(&kv.value, faults) }
}

/// What versions before 2.1 wrote; `status` wins where it says anything.
fn legacy_position(kv: &KeyValue) -> Lsn {
    Lsn(std::str::from_utf8(&kv.value).ok().and_then(|text| text.trim().parse().ok()).unwrap_or(0))
}
