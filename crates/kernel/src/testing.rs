//! One healthy base fixture for the rules' tests: node `a` of three (`a`, `b`, `c`), a minute after boot; a case overrides
//! one thing and states what is decided and why.

use crate::view::{Me, PeerRound};
use crate::{Action, Decision, Observation, View, decide, invariants};
use pgherd_types::postgres::ControlState;
use pgherd_types::*;
use std::sync::Arc;
use std::time::Duration;

pub const LEASE: LeaseId = LeaseId(11);
const OTHER: LeaseId = LeaseId(99);
const SYSTEM: SystemId = SystemId(7_000_000_000_000_000_001);

pub struct Case {
    pub view: View,
    pub cluster: Cluster,
    pub postgres: PostgresState,
    pub now: Now,
}

fn member(name: &str, lease: LeaseId, role: Role) -> (MemberName, Member) {
    let doc = MemberDoc {
        conn_url: Some(format!("postgres://{name}:5432/postgres")),
        api_url: Some(format!("http://{name}:8008/patroni")),
        state: "running".into(),
        role: Some(role),
        pgherd: Some("0.1.0".into()),
        timeline: Some(Timeline(1)),
        ..MemberDoc::default()
    };
    (name.into(), Member { name: name.into(), lease: Some(lease), doc })
}

pub fn control() -> ControlData {
    ControlData {
        system_id: SYSTEM,
        state: ControlState::InProduction,
        checkpoint_lsn: Lsn(900),
        checkpoint_timeline: Timeline(1),
        min_recovery_lsn: Lsn(0),
        min_recovery_timeline: Timeline(0),
        standby_signal: false,
        wal_end: None,
        major_version: 15,
        rewindable: true,
        rewind_interrupted: false,
    }
}

pub fn server(in_recovery: bool) -> RunningServer {
    RunningServer {
        in_recovery,
        history: vec![],
        timeline: Some(Timeline(1)),
        flushed: if in_recovery { Lsn(0) } else { Lsn(1000) },
        received: if in_recovery { Lsn(1000) } else { Lsn(0) },
        replayed: if in_recovery { Lsn(1000) } else { Lsn(0) },
        replayed_timestamp: None,
        replay_paused: false,
        streaming: in_recovery,
        latest_end: None,
        restore_command: false,
        upstream: in_recovery.then(|| ("b".into(), 5432)),
        forked_at: None,
        slots: vec![],
        slots_gone: Default::default(),
        walsenders: vec![],
        sync: Default::default(),
        postmaster_start_time: String::new(),
        server_version: 150_000,
        pending_restart: false,
        pending_restart_reason: vec![],
    }
}

/// A replica that follows `b`.
pub fn replica() -> Case {
    let me = Me {
        name: "a".into(),
        conn_url: "postgres://a:5432/postgres".into(),
        api_url: "http://a:8008/patroni".into(),
        can_bootstrap: true,
        ..Me::default()
    };
    let now = Now { mono: Instant::from_millis(60_000), wall: WallTime(1_700_000_000_000) };
    let mut view = View::new(me, Settings::default(), None, now.mono);
    view.lease.current =
        Some(LeaseGrant { lease: LEASE, sent_at: Instant::from_millis(58_000), ttl_ms: 30_000, asked_ttl_ms: None });
    let members =
        [member("a", LEASE, Role::Replica), member("b", OTHER, Role::Primary), member("c", LeaseId(3), Role::Replica)];
    let cluster = Cluster {
        revision: 10,
        initialize: Some(Initialize::Done(SYSTEM)),
        leader: Some(LeaderKey { name: "b".into(), lease: Some(OTHER) }),
        members: members.into_iter().collect(),
        history: Some(vec![]),
        config: Some(ConfigKey { mod_revision: 1, text: "{}".into(), valid: true }),
        status: StatusKey { optime: Lsn(1000), ..StatusKey::default() },
        status_is_leaders: true,
        ..Cluster::default()
    };
    let data = DataDirectory::Present(ControlData { standby_signal: true, ..control() });
    let postgres = PostgresState {
        looked_at: now.mono,
        wall: now.wall,
        data,
        server: Server::Running(server(true)),
        progress: None,
    };
    Case { view, cluster, postgres, now }
}

/// The leader.
pub fn primary() -> Case {
    replica().locked().running(server(false)).with_control(|c| c.standby_signal = false)
}

