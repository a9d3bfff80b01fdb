//! `/restart` and `/reinitialize`: what is asked of this one node, and how it ended.

use super::{body, moment};
use crate::answer::Answer;
use actix_web::http::StatusCode;
use pgherd_types::{RestartWish, Role, ScheduledRestart, WallTime, Wish, WishEnd};
use serde_json::{Map, Value};
use std::time::Duration;

/// Longer times are mistakes.
const SECONDS_MAX: f64 = 10_000_000.0;

/// Reads the conditions, in the order they were sent; the first that is wrong answers.
pub fn restart(fields: &Map<String, Value>, now: WallTime, postmaster_start_time: &str) -> Result<Wish, Answer> {
    let (mut wish, mut schedule, mut shown) = (RestartWish::default(), None, Vec::new());
    for (key, value) in fields {
        match key.as_str() {
            "schedule" => schedule = Some(moment::read("restart", value, now)?),
            "role" => wish.filter.role = Some(role(value)?),
            "postgres_version" => wish.filter.below_version = Some(version(value)?),
            "timeout" => wish.timeout = Some(timeout(value)?),
            "restart_pending" => wish.filter.pending_only = flag(key, value)?,
            other => return Err(Answer::refused(format!("Unknown filter for the scheduled restart: {other}"))),
        }
        if key != "schedule" && (key != "restart_pending" || wish.filter.pending_only) {
            shown.push((key.clone(), value.to_string()));
        }
    }
    let Some(moment) = schedule else { return Ok(Wish::Restart(wish)) };
    let postmaster_start_time = postmaster_start_time.to_owned();
    Ok(Wish::ScheduleRestart(ScheduledRestart { at: moment.at, text: moment.text, wish, shown, postmaster_start_time }))
}

fn role(value: &Value) -> Result<Role, Answer> {
    match value.as_str() {
        Some("primary") => Ok(Role::Primary),
        Some("standby_leader") => Ok(Role::StandbyLeader),
        Some("replica") => Ok(Role::Replica),
        _ => Err(Answer::refused("PostgreSQL role should be either primary, standby_leader, or replica")),
    }
}

/// As `server_version_num`: `9.6.3` is 90603, `15.4` is 150004.
fn version(value: &Value) -> Result<u32, Answer> {
    let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let parts: Vec<&str> = text.split('.').collect();
    let parts = match parts[..] {
        [major, minor] => [major, "0", minor],
        [major, minor, patch] => [major, minor, patch],
        _ => {
            let text = format!("Invalid PostgreSQL version format: X.Y or X.Y.Z is accepted: {text}");
            return Err(Answer::refused(text));
        }
    };
    let part = |part: &str| part.parse::<u8>().ok().filter(|n| *n < 100 && !part.starts_with('+'));
    match parts.map(part) {
        [Some(a), Some(b), Some(c)] => Ok(u32::from(a) * 10_000 + u32::from(b) * 100 + u32::from(c)),
        _ => Err(Answer::refused(format!("Invalid PostgreSQL version: {text}"))),
    }
}

/// Seconds, or with a unit: `500ms`, `30s`, `5min`, `1h`, `1d`.
fn timeout(value: &Value) -> Result<Duration, Answer> {
    let seconds = match value {
        Value::Number(number) => number.as_f64(),
        Value::String(text) => seconds(text.trim()),
        _ => None,
    };
    match seconds {
        Some(seconds) if seconds > 0.0 && seconds <= SECONDS_MAX => Ok(Duration::from_secs_f64(seconds)),
        _ => Err(Answer::refused("Timeout should be a positive number of seconds")),
    }
}

fn seconds(text: &str) -> Option<f64> {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let number: f64 = text[..end].parse().ok()?;
    let factor = match text[end..].trim() {
        "" | "s" => 1.0,
        "ms" => 0.001,
        "min" => 60.0,
        "h" => 3_600.0,
        "d" => 86_400.0,
        _ => return None,
    };
    Some(number * factor)
}

/// Reads what kind of new copy is wanted.
pub fn reinitialize(fields: &Map<String, Value>) -> Result<Wish, Answer> {
    let read = |key: &str| fields.get(key).map_or(Ok(false), |value| flag(key, value));
    Ok(Wish::Reinitialize { force: read("force")?, from_leader: read("from_leader")? })
}

