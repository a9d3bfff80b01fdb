//! What the leader tells the others of positions.

use super::{CAN_ADVANCE, major_version, wanted};
use crate::View;
use pgherd_types::{Cluster, Instant, Lsn, RunningServer, SlotKind, StatusKey};
use std::collections::{BTreeMap, BTreeSet};

/// Versions before this one do not know `status`.
const KNOWS_STATUS: (u32, u32, u32) = (2, 1, 0);

/// The value of `status`.
pub fn status(view: &View, cluster: &Cluster, running: &RunningServer, now: Instant) -> StatusKey {
    let optime = running.position();
    if !view.settings.use_slots || major_version(running) < CAN_ADVANCE {
        return StatusKey { optime, ..StatusKey::default() };
    }
    let kept_for_later = !view.settings.member_slots_ttl.is_zero();
    let wants = wanted(view, cluster, running, now);
    let permanent = &view.settings.slots.permanent;
    let position = |slot: &pgherd_types::SeenSlot| {
        let wanted = wants.slots.get(&slot.name)?;
        let published = kept_for_later || permanent.contains_key(&slot.name);
        let same_kind = slot.physical == (wanted.kind == SlotKind::Physical);
        Some((slot.name.clone(), slot.position()?)).filter(|_| published && same_kind && !slot.lost)
    };
    let mut slots: BTreeMap<String, Lsn> = running.slots.iter().filter_map(position).collect();
    if kept_for_later {
        slots.insert(view.me.name.slot_name(), optime);
    }
    let retain_slots = if kept_for_later { retained(view, now) } else { Vec::new() };
    StatusKey { optime, slots, retain_slots }
}

/// What this primary says of its slots when it asks the members whether it may go on without the DCS.
pub fn told_in_failsafe(view: &View, now: Instant) -> BTreeMap<String, Lsn> {
    let running = view.postgres.get().and_then(|p| p.running()).filter(|running| !running.in_recovery);
    let known = view.cluster.get().zip(running);
    known.map(|(cluster, running)| status(view, cluster, running, now).slots).unwrap_or_default()
}

/// Slots of members that are there or went away not long ago. The permanent ones are kept in any case.
fn retained(view: &View, now: Instant) -> Vec<String> {
    let kept = |seen_at: &Instant| now.since(*seen_at) <= view.settings.member_slots_ttl;
    let mut names: BTreeSet<String> =
        view.slots_wanted.iter().filter(|(_, at)| kept(at)).map(|(slot, _)| slot.clone()).collect();
    if !view.me.tags.nostream {
        names.insert(view.me.name.slot_name());
    }
    names.retain(|name| !view.settings.slots.permanent.contains_key(name));
    names.into_iter().collect()
}

/// The position for members that know only the old key, if there is one.
pub fn legacy_optime(cluster: &Cluster, optime: Lsn) -> Option<Lsn> {
    let old = |version: &String| parts(version).is_some_and(|version| version < KNOWS_STATUS);
    cluster.members.values().any(|member| member.doc.version.as_ref().is_some_and(old)).then_some(optime)
}

fn parts(version: &str) -> Option<(u32, u32, u32)> {
    let mut parts = version.split('.').map(|part| part.parse::<u32>().ok());
    let mut next = || parts.next().unwrap_or(Some(0));
    Some((next()?, next()?, next()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::*;
    use pgherd_types::{Decoding, PermanentSlot, SeenSlot};

    fn of(case: Case) -> StatusKey {
        let (view, now) = case.build();
        let cluster = view.cluster.get().unwrap();
        let running = view.postgres.get().unwrap().running().unwrap();
        status(&view, cluster, running, now.mono)
    }
    fn slot(name: &str, physical: bool, at: u64) -> SeenSlot {
        let (name, at) = (name.to_owned(), Some(Lsn(at)));
        SeenSlot { name, physical, restart_lsn: at, confirmed: at.filter(|_| !physical), ..SeenSlot::default() }
    }
    fn leader() -> Case {
        let slots = vec![slot("b", true, 900), slot("cdc", false, 950), slot("foreign", true, 5)];
        primary().with_server(|s| s.slots = slots).with_view(|v| {
            let decoding = Decoding { database: "postgres".into(), plugin: "test_decoding".into() };
            let slot = PermanentSlot { kind: SlotKind::Logical(decoding), in_standby_cluster: None };
            v.settings.slots.permanent.insert("cdc".into(), slot);
        })
    }

    #[test]
    fn the_leader_tells_of_the_slots_it_manages_and_of_itself() {
        let status = of(leader());
        let told: Vec<_> = status.slots.iter().map(|(name, at)| (name.as_str(), at.0)).collect();
        assert_eq!(told, [("a", 1000), ("b", 900), ("cdc", 950)]);
        assert_eq!(status.retain_slots, ["a", "b", "c"]);
        let status = of(leader().with_view(|v| v.settings.member_slots_ttl = std::time::Duration::ZERO));
        assert_eq!(status.slots.keys().collect::<Vec<_>>(), ["cdc"]);
        assert!(status.retain_slots.is_empty());
        assert_eq!(of(leader().with_server(|s| s.server_version = 100_020)).slots, BTreeMap::new());
    }

    #[test]
    fn a_member_that_is_gone_is_retained_for_a_while_also_by_an_agent_that_just_began() {
        let gone = || leader().with_cluster(|c| c.status.retain_slots = vec!["gone".into()]);
        assert_eq!(of(gone()).retain_slots, ["a", "b", "c", "gone"]);
        let (mut view, now) = gone().build();
        view.settings.member_slots_ttl = std::time::Duration::from_secs(30);
        view.slots_wanted.insert("gone".into(), Instant::from_millis(29_999));
        let cluster = view.cluster.get().unwrap().clone();
        view.apply(crate::Observation::Cluster { cluster: cluster.clone(), read_at: now.mono }, now);
        let retained = status(&view, &cluster, &server(false), now.mono).retain_slots;
        assert_eq!(retained, ["a", "b", "c"], "a leader does not begin anew with each reading");
    }

    #[test]
    fn the_old_key_is_written_only_for_members_that_know_no_other() {
        let with = |version: &str| {
            let (version, (view, _)) = (version.to_owned(), replica().build());
            let mut cluster = view.cluster.get().unwrap().as_ref().clone();
            cluster.members.get_mut(&"c".into()).unwrap().doc.version = Some(version);
            legacy_optime(&cluster, Lsn(7))
        };
        assert_eq!(
            (with("4.1.4"), with("2.1.0"), with("2.0.2"), with("1.6")),
            (None, None, Some(Lsn(7)), Some(Lsn(7)))
        );
        assert_eq!(with("garbage"), None);
    }
}
