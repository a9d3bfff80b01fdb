//! Who is synchronous by the `sync` key, and who must come back before anybody may lead.

use pgherd_types::{Cluster, Member, MemberName, SyncMode, SyncName};
use std::collections::BTreeMap;

/// `sync_standby` or `quorum_standby`, if the mode asked for is active and the key lists this member.
pub fn standing(cluster: &Cluster, mode: SyncMode, name: &MemberName) -> Option<&'static str> {
    let key = cluster.sync.active_in(mode)?;
    let word = match mode {
        SyncMode::Off => return None,
        SyncMode::On => "sync_standby",
        SyncMode::Quorum => "quorum_standby",
    };
    key.standbys.contains(&SyncName::from(name)).then_some(word)
}

/// Members of the key without whom nobody may lead.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Awaited {
    /// The last primary, if it is away: it may lead whoever else is there.
    pub last_primary: Option<String>,
    /// The other members of the key that are away.
    pub others: Vec<String>,
    /// So many of them would do without the last primary; more than there are if even all would not.
    pub enough: usize,
}

impl Awaited {
    /// All that are away, by name.
    pub fn names(&self) -> Vec<&str> {
        let mut names: Vec<_> = self.last_primary.iter().chain(&self.others).map(String::as_str).collect();
        names.sort_unstable();
        names
    }
}

/// Whom a cluster without a leader waits for. `None`: somebody leads, or may, or it is nobody's absence that is in the way.
/// One that has every acknowledged commit is among any `quorum` + 1 members of the key.
pub fn awaited(cluster: &Cluster, mode: SyncMode) -> Option<Awaited> {
    let key = cluster.sync.active_in(mode).filter(|_| cluster.leader.is_none())?;
    let there: BTreeMap<_, _> = cluster.members.values().map(|member| (SyncName::from(&member.name), member)).collect();
    let able = |name: &SyncName| there.get(name).is_some_and(|member| could_lead(member));
    let last = key.leader.as_ref().map(SyncName::from)?;
    let members = key.members();
    let (present, needed) = (members.iter().filter(|name| able(name)).count(), key.quorum as usize + 1);
    let away = |name: &&SyncName| !there.contains_key(*name);
    let awaited = Awaited {
        last_primary: Some(&last).filter(away).map(ToString::to_string),
        others: members.iter().filter(|name| **name != last).filter(away).map(ToString::to_string).collect(),
        enough: needed.saturating_sub(present),
    };
    (!able(&last) && awaited.enough > 0 && !awaited.names().is_empty()).then_some(awaited)
}

fn could_lead(member: &Member) -> bool {
    member.doc.state == "running" && member.doc.tags.may_lead()
}

#[cfg(test)]
mod tests {
    use super::*;
    use pgherd_types::{LeaderKey, MemberDoc, SyncKey, SyncSeen};

    fn cluster(key: (&str, u32, &[&str]), members: &[&str]) -> Cluster {
        let (leader, quorum, standbys) = key;
        let standbys = standbys.iter().map(|name| SyncName::from(*name)).collect();
        let doc = MemberDoc { state: "running".into(), ..MemberDoc::default() };
        let member = |name: &&str| ((*name).into(), Member { name: (*name).into(), lease: None, doc: doc.clone() });
        Cluster {
            sync: SyncSeen::Valid(SyncKey { mod_revision: 1, leader: Some(leader.into()), quorum, standbys }),
            members: members.iter().map(member).collect(),
            ..Cluster::default()
        }
    }

    #[test]
    fn a_standby_is_synchronous_while_the_mode_is_active_and_the_key_lists_it() {
        let mut cluster = cluster(("a", 0, &["B"]), &["a", "b", "c"]);
        let of = |cluster: &Cluster, mode, name: &str| standing(cluster, mode, &name.into());
        assert_eq!(of(&cluster, SyncMode::On, "b"), Some("sync_standby"));
        assert_eq!(of(&cluster, SyncMode::Quorum, "b"), Some("quorum_standby"));
        for (mode, name) in [(SyncMode::Off, "b"), (SyncMode::On, "a"), (SyncMode::On, "c")] {
            assert_eq!(of(&cluster, mode, name), None, "{mode:?} {name}");
        }
        let SyncSeen::Valid(key) = cluster.sync.clone() else { panic!() };
        for inactive in
            [SyncSeen::Absent, SyncSeen::Garbage { mod_revision: 1 }, SyncSeen::Valid(SyncKey { leader: None, ..key })]
        {
            cluster.sync = inactive;
            assert_eq!(of(&cluster, SyncMode::On, "b"), None);
        }
    }

    fn waits(key: (&str, u32, &[&str]), members: &[&str], mode: SyncMode) -> Option<(String, usize)> {
        awaited(&cluster(key, members), mode).map(|awaited| (awaited.names().join(" "), awaited.enough))
    }

    #[test]
    fn without_one_who_has_everything_the_cluster_waits_for_those_who_may_have_it() {
        let some = |names: &str, enough| Some((names.to_owned(), enough));
        for (key, members, expected) in [
            (("a", 0, &["b"][..]), &["c"][..], some("a b", 1)),
            (("a", 0, &["b"]), &["B", "c"], None),
            (("a", 0, &["b"]), &["a", "c"], None),
            (("a", 0, &[]), &["b", "c"], some("a", 1)),
            // any two of the four have everything between them, and the last primary has it alone
            (("a", 1, &["b", "c", "d"]), &["b"], some("a c d", 1)),
            (("a", 1, &["b", "c", "d"]), &["b", "c"], None),
            (("a", 1, &["b", "c", "d"]), &["e"], some("a b c d", 2)),
            (("a", 1, &["b", "c", "d"]), &["a"], None),
        ] {
            assert_eq!(waits(key, members, SyncMode::Quorum), expected, "{key:?} {members:?}");
        }
        assert_eq!(waits(("a", 0, &["b"]), &["c"], SyncMode::On), some("a b", 1));
        assert_eq!(waits(("a", 0, &["b"]), &["c"], SyncMode::Off), None, "anybody may lead");
    }

    #[test]
    fn who_is_there_and_cannot_lead_does_not_end_the_waiting_and_is_not_waited_for() {
        let mut cluster = cluster(("a", 0, &["b"]), &["b", "c"]);
        let expected = Awaited { last_primary: Some("a".into()), others: vec![], enough: 1 };
        cluster.members.get_mut(&"b".into()).unwrap().doc.tags.nofailover = true;
        assert_eq!(awaited(&cluster, SyncMode::On), Some(expected.clone()));
        let doc = &mut cluster.members.get_mut(&"b".into()).unwrap().doc;
        (doc.tags.nofailover, doc.state) = (false, "start failed".into());
        assert_eq!(awaited(&cluster, SyncMode::On), Some(expected));
        cluster.members.insert("a".into(), Member { name: "a".into(), lease: None, doc: MemberDoc::default() });
        assert_eq!(awaited(&cluster, SyncMode::On), None, "all are there");
        cluster.members.clear();
        cluster.leader = Some(LeaderKey { name: "c".into(), lease: None });
        assert_eq!(awaited(&cluster, SyncMode::On), None, "somebody leads");
    }
}
