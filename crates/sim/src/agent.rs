//! The coordinator's turn and what hangs on it: alarm, fence thread, looks at PostgreSQL, questions to peers. The order is
//! production's: apply, decide, check, dispatched, fence, alarm, send.

use crate::dcs::Kind;
use crate::mutants::Planted;
use crate::network::End;
use crate::node::{Agent, Op, Round};
use crate::world::{Ev, World};
use pgherd_kernel::{Action, Decision, LeaseView, Observation, decide, invariants, lease_view};
use pgherd_types::{
    DcsWrite, FenceOrder, Instant, Now, Operation, PeerAnswer, PeerReport, PeerSaid, PeerToAsk, Settings, SyncGuard,
    WallTime, WishEnd,
};
use std::sync::Arc;

impl World {
    /// A node's reading of its clocks.
    pub fn clocks(&self, n: usize) -> Now {
        Now { mono: self.local(n), wall: WallTime(1_700_000_000_000 + self.now as i64) }
    }

    /// Start the agent: adopt or fence PostgreSQL first, and only then talk to the DCS.
    pub fn agent_start(&mut self, n: usize) {
        let local = self.local(n);
        let node = &mut self.nodes[n];
        if !node.up || node.agent.is_some() || node.down > 0 {
            return;
        }
        node.inc += 1;
        node.paused_until = 0;
        let inc = node.inc;
        let valid = node.recorded.is_some_and(|grant| local < LeaseView::default().stop_at(&grant));
        if !valid {
            node.recorded = None;
        }
        let promotes = std::mem::take(&mut node.recorded_promotion) && node.pg.alive();
        if promotes || node.pg.may_be_writable() && !valid && !node.recorded_pause {
            self.trace.count("happened:fenced before the first DCS call");
            if promotes {
                self.trace.count("happened:a promotion ended with its agent");
            }
            let took = self.kill_time();
            self.pg_kill(n, took);
            self.push(self.now + took + 5, Ev::AgentGo { n, inc });
        } else {
            self.push(self.now + 50, Ev::AgentGo { n, inc });
        }
    }

    /// The agent is in charge.
    pub fn agent_go(&mut self, n: usize) {
        let local = self.local(n);
        let pause = self.nodes[n].recorded_pause;
        let settings = Settings { pause, ..self.setup.settings.clone() };
        let (mutant, dice) = (self.setup.mutant, self.rng.bits());
        let node = &mut self.nodes[n];
        let dies = node.pg.kill_queued;
        if dies || node.recorded.is_none() && node.pg.may_be_writable() && !node.recorded_pause {
            let inc = node.inc;
            return self.push(self.now + 10, Ev::AgentGo { n, inc }); // not before it is fenced
        }
        let mut agent = Box::new(Agent::new(node.me.clone(), settings, node.recorded, local, mutant));
        agent.view.dice = dice;
        node.fence = agent.view.fence_order(local);
        node.agent = Some(agent);
        node.disturbed_at = self.now;
        self.trace.tell(self.now, || format!("n{}    agent started", n + 1));
        let inc = node.inc;
        self.fence_alarm(n);
        self.turn(n, None);
        let every = self.ms(self.setup.settings.loop_wait);
        let phase = self.rng.below(every);
        self.push(self.now + 3, Ev::Look { n, inc });
        self.push(self.now + phase, Ev::LookTick { n, inc });
        self.push(self.now + 1, Ev::ReadTick { n, inc });
    }

    /// One turn.
    pub fn turn(&mut self, n: usize, fact: Option<Observation>) {
        let now = self.clocks(n);
        let mutant = self.setup.mutant.is_some();
        let Some(agent) = self.nodes[n].agent.as_mut() else { return };
        if let Some(fact) = fact {
            agent.view.apply(fact, now);
        }
        self.forget_sync_key(n);
        self.follow_config(n);
        let Some(agent) = self.nodes[n].agent.as_mut() else { return };
        let decision = decide(&agent.view, now);
        let verdict = invariants::check(&agent.view, &decision, now);
        agent.view.dispatched(&decision, now);
        let (fence, recorded) = (agent.view.fence_order(now.mono), agent.view.promise());
        let pause = agent.view.settings.pause;
        // a primary that went on without the key under maintenance mode is stopped now that the mode is over
        if self.nodes[n].recorded_pause && !pause && self.etcd.leader() != Some(n) {
            let stopped_by = self.now + lease_view::margin_ms(self.ttl_longest());
            self.nodes[n].exempt_until = self.nodes[n].exempt_until.max(stopped_by);
        }
        (self.nodes[n].fence, self.nodes[n].recorded, self.nodes[n].recorded_pause) = (fence, recorded, pause);
        self.turns += 1;
        if let Err(breach) = verdict
            && !mutant
        {
            self.fail(format!("n{}: invariant {} of the kernel: {}", n + 1, breach.id, breach.what));
        }
        self.note_reason(n, &decision);
        self.tell_whom_consumers_await(n);
        self.fence_alarm(n);
        self.set_alarm(n, decision.decide_again_at);
        self.carry_out(n, decision);
    }

