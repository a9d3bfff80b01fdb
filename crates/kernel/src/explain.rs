//! What would be decided elsewhere, or otherwise: the kernel is asked about views that are changed. No rule is repeated
//! here; only views are made from what this node knows, and `decide` judges them.
//!
//! What another member knows of itself is taken from its member key, which is as old as its last writing: an answer is as
//! good as that. It may differ from what the member decides when its time comes.

use crate::view::{Me, PeerRound, Seen};
use crate::{Action, Decision, LeaseView, Reason, View, asked::Asked, decide};
use pgherd_types::postgres::ControlState;
use pgherd_types::{
    Cluster, ControlData, DataDirectory, Instant, LeaseGrant, LeaseId, Lsn, Member, MemberName, Now, PeerAnswer,
    PeerReport, PeerSaid, PostgresState, Role, RunningServer, Server, SystemId, Timeline, millis,
};
use std::sync::Arc;
use std::time::Duration;

/// So many members are judged; a cluster with more has other worries.
pub const MEMBERS_MAX: usize = 64;

/// Could this member lead, if nobody did now?
#[derive(Clone, PartialEq, Debug)]
pub struct Candidate {
    /// Who.
    pub name: MemberName,
    /// It leads.
    pub leads: bool,
    /// It would take the leader key.
    pub could_lead: bool,
    /// The rule that says so.
    pub because: Reason,
}

/// Every member, and what it would decide if the leader were gone now. Whoever leads is not asked.
pub fn candidates(view: &View, now: Now) -> Vec<Candidate> {
    let Some(cluster) = view.cluster.get() else { return Vec::new() };
    let leader = leader(view, cluster, now);
    let judge = |name: &MemberName| match &leader {
        Some(leader) if leader == name => leading(view, name, now),
        _ => {
            let decision = decide(&leaderless(view, cluster, name, now), now);
            let could_lead = decision.role == Action::Acquire;
            Candidate { name: name.clone(), leads: false, could_lead, because: decision.because }
        }
    };
    cluster.members.keys().take(MEMBERS_MAX).map(judge).collect()
}

/// Those who are left if the leader dies now; who of them could lead would.
pub fn successors(view: &View, now: Now) -> Vec<Candidate> {
    candidates(view, now).into_iter().filter(|candidate| !candidate.leads).collect()
}

/// What this node would decide if the leader died now; `None`: it is the one.
pub fn without_leader(view: &View, now: Now) -> Option<Decision> {
    let cluster = view.cluster.get()?;
    let lost = leader(view, cluster, now);
    (lost.as_ref() != Some(&view.me.name)).then(|| decide(&leaderless(view, cluster, &view.me.name, now), now))
}

fn leading(view: &View, name: &MemberName, now: Now) -> Candidate {
    let because = match *name == view.me.name {
        true => decide(view, now).because,
        false => Reason::LeaderWithLock { me: name.clone() },
    };
    Candidate { name: name.clone(), leads: true, could_lead: true, because }
}

fn leader(view: &View, cluster: &Cluster, now: Now) -> Option<MemberName> {
    let ours = view.leads(now.mono).then(|| view.me.name.clone());
    ours.or_else(|| cluster.leader.as_ref().map(|leader| leader.name.clone()))
}

/// What `name` would see if the leader had just been lost with its node, and everybody else had answered.
fn leaderless(view: &View, cluster: &Arc<Cluster>, name: &MemberName, now: Now) -> View {
    let lost = leader(view, cluster, now);
    let mut seen = Cluster::clone(cluster);
    seen.leader = None;
    if let Some(lost) = &lost {
        seen.members.remove(lost);
    }
    let others = cluster.members.values().filter(|member| member.name != *name);
    let report = |member: &Member| {
        let answer = match &lost {
            Some(lost) if member.name == *lost => PeerAnswer::Silent("it is lost".to_owned()),
            _ => answer_of(view, member, now.mono),
        };
        PeerReport { name: member.name.clone(), answer }
    };
    let reports = others.clone().map(report).collect();
    let apis = others.filter_map(|member| Some((member.name.clone(), member.doc.api_url.clone()?)));
    let (lease, ttl_ms) = (LeaseId(1), millis(view.settings.ttl));
    let mut changed = View {
        known_apis: apis.collect(),
        cluster: Seen::At(Arc::new(seen), now.mono),
        dcs_lost_since: None,
        leaderless_since: Some(now.mono),
        peers: Some(PeerRound { asked_at: now.mono, reports }),
        asked: Asked::default(),
        moved_at: None,
        handover: None,
        pending: None,
        scheduled_restart: None,
        releasing: None,
        named: true,
        ..view.clone()
    };
    let own = LeaseGrant { lease, sent_at: now.mono, ttl_ms, asked_ttl_ms: Some(ttl_ms) };
    changed.lease = LeaseView { current: Some(own), ..LeaseView::default() };
    if *name != view.me.name
        && let Some(member) = cluster.members.get(name)
    {
        become_member(&mut changed, member, now);
    } else if let Some(postgres) = view.postgres.get() {
        changed.postgres =
            Seen::At(Arc::new(PostgresState { looked_at: now.mono, ..PostgresState::clone(postgres) }), now.mono);
    }
    changed
}