fn flag(key: &str, value: &Value) -> Result<bool, Answer> {
    let flag = match value {
        Value::Null => Some(false),
        Value::Bool(flag) => Some(*flag),
        Value::Number(number) => number.as_u64().filter(|n| *n < 2).map(|n| n == 1),
        Value::String(text) => match text.to_ascii_lowercase().as_str() {
            "on" | "true" | "yes" | "1" => Some(true),
            "off" | "false" | "no" | "0" => Some(false),
            _ => None,
        },
        Value::Array(_) | Value::Object(_) => None,
    };
    flag.ok_or_else(|| body::bad(&format!("{key}: must be true or false")))
}

/// For `POST /restart`.
pub fn restart_answer(end: WishEnd) -> Answer {
    use StatusCode as Code;
    match end {
        WishEnd::Done => Answer::text(Code::OK, "restarted successfully"),
        WishEnd::Scheduled => Answer::text(Code::ACCEPTED, "Restart scheduled"),
        WishEnd::AlreadyScheduled => Answer::text(Code::CONFLICT, "Another restart is already scheduled"),
        WishEnd::Paused => Answer::text(Code::INTERNAL_SERVER_ERROR, "Can't schedule restart in the paused state"),
        WishEnd::ConditionsNotMet => Answer::text(Code::SERVICE_UNAVAILABLE, "restart conditions are not satisfied"),
        WishEnd::Busy(action) => busy(&action),
        WishEnd::StillStarting => Answer::text(Code::SERVICE_UNAVAILABLE, "postgres is still starting"),
        WishEnd::Failed(_) | WishEnd::NoLeader | WishEnd::IsLeader | WishEnd::NothingScheduled => {
            Answer::text(Code::SERVICE_UNAVAILABLE, "restart failed")
        }
    }
}

/// For `DELETE /restart`.
pub fn cancel_answer(end: WishEnd) -> Answer {
    match end {
        WishEnd::Done => Answer::text(StatusCode::OK, "scheduled restart deleted"),
        WishEnd::NothingScheduled => Answer::text(StatusCode::NOT_FOUND, "no restarts are scheduled"),
        WishEnd::Busy(action) => busy(&action),
        WishEnd::Failed(why) => Answer::text(StatusCode::SERVICE_UNAVAILABLE, why),
        WishEnd::Scheduled
        | WishEnd::ConditionsNotMet
        | WishEnd::AlreadyScheduled
        | WishEnd::Paused
        | WishEnd::NoLeader
        | WishEnd::IsLeader
        | WishEnd::StillStarting => nonsense(&end),
    }
}

/// For `POST /reinitialize`.
pub fn reinitialize_answer(end: WishEnd) -> Answer {
    use StatusCode as Code;
    let refused = |why: &str| Answer::text(Code::SERVICE_UNAVAILABLE, format!("{why}, can not reinitialize"));
    match end {
        WishEnd::Done => Answer::text(Code::OK, "reinitialize started"),
        WishEnd::NoLeader => refused("Cluster has no leader"),
        WishEnd::IsLeader => refused("I am the leader"),
        WishEnd::Busy(action) => busy(&action),
        WishEnd::Failed(why) => Answer::text(Code::SERVICE_UNAVAILABLE, why),
        WishEnd::Scheduled
        | WishEnd::ConditionsNotMet
        | WishEnd::AlreadyScheduled
        | WishEnd::NothingScheduled
        | WishEnd::Paused
        | WishEnd::StillStarting => nonsense(&end),
    }
}

fn busy(action: &str) -> Answer {
    Answer::text(StatusCode::SERVICE_UNAVAILABLE, format!("{action} already in progress"))
}

/// An end that this wish cannot have.
fn nonsense(end: &WishEnd) -> Answer {
    Answer::error(StatusCode::INTERNAL_SERVER_ERROR, &format!("the request ended in an unexpected way: {end:?}"))
}

#[cfg(test)]
#[path = "wishes_tests.rs"]
mod tests;