    fn note_reason(&mut self, n: usize, decision: &Decision) {
        let Some(agent) = self.nodes[n].agent.as_mut() else { return };
        let kind = |r: &pgherd_kernel::Reason| std::mem::discriminant(r);
        if agent.because.as_ref().map(kind) == Some(kind(&decision.because)) {
            return;
        }
        agent.because = Some(decision.because.clone());
        let id = decision.because.id();
        self.trace.count(&format!("reason:{id}"));
        self.trace.tell(self.now, || format!("n{}    {id}: {}", n + 1, decision.because));
    }

    fn set_alarm(&mut self, n: usize, local: Instant) {
        let at = self.nodes[n].clock.when(local).max(self.now + 1);
        let inc = self.nodes[n].inc;
        let Some(agent) = self.nodes[n].agent.as_mut() else { return };
        agent.alarm_at = at;
        if at < agent.alarm_queued {
            agent.alarm_queued = at;
            self.push(at, Ev::Alarm { n, inc });
        }
    }

    /// The alarm on the heap rings; it may have been moved meanwhile.
    pub fn alarm(&mut self, n: usize) {
        let (now, inc) = (self.now, self.nodes[n].inc);
        let Some(agent) = self.nodes[n].agent.as_mut() else { return };
        if agent.alarm_queued > now {
            return; // a second, earlier alarm was queued and has rung; this one is still to come
        }
        if agent.alarm_at > now {
            agent.alarm_queued = agent.alarm_at;
            let at = agent.alarm_at;
            return self.push(at, Ev::Alarm { n, inc });
        }
        agent.alarm_queued = u64::MAX;
        self.turn(n, None);
    }

    fn carry_out(&mut self, n: usize, decision: Decision) {
        let Decision { role, upkeep, .. } = decision;
        if let Some(prove) = upkeep.renew {
            self.call(
                n,
                match upkeep.new_ttl {
                    Some(ttl) => Kind::Move(prove, self.ms(ttl)),
                    None => Kind::Renew(prove),
                },
            );
        }
        self.act(n, role);
        for write in upkeep.writes {
            self.call(n, Kind::Write(Arc::new(write)));
        }
        if upkeep.repair_config {
            self.call(n, Kind::Write(Arc::new(DcsWrite::Config("{}".to_owned()))));
        }
        let (now, inc) = (self.now, self.nodes[n].inc);
        if upkeep.look {
            let took = self.rng.range(2, 10);
            self.push(now + took, Ev::Look { n, inc });
        }
        if let Some((round, apply)) = upkeep.sync {
            self.order_sync(n, round, apply);
        }
        if let Some((round, members)) = upkeep.failsafe {
            self.ask_for_agreement(n, round, &members);
        }
        for (_, end) in upkeep.answers {
            self.trace.count(&format!("answer:{}", if end == WishEnd::Done { "done" } else { "not done" }));
        }
        if let Some((round, target)) = upkeep.slots {
            let took = self.rng.range(2, 30);
            self.push(now + took, Ev::Slots { n, inc, round, target: Box::new(target) });
        }
    }

