//! Answers to "why?": the present decision made again, what it rests on, and what the kernel says of every member.

use super::Coordinator;
use actix::prelude::*;
use pgherd_kernel::{Action, Decision, Lock, View, decide, explain, shown};
use pgherd_protocol::explain::{Explained, ExplainedMember, Explanation, Fact, RequestExplanation};
use pgherd_types::node_status::ReasonText;
use pgherd_types::{Instant, Now, PeerAnswer, SyncSeen, millis};
use serde_json::{Value, json};

impl Handler<RequestExplanation> for Coordinator {
    type Result = MessageResult<RequestExplanation>;

    fn handle(&mut self, asked: RequestExplanation, _: &mut Self::Context) -> Self::Result {
        MessageResult(self.explanation(asked.leader_lost, pgherd_clock::now()))
    }
}

impl Coordinator {
    fn explanation(&self, leader_lost: bool, now: Now) -> Explanation {
        let view = &self.view;
        let (decision, members) = match leader_lost {
            false => (Some(decide(view, now)), explain::candidates(view, now)),
            true => (explain::without_leader(view, now), explain::successors(view, now)),
        };
        let next = members.iter().filter(|member| member.could_lead).map(|member| member.name.clone()).collect();
        Explanation {
            name: view.me.name.clone(),
            scope: self.scope.clone(),
            condition: leader_lost.then_some("leader-lost"),
            decision: decision.map(|decision| self.explained(&decision, now.mono)),
            facts: facts(view, now.mono),
            members: members.into_iter().map(|member| self.explained_member(member)).collect(),
            next_leader: leader_lost.then_some(next),
        }
    }

    fn explained(&self, decision: &Decision, now: Instant) -> Explained {
        let again_in_ms = millis(now.until(decision.decide_again_at));
        Explained {
            action: action(&decision.role).to_owned(),
            reason: self.reason_text(&decision.because),
            again_in_ms,
        }
    }

    fn explained_member(&self, candidate: explain::Candidate) -> ExplainedMember {
        let explain::Candidate { name, leads, could_lead, because } = candidate;
        ExplainedMember { name, leads, could_lead, reason: self.reason_text(&because) }
    }

    fn reason_text(&self, because: &pgherd_kernel::Reason) -> ReasonText {
        ReasonText { id: because.id(), text: self.words(because) }
    }
}

/// In a word or two.
fn action(role: &Action) -> &'static str {
    match role {
        Action::Hold => "nothing",
        Action::Acquire => "take the leader key",
        Action::Release(_) => "give up the leader key",
        Action::Start { operation, .. } => operation.name(),
        Action::Cancel(_) => "give up the running operation",
        Action::Probe { .. } => "ask the other members",
        Action::Write(_) => "write a key",
        Action::Exit => "end the process",
    }
}

fn facts(view: &View, now: Instant) -> Vec<Fact> {
    let age = |at: Option<Instant>| at.map(|at| millis(now.since(at)));
    let fact = |name, value, age_ms| Fact { name, value, age_ms };
    let mut facts = vec![
        fact("cluster", cluster(view), age(view.cluster.when())),
        fact(
            "dcs",
            json!(if view.dcs_lost_since.is_some() { "does not answer" } else { "answers" }),
            age(view.dcs_lost_since),
        ),
        fact("lease", lease(view, now), age(view.lease.leader.map(|proof| proof.grant.sent_at))),
        fact("postgresql", postgresql(view, now), age(view.postgres.when())),
        fact("sync", sync(view), age(view.cluster.when())),
    ];
    if let Some(round) = &view.peers {
        facts.push(fact("peers", peers(&round.reports), age(Some(round.asked_at))));
    }
    if let Some(running) = &view.operation {
        facts.push(fact("operation", json!(running.operation.name()), age(Some(running.since))));
    }
    if let Some(failure) = shown::last_failure(view) {
        facts.push(fact("last_failure", json!(failure), age(view.ended.as_ref().map(|ended| ended.at))));
    }
    if let Some((to, at)) = &view.promised {
        facts.push(fact("failsafe_promise", json!({"to": to.as_str()}), age(Some(*at))));
    }
    if view.settings.pause {
        facts.push(fact("maintenance_mode", json!(true), None));
    }
    facts
}

fn cluster(view: &View) -> Value {
    let Some(cluster) = view.cluster.get() else { return json!("never read") };
    let members: Vec<&str> = cluster.members.keys().map(|name| name.as_str()).collect();
    let asked = cluster.manual().map(|key| {
        let name = |name: &Option<pgherd_types::MemberName>| name.as_ref().map(|name| name.as_str().to_owned());
        json!({"from": name(&key.leader), "to": name(&key.candidate)})
    });
    json!({
        "leader": cluster.leader.as_ref().map(|leader| leader.name.as_str()),
        "members": members,
        "optime": cluster.status.optime.to_string(),
        "switchover": asked,
    })
}

fn lease(view: &View, now: Instant) -> Value {
    match view.lock(now) {
        Lock::Held { until } => json!({"leader_key": "held", "for_ms": millis(now.until(until))}),
        Lock::Vanished { until } => json!({"leader_key": "removed by somebody", "for_ms": millis(now.until(until))}),
        Lock::No => json!({"leader_key": "not held"}),
    }
}

fn postgresql(view: &View, now: Instant) -> Value {
    let running = view.postgres.get().and_then(|postgres| postgres.running());
    json!({
        "state": shown::phase(view).as_str(),
        "role": shown::role(view, now).as_str(),
        "timeline": running.and_then(|running| running.timeline),
        "position": running.map(|running| running.position().to_string()),
    })
}

fn sync(view: &View) -> Value {
    let key = view.cluster.get().map(|cluster| &cluster.sync);
    let key = match key {
        None | Some(SyncSeen::Absent) => Value::Null,
        Some(SyncSeen::Garbage { .. }) => json!("cannot be understood"),
        Some(SyncSeen::Valid(key)) => {
            let standbys: Vec<&str> = key.standbys.iter().map(|name| name.as_str()).collect();
            json!({"leader": key.leader.as_ref().map(|name| name.as_str()), "quorum": key.quorum, "standbys": standbys})
        }
    };
    json!({"mode": format!("{:?}", view.settings.sync_mode()).to_lowercase(), "key": key})
}

fn peers(reports: &[pgherd_types::PeerReport]) -> Value {
    let one = |report: &pgherd_types::PeerReport| {
        let said = match &report.answer {
            PeerAnswer::Silent(why) => json!({"silent": why}),
            PeerAnswer::Said(said) => json!({
                "primary": said.is_primary,
                "position": said.position.to_string(),
                "timeline": said.timeline,
                "priority": said.priority,
            }),
        };
        (report.name.as_str().to_owned(), said)
    };
    Value::Object(reports.iter().map(one).collect())
}
