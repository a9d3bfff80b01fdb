//! Failsafe mode: a primary goes on without the DCS while every member of the topology promises not to race (spec/ha.md 15).

use crate::asked::{ANSWER_GRACE, Ask};
use crate::{Lock, View};
use pgherd_types::{Cluster, DcsWrite, Instant, MemberName};
use std::collections::BTreeMap;
use std::time::Duration;

/// Members and their APIs, as the key `failsafe` has them.
pub type Topology = BTreeMap<MemberName, String>;

/// How long a member may take to agree that a primary goes on without the DCS.
pub const PATIENCE: Duration = Duration::from_secs(2);

/// A refusal is asked about again after this long.
const ASK_AGAIN: Duration = Duration::from_millis(500);

/// Whom to ask when the DCS is lost: every member, also one whose key went a moment ago.
pub fn members(view: &View, now: Instant) -> Topology {
    let lately = |name: &MemberName| {
        view.member_seen.get(name).is_some_and(|at| now < *at + view.settings.ttl + view.settings.loop_wait)
    };
    let mut members: Topology =
        view.known_apis.iter().filter(|(name, _)| lately(name)).map(|(n, api)| (n.clone(), api.clone())).collect();
    members.insert(view.me.name.clone(), view.me.api_url.clone());
    members
}

/// Without the DCS: whom this leader asks, and when. So often that a refusal can be mended before the fence.
pub fn question(view: &View, cluster: &Cluster) -> Option<(Instant, Topology)> {
    let lost_since = view.dcs_lost_since.filter(|_| view.settings.failsafe_mode && !view.settings.pause)?;
    let members = topology(view, cluster).filter(|members| members.contains_key(&view.me.name))?;
    let usable = view.lease.usable()?;
    let due = match &view.asked.failsafe {
        Some(ask) if ask.at >= lost_since => match ask.answer {
            None => ask.at + PATIENCE + ANSWER_GRACE,
            Some((_, true)) => ask.at + (usable * 2 / 5).min(view.settings.loop_wait),
            Some((at, false)) => at + ASK_AGAIN,
        },
        _ => lost_since + view.settings.retry_timeout.min(usable / 4),
    };
    Some((due, members))
}

/// Everybody whom the DCS may allow to race by now: as the key was read, and as this leader wrote it since. Whoever is left out
/// has promised nothing. A key of which only an unanswered write is known may be absent, and then it holds nobody back.
fn topology(view: &View, cluster: &Cluster) -> Option<Topology> {
    let read_at = view.cluster.when()?;
    let unsettled = |ask: &&Ask<DcsWrite>| {
        let lost_at = ask.at + view.settings.retry_timeout + ANSWER_GRACE;
        read_at < ask.answer.map_or(lost_at, |(at, _)| at)
    };
    let written = view.asked.writes.get("failsafe").filter(unsettled);
    let (granted, written) = match written.map(|ask| (ask.answer, &ask.what)) {
        Some((answer, DcsWrite::Failsafe(members))) => (answer.is_some_and(|(_, yes)| yes), Some(members)),
        _ => (false, None),
    };
    match (&cluster.failsafe, written) {
        (None, written) => written.filter(|_| granted).cloned(),
        (Some(read), None) => Some(read.clone()),
        (Some(read), Some(written)) => {
            let mut all = read.clone();
            all.extend(written.clone());
            Some(all)
        }
    }
}

/// May this node agree that another one goes on as the primary without the DCS? Not while it leads, or may be about to.
pub fn may_promise(view: &View, now: Instant) -> bool {
    let leads = view.lock(now) != Lock::No || view.key_is_ours();
    let asks = view.asked.acquire.as_ref().is_some_and(|ask| ask.pending(now, view.settings.retry_timeout));
    let unknown = view.asked.acquire.as_ref().is_some_and(|ask| {
        // an acquisition whose fate is not known may yet turn out to have worked
        matches!(ask.answer, Some((at, false)) if now < at + view.settings.ttl) && view.acquire_unsure
    });
    view.settings.failsafe_mode && !view.may_be_writable() && !view.becomes_writable() && !leads && !asks && !unknown
}