impl Case {
    pub fn unlocked(mut self) -> Self {
        self.cluster.leader = None;
        self
    }
    /// The leader key is ours, proven two seconds ago.
    pub fn locked(mut self) -> Self {
        self.cluster.leader = Some(LeaderKey { name: "a".into(), lease: Some(LEASE) });
        let grant = self.view.lease.current.unwrap();
        self.view.lease.prove(grant, Instant::from_millis(58_001));
        self
    }
    pub fn led_by(mut self, name: &str, lease: Option<LeaseId>) -> Self {
        self.cluster.leader = Some(LeaderKey { name: name.into(), lease });
        self
    }
    pub fn running(mut self, server: RunningServer) -> Self {
        self.postgres.server = Server::Running(server);
        self
    }
    pub fn server(mut self, server: Server) -> Self {
        self.postgres.server = server;
        self
    }
    pub fn stopped(self) -> Self {
        self.server(Server::Stopped)
    }
    pub fn with_control(mut self, change: impl FnOnce(&mut ControlData)) -> Self {
        if let DataDirectory::Present(control) = &mut self.postgres.data {
            change(control);
        }
        self
    }
    pub fn with_cluster(mut self, change: impl FnOnce(&mut Cluster)) -> Self {
        change(&mut self.cluster);
        self
    }
    pub fn with_view(mut self, change: impl FnOnce(&mut View)) -> Self {
        change(&mut self.view);
        self
    }
    pub fn with_server(mut self, change: impl FnOnce(&mut RunningServer)) -> Self {
        if let Server::Running(server) = &mut self.postgres.server {
            change(server);
        }
        self
    }
    pub fn empty(mut self) -> Self {
        self.postgres.data = DataDirectory::Empty;
        self.stopped()
    }
    /// The peers answered: `b` and `c` with these.
    pub fn peers(mut self, answers: Vec<(&str, PeerAnswer)>) -> Self {
        let reports = answers.into_iter().map(|(name, answer)| PeerReport { name: name.into(), answer }).collect();
        self.view.peers = Some(PeerRound { asked_at: self.now.mono, reports });
        self
    }
    pub fn ended(mut self, operation: Operation, end: OperationEnd) -> Self {
        let failures = u32::from(matches!(end, OperationEnd::Failed(_)));
        let at = self.now.mono.minus(Duration::from_millis(10));
        self.view.ended = Some(crate::view::Ended { operation, end, at, failures });
        self
    }

    pub fn build(self) -> (View, Now) {
        let Case { mut view, cluster, postgres, now } = self;
        let read_at = now.mono;
        view.apply(Observation::Cluster { cluster: Arc::new(cluster), read_at }, now);
        view.apply(Observation::Postgres(Arc::new(postgres)), now);
        (view, now)
    }
    pub fn decide(self) -> (View, Decision) {
        let (view, now) = self.build();
        let decision = decide(&view, now);
        invariants::check(&view, &decision, now).unwrap();
        let mut after = view.clone();
        after.dispatched(&decision, now);
        let again = decide(&after, now);
        assert!(!acts(&again.role), "decided twice on the same facts: {:?} then {:?}", decision.role, again.role);
        assert!(again.upkeep.is_empty(), "owed twice on the same facts: {:?}", again.upkeep);
        (after, decision)
    }
}

fn acts(action: &Action) -> bool {
    !matches!(action, Action::Hold | Action::Exit)
}

/// `b` leads on timeline 2, which began where timeline 1 ended.
pub fn promoted_elsewhere(case: Case, switch: u64) -> Case {
    case.led_by("b", Some(OTHER)).with_cluster(|c| {
        let leader = c.members.get_mut(&"b".into()).unwrap();
        (leader.doc.role, leader.doc.timeline) = (Some(Role::Primary), Some(Timeline(2)));
        let (timeline, switch_lsn) = (Timeline(1), Lsn(switch));
        c.history = Some(vec![HistoryRow { timeline, switch_lsn, reason: String::new(), at: None, new_leader: None }]);
    })
}

pub fn said(position: u64) -> PeerSaid {
    PeerSaid {
        safe_slots: None,
        is_primary: false,
        position: Lsn(position),
        timeline: Some(Timeline(1)),
        priority: 1,
        watchdog_failed: false,
        looked_at: Instant::from_millis(60_000),
    }
}

pub fn answered(position: u64) -> PeerAnswer {
    PeerAnswer::Said(said(position))
}

pub fn silent() -> PeerAnswer {
    PeerAnswer::Silent("refused".into())
}

/// `Hold`, `Acquire`, `Start StartPrimary`, `Write initialize` …
pub fn name_of(action: &Action) -> String {
    let head = |text: String| text.split(|c: char| !c.is_alphanumeric()).next().unwrap_or_default().to_owned();
    match action {
        Action::Start { operation: Operation::Stop { mode }, .. } => format!("Stop {mode:?}"),
        Action::Start { operation, .. } => format!("Start {}", head(format!("{operation:?}"))),
        Action::Write(write) => format!("Write {}", head(format!("{write:?}"))),
        other => head(format!("{other:?}")),
    }
}

/// This case is decided so, for this reason.
#[track_caller]
pub fn check(case: Case, action: &str, because: &str) -> Decision {
    let (_, decision) = case.decide();
    assert_eq!((name_of(&decision.role).as_str(), decision.because.id().as_str()), (action, because));
    decision
}
