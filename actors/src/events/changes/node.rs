//! What happened to this node.

use super::{Happening, Phases, ms, slots};
use pgherd_types::{DcsSurvey, NodeStatus, Role, RunningServer, millis};
use serde_json::{Value, json};

/// Adds what changed.
pub fn changes(last: &NodeStatus, status: &NodeStatus, phases: &mut Phases, happened: &mut Vec<Happening>) {
    lead(last, status, phases);
    reason(last, status, phases, happened);
    role(last, status, phases, happened);
    if last.phase != status.phase {
        let data = json!({"from": last.phase.as_str(), "to": status.phase.as_str()});
        happened.push(Happening::new("postgresql.state", data));
    }
    operation(last, status, phases, happened);
    if let (Some(before), Some(after)) = (server(last), server(status)) {
        servers(before, after, happened);
        slots::changes(before, after, happened);
    }
    slots::notes(status, phases, happened);
    switches(last, status, happened);
    store(&last.dcs_survey, &status.dcs_survey, happened);
}

fn server(status: &NodeStatus) -> Option<&RunningServer> {
    status.postgres.as_ref()?.running()
}

fn lead(last: &NodeStatus, status: &NodeStatus, phases: &mut Phases) {
    match (last.leader_until, status.leader_until) {
        (None, Some(_)) => phases.acquired_at = Some(status.turned_at),
        (Some(_), None) => phases.acquired_at = None,
        (None, None) | (Some(_), Some(_)) => {}
    }
}

/// Reasons that are events: a fence, the steps of a race, the way out.
fn reason(last: &NodeStatus, status: &NodeStatus, phases: &mut Phases, happened: &mut Vec<Happening>) {
    if last.reason.id == status.reason.id {
        return;
    }
    let why = shown(status);
    let id = status.reason.id.as_str();
    let nobody_leads = status.cluster.as_ref().is_some_and(|(cluster, _)| cluster.leader.is_none());
    if id.starts_with("Fenced") && !last.reason.id.starts_with("Fenced") {
        happened.push(Happening::new("fence.fired", json!({"reason": why})));
    } else if id == "ShuttingDown" {
        happened.push(Happening::new("agent.stopping", json!({})));
    } else if nobody_leads
        && status.dcs_lost_since.is_none()
        && status.leader_until.is_none()
        && phases.steps.insert(id.to_owned())
    {
        happened.push(Happening::new("race.step", json!({"reason": why})));
    }
}

fn shown(status: &NodeStatus) -> Value {
    json!({"id": status.reason.id, "text": status.reason.text})
}

fn role(last: &NodeStatus, status: &NodeStatus, phases: &mut Phases, happened: &mut Vec<Happening>) {
    if last.role == status.role {
        return;
    }
    let mut data = json!({"from": last.role.as_str(), "to": status.role.as_str(), "reason": shown(status)});
    if status.role == Role::Primary && phases.acquired_at.is_some() {
        let lost_to_key = phases.leaderless_at.zip(phases.acquired_at).map(|(lost, key)| key.since(lost));
        data["phases"] = json!({
            "leader_lost_to_key_ms": lost_to_key.map(millis),
            "key_to_primary_ms": ms(phases.acquired_at, status),
        });
    }
    data["timeline"] = json!(status.timeline);
    happened.push(Happening::new("role.changed", data));
}

fn operation(last: &NodeStatus, status: &NodeStatus, phases: &mut Phases, happened: &mut Vec<Happening>) {
    if last.operation != status.operation {
        if let Some(ended) = last.operation {
            let data = json!({"operation": ended, "took_ms": ms(phases.operation_at.take(), status)});
            happened.push(Happening::new("operation.ended", data));
        }
        if let Some(begun) = status.operation {
            (phases.operation_at, phases.tenths) = (Some(status.turned_at), 0);
            happened.push(Happening::new("operation.started", json!({"operation": begun, "reason": shown(status)})));
        }
    }
    let Some(progress) = status.postgres.as_ref().and_then(|postgres| postgres.progress) else { return };
    let shown = json!(progress);
    let (Some(done), Some(total)) = (shown["done_bytes"].as_u64(), shown["total_bytes"].as_u64()) else { return };
    let tenths = done.saturating_mul(10).checked_div(total).unwrap_or(0).min(10);
    if tenths > phases.tenths {
        phases.tenths = tenths;
        let data = json!({"operation": status.operation, "done_bytes": done, "total_bytes": total});
        happened.push(Happening::new("operation.progress", data));
    }
}

fn servers(before: &RunningServer, after: &RunningServer, happened: &mut Vec<Happening>) {
    if before.postmaster_start_time != after.postmaster_start_time {
        let data = json!({"started_at": after.postmaster_start_time});
        happened.push(Happening::new("postgresql.restarted", data));
    }
    if !before.pending_restart && after.pending_restart {
        let names: Vec<&str> = after.pending_restart_reason.iter().map(|(name, _, _)| name.as_str()).collect();
        happened.push(Happening::new("restart.pending", json!({"settings": names})));
    }
}

/// What is to be known of the DCS itself.
fn store(last: &DcsSurvey, survey: &DcsSurvey, happened: &mut Vec<Happening>) {
    let here = |survey: &DcsSurvey| survey.leader_here == Some(true) && survey.moved_to.is_none();
    if here(last) != here(survey) {
        happened.push(Happening::new("dcs.leader", json!({"here": here(survey)})));
    }
    if let Some(to) = survey.moved_to.as_ref().filter(|_| last.moved_to != survey.moved_to) {
        happened.push(Happening::new("dcs.leader.moved", json!({"to": to})));
    }
    if last.troubles != survey.troubles {
        happened.push(Happening::new("dcs.trouble", json!({"troubles": survey.troubles})));
    }
}

fn switches(last: &NodeStatus, status: &NodeStatus, happened: &mut Vec<Happening>) {
    let breaches = |status: &NodeStatus| status.counts.breaches > 0;
    for (kind, before, after) in [
        ("maintenance.changed", last.settings.pause, status.settings.pause),
        ("failsafe.changed", last.failsafe_active, status.failsafe_active),
        ("watchdog.changed", !last.watchdog_failed, !status.watchdog_failed),
        ("invariant.breached", breaches(last), breaches(status)),
    ] {
        if before != after {
            happened.push(Happening::new(kind, json!({"on": after})));
        }
    }
    if last.scheduled_restart != status.scheduled_restart {
        let at = status.scheduled_restart.as_ref().map(|restart| restart.text.as_str());
        happened.push(Happening::new("restart.scheduled", json!({"at": at})));
    }
}