/// The answer that this member would give, as far as it can be known here.
fn answer_of(view: &View, member: &Member, now: Instant) -> PeerAnswer {
    if member.name == view.me.name {
        return own_answer(view, now);
    }
    if member.doc.state != "running" {
        return PeerAnswer::Silent(format!("its PostgreSQL is {}", member.doc.state));
    }
    let leads_elsewhere = matches!(member.doc.role, Some(Role::Primary | Role::Promoted));
    PeerAnswer::Said(PeerSaid {
        is_primary: leads_elsewhere,
        position: position(member),
        timeline: member.doc.timeline,
        priority: member.doc.tags.priority(),
        watchdog_failed: false,
        looked_at: now,
        safe_slots: None,
    })
}

fn own_answer(view: &View, now: Instant) -> PeerAnswer {
    match view.postgres.get().and_then(|postgres| postgres.running()) {
        Some(running) => PeerAnswer::Said(PeerSaid {
            is_primary: !running.in_recovery,
            position: running.position(),
            timeline: running.timeline,
            priority: view.me.tags.priority(),
            watchdog_failed: view.watchdog_failed,
            looked_at: now,
            safe_slots: None, // which of the two has more of them is not judged here
        }),
        None => PeerAnswer::Silent("its PostgreSQL does not answer".to_owned()),
    }
}

fn position(member: &Member) -> Lsn {
    let doc = &member.doc;
    doc.receive_lsn.max(doc.replay_lsn).max(doc.xlog_location).unwrap_or_default()
}

/// The view becomes that of another member, which knows what its key says, and nothing of this node's own doings.
fn become_member(view: &mut View, member: &Member, now: Now) {
    let doc = &member.doc;
    let system_id = view.cluster.get().and_then(|cluster| match cluster.initialize {
        Some(pgherd_types::Initialize::Done(id)) => Some(id),
        _ => None,
    });
    view.me = Me {
        name: member.name.clone(),
        conn_url: doc.conn_url.clone().unwrap_or_default(),
        api_url: doc.api_url.clone().unwrap_or_default(),
        proxy_url: doc.proxy_url.clone(),
        tags: doc.tags.clone(),
        ..Me::default()
    };
    let state = PostgresState {
        looked_at: now.mono,
        wall: now.wall,
        data: data(doc.state.as_str(), system_id.or(view.system_id()), doc.timeline),
        server: server(member),
        progress: None,
    };
    view.postgres = Seen::At(Arc::new(state), now.mono);
    (view.operation, view.ended, view.diverged, view.reservation) = (None, None, None, None);
    (view.shutdown, view.promised, view.made_way_at, view.refused_promotion_at) = (None, None, None, None);
    (view.crashed, view.served, view.watchdog_failed, view.makes_room) = (false, Some(true), false, false);
    (view.starting_since, view.unresponsive_since, view.archiving_since) = (None, None, None);
    view.crashes.clear();
    // whether it has promised anything is not known: as if it had run for long
    view.began = now.mono.minus(view.settings.ttl + Duration::from_secs(1));
}

fn data(state: &str, system_id: Option<SystemId>, timeline: Option<Timeline>) -> DataDirectory {
    if matches!(state, "creating replica" | "initializing new cluster") {
        return DataDirectory::Empty;
    }
    DataDirectory::Present(ControlData {
        system_id: system_id.unwrap_or(SystemId(0)),
        state: ControlState::InArchiveRecovery,
        checkpoint_lsn: Lsn(0),
        checkpoint_timeline: timeline.unwrap_or(Timeline(1)),
        min_recovery_lsn: Lsn(0),
        min_recovery_timeline: Timeline(0),
        standby_signal: true,
        wal_end: None,
        major_version: 0,
        rewindable: false,
        rewind_interrupted: false,
    })
}

fn server(member: &Member) -> Server {
    let doc = &member.doc;
    match doc.state.as_str() {
        "running" => Server::Running(RunningServer {
            in_recovery: true,
            timeline: doc.timeline,
            received: position(member),
            replayed: doc.replay_lsn.unwrap_or_default(),
            streaming: doc.replication_state.as_deref() == Some("streaming"),
            ..RunningServer::default()
        }),
        "starting" | "restarting" => Server::Starting,
        "stopping" => Server::Stopping,
        _ => Server::Stopped,
    }
}

#[cfg(test)]
#[path = "explain_tests.rs"]
mod tests;