    fn act(&mut self, n: usize, action: Action) {
        let (now, inc) = (self.now, self.nodes[n].inc);
        match action {
            Action::Hold => {}
            Action::Acquire => self.acquire(n),
            Action::Release(status) => self.call(n, Kind::Release(status)),
            Action::Write(write) => self.call(n, Kind::Write(Arc::new(write))),
            Action::Probe { round, peers } => self.probe(n, round, &peers),
            Action::Start { id, operation, fence } => {
                self.trace.detail(now, || format!("n{} start {operation:?}", n + 1));
                let dice = self.rng.bits();
                let slow = self.nodes[n].operator_slow;
                let late = if slow > 0 { self.rng.below(slow) } else { 0 };
                let took = self.rng.range(1, 15) + late.min(self.setup.heal_at.saturating_sub(now));
                if let Some(agent) = self.nodes[n].agent.as_mut() {
                    agent.view.dice = dice;
                    agent.op = Some(Op { id, operation, fence, begins_at: now + took, begun: false, cancelled: false });
                }
                self.push(now + took, Ev::OpBegin { n, inc, id: id.0 });
            }
            Action::Cancel(id) => {
                // one mailbox: the operator comes to the cancellation after the command
                let begins_at = self.nodes[n].agent.as_ref().and_then(|a| a.op.as_ref()).map_or(0, |op| op.begins_at);
                self.push(begins_at.max(now) + 2, Ev::OpCancel { n, inc, id: id.0 });
            }
            Action::Exit => {
                self.trace.tell(now, || format!("n{}    agent ended in order", n + 1));
                self.trace.count("happened:agent ended in order");
                (self.nodes[n].fence, self.nodes[n].recorded) = (FenceOrder::Disarmed, None);
                self.agent_gone(n);
                self.push(now + 1000, Ev::AgentStart { n }); // unless something keeps it down
            }
        }
    }

    /// Guarded by the `sync` key as the race was judged by.
    fn acquire(&mut self, n: usize) {
        let local = self.local(n);
        let Some(agent) = self.nodes[n].agent.as_ref() else { return };
        let blind = self.setup.planted == Some(Planted::BlindToSyncKey);
        let guard = if blind { SyncGuard::Unguarded } else { agent.view.sync_guard(local) };
        self.call(n, Kind::Acquire(guard));
    }

    /// The agent's process is no more. The guard process goes on with the last order.
    pub fn agent_gone(&mut self, n: usize) {
        let node = &mut self.nodes[n];
        if let Some(agent) = node.agent.take() {
            // a clone or initdb dies with it; its sibling directory is not swapped in
            drop(agent);
            node.inc += 1;
        }
        node.disturbed_at = self.now;
    }

    /// The monitor looks.
    pub fn look(&mut self, n: usize) {
        let now = self.clocks(n);
        let node = &mut self.nodes[n];
        let stalled = node.pg.stalled_until > self.now;
        let mut state = node.pg.look(now.mono, now.wall, stalled);
        if let pgherd_types::Server::Running(running) = &mut state.server {
            running.forked_at = self.forked_at(n);
            if self.setup.follows_standbys() {
                self.find_lost_standbys(n);
                let (names, pg) = (self.names(), &self.nodes[n].pg);
                (running.walsenders, running.sync) = pg.seen_sync(&names, self.now);
                running.slots = pg.seen_slots(&names);
            }
        }
        self.turn(n, Some(Observation::Postgres(Arc::new(state))));
    }

    // ---- the fence thread and the guard process, one clock and one order: whichever of them lives ----

    /// See that they wake in time for their order.
    pub fn fence_alarm(&mut self, n: usize) {
        let now = self.now;
        let node = &mut self.nodes[n];
        let clock = node.clock;
        let FenceOrder::Armed { stop_at, kill_at, .. } = node.fence else { return };
        let local = clock.at(now);
        let at = if local < stop_at {
            clock.when(stop_at)
        } else if node.fence_stopped != Some(node.fence) {
            now
        } else if local < kill_at {
            clock.when(kill_at)
        } else {
            now + 50
        };
        if at < node.fence_at {
            node.fence_at = at;
            self.push(at, Ev::Fence { n });
        }
    }

    /// They wake, whatever the agent's other threads are doing, and whether there is an agent or not.
    pub fn fence(&mut self, n: usize) {
        let local = self.local(n);
        let now = self.now;
        let node = &mut self.nodes[n];
        if node.fence_at > now {
            return;
        }
        node.fence_at = u64::MAX;
        let FenceOrder::Armed { stop_at, kill_at, .. } = node.fence else { return };
        let (alive, who) = (node.pg.alive(), if node.agent.is_some() { "fence" } else { "guard" });
        if local >= kill_at {
            node.fence_stopped = Some(node.fence);
            if alive {
                self.trace.count(&format!("happened:{who} killed"));
                self.trace.detail(now, || format!("n{} {who} kills", n + 1));
                let took = self.kill_time();
                self.pg_kill(n, took);
            }
        } else if local >= stop_at && node.fence_stopped != Some(node.fence) {
            node.fence_stopped = Some(node.fence);
            if alive {
                self.trace.count(&format!("happened:{who} fired"));
                self.trace.tell(now, || format!("n{}    {who} stops PostgreSQL", n + 1));
                self.pg_stop_immediately(n);
            }
        }
        if alive || local < stop_at || local < kill_at {
            self.fence_alarm(n);
        }
    }