#[cfg(test)]
mod tests {
    use crate::asked::Ask;
    use crate::testing::*;
    use crate::{Observation, decide};
    use pgherd_types::*;

    /// A leader in failsafe mode that has just lost the DCS.
    fn without_dcs() -> (crate::View, Now) {
        let members = ["a", "b", "c"].map(|name| (name.into(), format!("http://{name}:8008/patroni")));
        let case = primary()
            .with_view(|v| v.settings.failsafe_mode = true)
            .with_cluster(|c| c.failsafe = Some(members.into_iter().collect()));
        let (mut view, now) = case.build();
        view.apply(Observation::DcsLost { since: now.mono }, now);
        (view, now)
    }
    fn at(ms: u64) -> Now {
        Now { mono: Instant::from_millis(ms), ..Now::default() }
    }
    /// All are asked then, and answer.
    fn asked(view: &mut crate::View, ms: u64, refused: Vec<(MemberName, String)>) {
        let decision = decide(view, at(ms));
        let (round, members) = decision.upkeep.failsafe.clone().expect("all members are asked");
        assert_eq!(members.len(), 3);
        view.dispatched(&decision, at(ms));
        view.apply(Observation::FailsafeAsked { round, asked_at: Instant::from_millis(ms), refused }, at(ms + 100));
    }

    #[test]
    fn a_primary_goes_on_without_the_dcs_while_all_members_agree() {
        let (mut view, _) = without_dcs();
        assert_eq!(decide(&view, at(66_749)).upkeep.failsafe, None, "the DCS is given a moment");
        asked(&mut view, 66_750, vec![]);
        let decision = decide(&view, at(85_000));
        assert_eq!(decision.because.id(), "FailsafeActive", "beyond what etcd promised");
        let last = Instant::from_millis(66_750 + 27_000);
        let FenceOrder::Armed { stop_at, .. } = view.fence_order(at(85_000).mono) else { panic!() };
        assert_eq!(stop_at, last);
        assert_eq!(name_of(&decide(&view, Now { mono: last, ..Now::default() }).role), "Stop Immediate");
    }

    #[test]
    fn one_refusal_is_enough_for_the_fence() {
        let (mut view, _) = without_dcs();
        asked(&mut view, 70_000, vec![("c".into(), "no answer".into())]);
        assert_eq!(decide(&view, at(84_999)).because.id(), "LeaderHoldsWithoutDcs");
        assert!(decide(&view, at(70_700)).upkeep.failsafe.is_some(), "it is asked again");
        assert_eq!(name_of(&decide(&view, at(85_000)).role), "Stop Immediate");
    }

    #[test]
    fn a_lease_that_lapsed_meanwhile_is_taken_anew_and_a_stranger_in_the_key_ends_writes() {
        let (mut view, _) = without_dcs();
        asked(&mut view, 70_000, vec![]);
        view.apply(Observation::LeaseRefused { why: Refused::LeaseGone }, at(90_000));
        assert!(matches!(view.lock(at(90_000).mono), crate::Lock::Vanished { .. }));
        let grant = LeaseGrant {
            lease: LeaseId(77),
            sent_at: Instant::from_millis(90_100),
            ttl_ms: 30_000,
            asked_ttl_ms: None,
        };
        view.apply(Observation::LeaseRenewed { grant, leader_proven: false }, at(90_200));
        let decision = decide(&view, at(90_201));
        assert_eq!(
            (name_of(&decision.role).as_str(), decision.because.id().as_str()),
            ("Acquire", "TakingLapsedKeyAgain")
        );
        view.apply(Observation::AcquireRefused(Refused::Compare), at(90_300));
        assert_eq!(name_of(&decide(&view, at(90_301)).role), "Stop Immediate");
    }

