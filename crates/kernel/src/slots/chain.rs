//! By whom a member is fed: cascading by `replicatefrom`, and what follows from it for slots and for
//! `hot_standby_feedback`.

use crate::View;
use pgherd_types::{Cluster, Member, MemberName, PermanentSlot, Settings, SlotKind, Tags};

/// The members between this one and the leader, nearest first; `None` if WAL does not come that way (`nostream`) or the
/// tags run in a circle.
pub(super) fn way_to_leader<'c>(cluster: &'c Cluster, name: &MemberName, tags: &Tags) -> Option<Vec<&'c Member>> {
    let leader = cluster.leader.as_ref().map(|leader| &leader.name);
    let mut way: Vec<&Member> = Vec::new();
    let (mut at, mut tags) = (name, tags);
    loop {
        if tags.nostream {
            return None;
        }
        let next = tags.replicatefrom.as_deref().and_then(|from| cluster.members.get(&MemberName::from(from)));
        let Some(next) = next.filter(|next| Some(&next.name) != leader && Some(at) != leader) else { return Some(way) };
        if next.name == *name || way.iter().any(|passed| passed.name == next.name) {
            return None;
        }
        way.push(next);
        (at, tags) = (&next.name, &next.doc.tags);
    }
}

/// Does a member with these tags keep the permanent logical slots?
fn keeps_logical(view: &View, cluster: &Cluster, name: &MemberName, tags: &Tags) -> bool {
    applying(&view.settings).next().is_some() && tags.may_lead() && way_to_leader(cluster, name, tags).is_some()
}

/// Copies that the server made of slots that were wanted: nobody but the server may drop them, and it does so only while it
/// copies slots, which needs feedback.
fn has_servers_copies(view: &View) -> bool {
    let running = view.postgres.get().and_then(|p| p.running());
    running.is_some_and(|running| running.slots.iter().any(|slot| slot.synced && slot.managed))
}

/// The permanent logical slots of this cluster; a standby cluster has none.
pub(super) fn applying(settings: &Settings) -> impl Iterator<Item = &String> {
    let here = |slot: &PermanentSlot| {
        matches!(slot.kind, SlotKind::Logical(_))
            && slot.in_standby_cluster != Some(true)
            && settings.use_slots
            && settings.standby_cluster.is_none()
    };
    settings.slots.permanent.iter().filter(move |(_, slot)| here(slot)).map(|(name, _)| name)
}

/// Must this node tell its upstream which rows it still needs (`hot_standby_feedback`)? It has logical slots to keep, or
/// feeds a member that has. `None` while that is not known.
pub fn feedback(view: &View) -> Option<bool> {
    let cluster = view.cluster.get().filter(|cluster| cluster.config.as_ref().is_some_and(|config| config.valid))?;
    let me = &view.me;
    if keeps_logical(view, cluster, &me.name, &me.tags) || has_servers_copies(view) {
        return Some(true);
    }
    let feeds = cluster.members.values().filter(|member| member.name != me.name).any(|member| {
        let way = way_to_leader(cluster, &member.name, &member.doc.tags);
        let passes = way.is_some_and(|way| way.iter().any(|passed| passed.name == me.name));
        passes && keeps_logical(view, cluster, &member.name, &member.doc.tags)
    });
    Some(feeds)
}

/// Can this server copy logical slots of its primary (PostgreSQL 17 and later)? Not from another standby, and not while
/// slots of its own are in the way: a former primary's are dropped first. `None` while that is not known.
pub fn server_may_copy(view: &View) -> Option<bool> {
    let (running, cluster) = (view.postgres.get()?.running()?, view.cluster.get()?);
    let in_the_way = running.slots.iter().any(|slot| slot.failover && !slot.synced);
    let by_the_leader = way_to_leader(cluster, &view.me.name, &view.me.tags).is_some_and(|way| way.is_empty());
    Some(by_the_leader && !in_the_way)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::*;
    use pgherd_types::Decoding;

    fn with_slot(case: Case) -> Case {
        case.with_view(|v| {
            let decoding = Decoding { database: "postgres".into(), plugin: "test_decoding".into() };
            let slot = PermanentSlot { kind: SlotKind::Logical(decoding), in_standby_cluster: None };
            v.settings.slots.permanent.insert("cdc".into(), slot);
        })
    }
    fn tagged(case: Case, name: &'static str, change: impl FnOnce(&mut Tags)) -> Case {
        case.with_cluster(|c| change(&mut c.members.get_mut(&name.into()).unwrap().doc.tags))
    }

    #[test]
    fn feedback_is_wanted_where_logical_slots_are_kept_and_above_them() {
        assert_eq!(feedback(&replica().build().0), Some(false));
        assert_eq!(feedback(&with_slot(replica()).build().0), Some(true));
        let barred = || with_slot(replica()).with_view(|v| v.me.tags.nofailover = true);
        assert_eq!(feedback(&barred().build().0), Some(false));
        let below = |nostream| {
            tagged(barred(), "c", move |tags| (tags.replicatefrom, tags.nostream) = (Some("a".into()), nostream))
        };
        assert_eq!(feedback(&below(false).build().0), Some(true));
        assert_eq!(feedback(&below(true).build().0), Some(false));
        assert_eq!(feedback(&with_slot(replica()).with_cluster(|c| c.config = None).build().0), None);
        let copy = |managed| pgherd_types::SeenSlot { synced: true, managed, ..Default::default() };
        let left = |managed| feedback(&replica().with_server(|s| s.slots = vec![copy(managed)]).build().0);
        assert_eq!((left(true), left(false)), (Some(true), Some(false)), "until the server has dropped its copy");
    }

    #[test]
    fn a_server_copies_slots_once_those_of_a_former_primary_are_gone() {
        let slot = |synced| pgherd_types::SeenSlot { failover: true, synced, ..Default::default() };
        let may = |case: Case| server_may_copy(&case.build().0);
        assert_eq!(may(replica()), Some(true));
        assert_eq!(may(replica().with_server(|s| s.slots = vec![slot(true), slot(false)])), Some(false));
        assert_eq!(may(replica().with_server(|s| s.slots = vec![slot(true)])), Some(true));
        assert_eq!(may(replica().stopped()), None);
        let fed_by = |name: &'static str| replica().with_view(|v| v.me.tags.replicatefrom = Some(name.into()));
        assert_eq!((may(fed_by("b")), may(fed_by("c"))), (Some(true), Some(false)), "b leads");
    }

    #[test]
    fn a_circle_leads_nowhere() {
        let case = tagged(with_slot(replica()), "c", |tags| tags.replicatefrom = Some("a".into()));
        let case = tagged(case, "a", |tags| tags.replicatefrom = Some("c".into()));
        let (view, _) = case.with_view(|v| v.me.tags.replicatefrom = Some("c".into())).build();
        assert_eq!(way_to_leader(view.cluster.get().unwrap(), &view.me.name, &view.me.tags), None);
        assert_eq!(feedback(&view), Some(false));
    }
}