    /// How long a kill takes: up to half of the margin minus what scheduling and drift may take of it.
    pub fn kill_time(&mut self) -> u64 {
        let ttl = self.ttl_shortest();
        let longest = (lease_view::margin_ms(ttl) / 2).saturating_sub(60 + ttl / 500);
        if self.rng.permille(500) { self.rng.range(5, 40) } else { self.rng.range(5, longest.max(6)) }
    }

    // ---- peers ----

    fn probe(&mut self, n: usize, round: u64, peers: &[PeerToAsk]) {
        let (now, inc) = (self.now, self.nodes[n].inc);
        let silent =
            |p: &PeerToAsk| PeerReport { name: p.name.clone(), answer: PeerAnswer::Silent("no answer".to_owned()) };
        let reports: Vec<PeerReport> = peers.iter().map(silent).collect();
        if let Some(agent) = self.nodes[n].agent.as_mut() {
            agent.round = Some(Round { round, awaited: vec![true; peers.len()], reports });
        }
        for (slot, asked) in peers.iter().enumerate() {
            self.push(now + asked.patience_ms, Ev::ProbeEnd { n, inc, round, slot });
            let Some(peer) = self.nodes.iter().position(|node| node.me.name == asked.name) else { continue };
            let until = now + asked.patience_ms;
            if let Some(delay) = self.net.delay(&mut self.rng, End::Node(n), End::Node(peer)) {
                self.push(now + delay, Ev::Asked { n, inc, round, slot, peer, until });
            }
        }
    }

    /// A question reaches a peer. It looks first, most of the time in time, and answers from its published status.
    pub fn asked(&mut self, n: usize, inc: u32, round: u64, slot: usize, peer: usize, until: u64) {
        let now = self.now;
        if !self.nodes[peer].up {
            return;
        }
        if self.nodes[peer].agent.is_some() && self.nodes[peer].paused_until > now {
            let at = self.nodes[peer].paused_until;
            return self.push(at, Ev::Asked { n, inc, round, slot, peer, until });
        }
        if self.nodes[peer].agent.is_some() && self.rng.permille(800) {
            self.look(peer);
        }
        let said = self.said(peer);
        let delay = self.net.delay(&mut self.rng, End::Node(peer), End::Node(n)).filter(|d| now + d < until);
        if let Some(delay) = delay {
            self.push(now + delay, Ev::PeerSaid { n, inc, round, slot, said: said.map(Box::new) });
        }
    }

    /// What the peer says; the time is the age of what it knows. `None`: connection refused.
    fn said(&self, peer: usize) -> Option<(PeerSaid, u64)> {
        let agent = self.nodes[peer].agent.as_ref()?;
        let state = agent.view.postgres.get()?;
        let age = self.local(peer).since(state.looked_at).as_millis() as u64;
        let running = state.running();
        let said = PeerSaid {
            is_primary: running.is_some_and(|r| !r.in_recovery),
            position: running.map(|r| r.position()).unwrap_or_default(),
            timeline: running.and_then(|r| r.timeline),
            priority: agent.view.me.tags.priority(),
            safe_slots: self.has_logical_slot().then(|| pgherd_kernel::slots::safe(&agent.view, self.local(peer))),
            watchdog_failed: false,
            looked_at: Instant::default(),
        };
        Some((said, age))
    }

    /// An answer, or none in time. The round ends with the last.
    pub fn peer_said(&mut self, n: usize, round: u64, slot: usize, said: Option<(PeerSaid, u64)>) {
        let local = self.local(n);
        let Some(agent) = self.nodes[n].agent.as_mut() else { return };
        let Some(asking) = agent.round.as_mut().filter(|r| r.round == round) else { return };
        if !std::mem::take(&mut asking.awaited[slot]) {
            return;
        }
        if let Some((said, age)) = said {
            let looked_at = local.minus(std::time::Duration::from_millis(age));
            asking.reports[slot].answer = PeerAnswer::Said(PeerSaid { looked_at, ..said });
        }
        if asking.awaited.contains(&true) {
            return;
        }
        let Some(done) = agent.round.take() else { return };
        self.turn(n, Some(Observation::Peers { round, reports: done.reports }));
    }

    /// Does this operation make PostgreSQL writable?
    pub fn makes_writable(operation: &Operation) -> bool {
        matches!(operation, Operation::StartPrimary | Operation::Promote { .. })
    }
}