    #[test]
    fn the_leader_writes_down_whom_to_ask() {
        let case = primary().with_view(|v| v.settings.failsafe_mode = true);
        let decision = check(case, "Hold", "LeaderWithLock");
        let written =
            decision.upkeep.writes.iter().find_map(|w| if let DcsWrite::Failsafe(m) = w { Some(m) } else { None });
        assert_eq!(written.unwrap().keys().map(MemberName::as_str).collect::<Vec<_>>(), ["a", "b", "c"]);
    }

    #[test]
    fn an_agreement_that_comes_after_the_lead_has_run_out_is_void() {
        let (mut view, _) = without_dcs();
        let decision = decide(&view, at(84_000));
        let (round, _) = decision.upkeep.failsafe.clone().expect("all members are asked");
        view.dispatched(&decision, at(84_000));
        let asked_at = Instant::from_millis(84_000);
        view.apply(Observation::FailsafeAsked { round, asked_at, refused: vec![] }, at(85_500));
        assert_eq!(view.lock(at(85_500).mono), crate::Lock::No);
    }

    #[test]
    fn who_leads_or_is_about_to_promises_nothing() {
        let may = |case: Case| {
            let (view, now) = case.with_view(|v| v.settings.failsafe_mode = true).build();
            super::may_promise(&view, now.mono)
        };
        assert!(may(replica()) && may(replica().unlocked()));
        assert!(!may(primary()) && !may(replica().locked()), "it has the key");
        let asked = |answer| {
            replica().unlocked().with_view(move |v| {
                let ask = crate::asked::Ask { what: (), at: Instant::from_millis(59_900), answer };
                v.asked.acquire = Some(ask);
                v.acquire_unsure = true;
            })
        };
        assert!(!may(asked(None)), "it is asking for the key");
        assert!(!may(asked(Some((Instant::from_millis(59_950), false)))), "whether it got the key is not known");
        let (view, now) = replica().build();
        assert!(!super::may_promise(&view, now.mono), "the mode is off");
    }

    #[test]
    fn a_member_that_the_key_may_name_by_now_is_asked_too() {
        let key =
            |names: &[&str]| names.iter().map(|name| ((*name).into(), format!("http://{name}/patroni"))).collect();
        let asked_after = |read: Option<&[&str]>, written: &[&str], answer, sent_before: u64| {
            let (mut view, _) = without_dcs();
            let mut cluster = view.cluster.get().unwrap().as_ref().clone();
            cluster.failsafe = read.map(key);
            let read_at = Instant::from_millis(59_000);
            view.cluster = crate::Seen::At(std::sync::Arc::new(cluster.clone()), read_at);
            let what = DcsWrite::Failsafe(key(written));
            view.asked.writes.insert("failsafe", Ask { what, at: Instant::from_millis(59_000 - sent_before), answer });
            let asked = super::question(&view, &cluster).map(|(_, members)| members.into_keys().collect::<Vec<_>>());
            asked.map(|names| names.iter().map(|name| name.as_str()).collect::<String>())
        };
        let asked = |read: Option<&[&str]>, written: &[&str], answer| asked_after(read, written, answer, 1000);
        let (before, after) = (Instant::from_millis(58_500), Instant::from_millis(59_500));
        let both = Some("abc".to_owned());
        assert_eq!(asked(Some(&["a", "b"]), &["a", "c"], None), both, "the write may have worked");
        assert_eq!(asked(Some(&["a", "b"]), &["a", "c"], Some((after, true))), both, "the reading is older");
        assert_eq!(
            asked(Some(&["a", "b"]), &["a", "c"], Some((after, false))),
            both,
            "it may have worked all the same"
        );
        assert_eq!(asked(Some(&["a", "b"]), &["a", "c"], Some((before, true))), Some("ab".into()), "read since");
        assert_eq!(asked_after(Some(&["a", "b"]), &["a", "c"], None, 12_000), Some("ab".into()), "its answer is lost");
        assert_eq!(asked(None, &["a", "c"], Some((after, true))), Some("ac".into()), "it is there");
        assert_eq!(asked(None, &["a", "c"], None), None, "without a key anybody may race");
        assert_eq!(asked(None, &["a", "c"], Some((after, false))), None);
    }
}
