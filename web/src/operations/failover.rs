//! `POST /switchover` and `POST /failover`: what can be said without looking at the members.

use super::{body, moment};
use crate::answer::Answer;
use pgherd_protocol::request_desk::RequestFailover;
use pgherd_types::{MemberName, Settings, WallTime};
use serde_json::{Map, Value};
use std::time::Duration;

/// Checks in the order clients know; the first that fails answers.
pub fn read(
    action: &'static str,
    fields: &Map<String, Value>,
    paused: bool,
    now: WallTime,
) -> Result<RequestFailover, Answer> {
    let leader = name(fields, "leader")?;
    let candidate = name(fields, "candidate")?.or(name(fields, "member")?);
    let schedule = fields.get("scheduled_at").filter(|at| !at.is_null() && *at != "");
    match action {
        "failover" if candidate.is_none() => {
            return Err(Answer::refused("Failover could be performed only to a specific candidate"));
        }
        "switchover" if leader.is_none() => {
            return Err(Answer::refused("Switchover could be performed only from a specific leader"));
        }
        "failover" if schedule.is_some() => return Err(Answer::refused("Failover can't be scheduled")),
        _ => {}
    }
    if paused && schedule.is_some() {
        return Err(Answer::refused("Can't schedule switchover in the paused state"));
    }
    let scheduled_at = schedule.map(|at| moment::read("switchover", at, now)).transpose()?;
    if paused && candidate.is_none() {
        return Err(Answer::refused("Switchover is possible only to a specific candidate in a paused state"));
    }
    if leader.is_some() && leader == candidate {
        return Err(Answer::refused("Switchover target and source are the same"));
    }
    // a failover from a given leader is a switchover
    let action = if leader.is_some() { "switchover" } else { action };
    Ok(RequestFailover { action, leader, candidate, scheduled_at })
}

/// How long it is waited at most for what becomes of it.
pub fn patience(settings: &Settings) -> Duration {
    settings.loop_wait.max(Duration::from_secs(10)) * 2
}

fn name(fields: &Map<String, Value>, key: &str) -> Result<Option<MemberName>, Answer> {
    match fields.get(key) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(name)) => Ok(Some(name.as_str()).filter(|name| !name.is_empty()).map(MemberName::from)),
        Some(_) => Err(body::bad(&format!("{key}: must be the name of a member"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pgherd_protocol::request_desk::Moment;
    use serde_json::json;

    const NOW: WallTime = WallTime(1_893_456_000_000);
    const LATER: &str = "2030-01-01T12:00:00+00:00";

    fn asked(action: &'static str, fields: Value, paused: bool) -> Result<RequestFailover, Answer> {
        read(action, fields.as_object().unwrap(), paused, NOW)
    }

    #[test]
    fn what_cannot_be_is_refused_with_the_known_text() {
        let zone = "Timezone information is mandatory for the scheduled switchover";
        let garbage = "Unable to parse scheduled timestamp. It should be in an unambiguous format, e.g. ISO 8601";
        for (action, fields, paused, code, text) in [
            ("failover", json!({}), false, 400, "Failover could be performed only to a specific candidate"),
            ("failover", json!({"leader": "a"}), true, 400, "Failover could be performed only to a specific candidate"),
            (
                "switchover",
                json!({"candidate": "b"}),
                false,
                400,
                "Switchover could be performed only from a specific leader",
            ),
            (
                "switchover",
                json!({"leader": ""}),
                false,
                400,
                "Switchover could be performed only from a specific leader",
            ),
            ("failover", json!({"candidate": "b", "scheduled_at": LATER}), true, 400, "Failover can't be scheduled"),
            (
                "switchover",
                json!({"leader": "a", "scheduled_at": "x"}),
                true,
                400,
                "Can't schedule switchover in the paused state",
            ),
            ("switchover", json!({"leader": "a", "scheduled_at": "2030-01-02T00:00"}), false, 400, zone),
            (
                "switchover",
                json!({"leader": "a", "scheduled_at": "2029-01-01T00:00Z"}),
                false,
                422,
                "Cannot schedule switchover in the past",
            ),
            ("switchover", json!({"leader": "a", "candidate": "a", "scheduled_at": "soon"}), false, 422, garbage),
            (
                "switchover",
                json!({"leader": "a"}),
                true,
                400,
                "Switchover is possible only to a specific candidate in a paused state",
            ),
            (
                "switchover",
                json!({"leader": "a", "candidate": "a"}),
                false,
                400,
                "Switchover target and source are the same",
            ),
            (
                "failover",
                json!({"leader": "a", "member": "a"}),
                false,
                400,
                "Switchover target and source are the same",
            ),
        ] {
            let answer = asked(action, fields.clone(), paused).unwrap_err();
            assert_eq!((answer.code.as_u16(), answer.body.as_deref()), (code, Some(text)), "{action} {fields}");
        }
        for fields in [json!({"leader": 1}), json!({"leader": "a", "candidate": ["b"]})] {
            assert_eq!(asked("switchover", fields, false).unwrap_err().code, 400);
        }
    }

    #[test]
    fn what_can_be_is_passed_on() {
        let request = |action, leader: Option<&str>, candidate: Option<&str>, scheduled_at| RequestFailover {
            action,
            leader: leader.map(Into::into),
            candidate: candidate.map(Into::into),
            scheduled_at,
        };
        let later = Moment { at: WallTime(NOW.0 + 12 * 3_600_000), text: LATER.into() };
        for (action, fields, paused, expected) in [
            ("switchover", json!({"leader": "a"}), false, request("switchover", Some("a"), None, None)),
            (
                "switchover",
                json!({"leader": "a", "candidate": "b", "scheduled_at": ""}),
                true,
                request("switchover", Some("a"), Some("b"), None),
            ),
            (
                "switchover",
                json!({"leader": "a", "member": "b", "scheduled_at": null}),
                false,
                request("switchover", Some("a"), Some("b"), None),
            ),
            (
                "switchover",
                json!({"leader": "a", "scheduled_at": LATER}),
                false,
                request("switchover", Some("a"), None, Some(later)),
            ),
            ("failover", json!({"candidate": "b"}), true, request("failover", None, Some("b"), None)),
            (
                "failover",
                json!({"leader": null, "candidate": "", "member": "b"}),
                false,
                request("failover", None, Some("b"), None),
            ),
            (
                "failover",
                json!({"leader": "a", "candidate": "b"}),
                false,
                request("switchover", Some("a"), Some("b"), None),
            ),
        ] {
            assert_eq!(asked(action, fields.clone(), paused), Ok(expected), "{fields}");
        }
    }
}
