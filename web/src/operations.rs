//! Everything that changes something: who may, what exactly is asked for, who is asked, and what is answered. What can
//! be checked from the request alone is checked here; the rest belongs to the actors.

pub mod background;
mod body;
mod failover;
mod moment;
mod strict_json;
mod wishes;

use crate::answer::Answer;
use crate::auth::{Caller, Denied, Members, SharedAccess};
use crate::connection::Client;
use crate::headers::SharedHeaders;
use crate::requests::{Requests, SharedRequests, ask};
use crate::{PublishedStatus, health};
use actix_web::http::{Method, StatusCode, header};
use actix_web::{HttpRequest, web};
use background::Background;
use body::Body;
use pgherd_protocol::coordinator::{FailsafeAnswer, RequestFailsafe, RequestWish};
use pgherd_protocol::events::{EventFeed, Told};
use pgherd_protocol::node::ReloadRequested;
use pgherd_protocol::request_desk::{RequestCancelSwitchover, RequestConfig};
use pgherd_types::{Lsn, NodeStatus, Wish, WishEnd};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// What the desk may take for anything but a switchover.
const DESK_PATIENCE: Duration = Duration::from_secs(60);
/// A primary that asks for its life does not wait longer.
const FAILSAFE_PATIENCE: Duration = Duration::from_secs(5);
/// Beside the times that belong to a restart: stopping, and another operation that ends first.
const RESTART_PATIENCE: Duration = Duration::from_secs(600);

/// All that handlers need.
#[derive(Clone)]
pub struct State {
    /// What the node says of itself.
    pub status: PublishedStatus,
    /// Whom to ask.
    pub requests: SharedRequests,
    /// Who may.
    pub access: SharedAccess,
    /// What happened.
    pub feed: EventFeed,
    /// What every answer has beside its own.
    pub headers: SharedHeaders,
    /// What goes on although nobody waits for it.
    pub background: Background,
}

/// The operations.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Operation {
    /// `POST /switchover`.
    Switchover,
    /// `POST /failover`.
    Failover,
    /// `DELETE /switchover`.
    CancelSwitchover,
    /// `PATCH /config`.
    PatchConfig,
    /// `PUT /config`.
    ReplaceConfig,
    /// `POST /restart`.
    Restart,
    /// `DELETE /restart`.
    CancelRestart,
    /// `POST /reinitialize`.
    Reinitialize,
    /// `POST /reload`.
    Reload,
    /// `POST /failsafe`.
    Failsafe,
    /// `POST /sigterm`.
    Sigterm,
}

impl Operation {
    /// In a word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Switchover => "switchover",
            Self::Failover => "failover",
            Self::CancelSwitchover => "cancel switchover",
            Self::PatchConfig => "change configuration",
            Self::ReplaceConfig => "replace configuration",
            Self::Restart => "restart",
            Self::CancelRestart => "cancel restart",
            Self::Reinitialize => "reinitialize",
            Self::Reload => "reload",
            Self::Failsafe => "failsafe",
            Self::Sigterm => "sigterm",
        }
    }
    /// The one that this method and first segment of a path name.
    pub fn named(method: &Method, segment: &str) -> Option<Self> {
        let asked = |(known, path, _): &&(&str, &str, Self)| *known == method.as_str() && *path == segment;
        ROUTES.iter().find(asked).map(|(_, _, operation)| *operation)
    }
}

/// Method and first segment of the path of each. The server goes by this table, and so does the document at `/openapi.json`.
pub const ROUTES: &[(&str, &str, Operation)] = &[
    ("POST", "switchover", Operation::Switchover),
    ("POST", "failover", Operation::Failover),
    ("DELETE", "switchover", Operation::CancelSwitchover),
    ("PATCH", "config", Operation::PatchConfig),
    ("PUT", "config", Operation::ReplaceConfig),
    ("POST", "restart", Operation::Restart),
    ("DELETE", "restart", Operation::CancelRestart),
    ("POST", "reinitialize", Operation::Reinitialize),
    ("POST", "reload", Operation::Reload),
    ("POST", "failsafe", Operation::Failsafe),
    ("POST", "sigterm", Operation::Sigterm),
];

/// Checks, reads, asks and answers.
pub async fn perform(operation: Operation, request: &HttpRequest, payload: web::Payload, state: &State) -> Answer {
    let from = request.peer_addr().map(|address| address.ip().to_canonical());
    let whom = from.map_or_else(|| "an unknown address".to_owned(), |from| from.to_string());
    let status = state.status.load_full();
    let answer = match check_access(operation, request, &status, state).await {
        Err(denied) => denied.answer(),
        Ok(()) => {
            let answer = allowed(operation, request, payload, (&whom, status, state)).await;
            // who may not ask must not fill the record either, and peers repeat their question many times a minute
            if operation != Operation::Failsafe {
                record(operation, &whom, &answer, &state.requests);
            }
            answer
        }
    };
    let level = if operation == Operation::Failsafe { log::Level::Debug } else { log::Level::Info };
    log::log!(level, "REST API: {operation:?} asked for by {whom}: {}", answer.code.as_u16());
    answer
}

async fn allowed(
    operation: Operation,
    request: &HttpRequest,
    payload: web::Payload,
    (whom, status, state): (&str, Arc<NodeStatus>, &State),
) -> Answer {
    let body = match body::read(request, payload).await {
        Ok(body) => body,
        Err(answer) => return answer,
    };
    let requests = state.requests.clone();
    let work = async move { carry_out(operation, body, &status, &requests).await.unwrap_or_else(|answer| answer) };
    match background::is_wanted(operation, request) {
        true => {
            let sink = state.requests.get().and_then(|requests| requests.events.clone());
            state.background.begin((operation, whom), work, state.status.clone(), (&state.feed, sink)).await
        }
        false => work.await,
    }
}

/// Who asked for what, and what was said; not what the request held, which may be a secret.
fn record(operation: Operation, whom: &str, answer: &Answer, requests: &SharedRequests) {
    let Some(events) = requests.get().and_then(|requests| requests.events.as_ref()) else { return };
    let said = answer.body.as_deref().filter(|_| !answer.code.is_success()).unwrap_or_default();
    let said: String = said.chars().take(500).collect();
    let data = json!({"operation": operation.as_str(), "from": whom, "status": answer.code.as_u16(), "refusal": said});
    events.tell(Told::Happened("request", data));
}

async fn check_access(
    operation: Operation,
    request: &HttpRequest,
    status: &NodeStatus,
    state: &State,
) -> Result<(), Denied> {
    let caller = Caller {
        address: request.peer_addr().map(|address| address.ip()),
        verified: Client::of(request).verified,
        authorization: request.headers().get(header::AUTHORIZATION).map(|value| value.as_bytes()),
    };
    let members = match operation {
        // must work when nothing is known of the cluster any more
        Operation::Failsafe => Members::Ignore,
        _ => Members::Count(status.cluster.as_ref().map(|(cluster, _)| &**cluster)),
    };
    state.access.load_full().check(caller, members).await
}

async fn carry_out(
    operation: Operation,
    body: Body,
    status: &NodeStatus,
    requests: &SharedRequests,
) -> Result<Answer, Answer> {
    let now = pgherd_clock::now();
    match operation {
        Operation::Switchover | Operation::Failover => {
            let action = if operation == Operation::Failover { "failover" } else { "switchover" };
            let request = failover::read(action, &body.needed()?, status.settings.pause, now.wall)?;
            let patience = failover::patience(&status.settings) + DESK_PATIENCE;
            ask(requests, |r: &Requests| &r.failover, request, patience).await.map(Answer::reply)
        }
        Operation::CancelSwitchover => {
            let reply = ask(requests, |r| &r.cancel_switchover, RequestCancelSwitchover, DESK_PATIENCE).await?;
            Ok(Answer::reply(reply))
        }
        Operation::PatchConfig => config(RequestConfig::Patch(body.needed()?), requests).await,
        Operation::ReplaceConfig => config(RequestConfig::Replace(body.needed()?), requests).await,
        Operation::Restart => {
            let server = health::server(status, now.mono).map(|server| server.postmaster_start_time.as_str());
            let wish = wishes::restart(&body.or_empty()?, now.wall, server.unwrap_or_default())?;
            let timeout = match &wish {
                Wish::Restart(restart) => restart.timeout.unwrap_or(status.settings.primary_start_timeout),
                Wish::ScheduleRestart(_) | Wish::CancelRestart | Wish::Reinitialize { .. } => Duration::ZERO,
            };
            wish_for(wish, timeout + RESTART_PATIENCE, requests).await.map(wishes::restart_answer)
        }
        Operation::CancelRestart => {
            wish_for(Wish::CancelRestart, DESK_PATIENCE, requests).await.map(wishes::cancel_answer)
        }
        Operation::Reinitialize => {
            let wish = wishes::reinitialize(&body.or_empty()?)?;
            wish_for(wish, DESK_PATIENCE, requests).await.map(wishes::reinitialize_answer)
        }
        Operation::Reload => {
            ask(requests, |r| &r.reload, ReloadRequested, DESK_PATIENCE).await?;
            Ok(Answer::text(StatusCode::ACCEPTED, "reload scheduled"))
        }
        Operation::Failsafe => {
            let question = failsafe_question(&body)?;
            ask(requests, |r| &r.failsafe, question, FAILSAFE_PATIENCE).await.map(failsafe_answer)
        }
        Operation::Sigterm => Ok(Answer::text(StatusCode::ACCEPTED, "shutdown scheduled")),
    }
}

async fn config(request: RequestConfig, requests: &SharedRequests) -> Result<Answer, Answer> {
    ask(requests, |r| &r.config, request, DESK_PATIENCE).await.map(Answer::reply_json)
}

async fn wish_for(wish: Wish, patience: Duration, requests: &SharedRequests) -> Result<WishEnd, Answer> {
    let end = ask(requests, |r| &r.wish, RequestWish(wish), patience).await?;
    // the texts that clients know have no room for it
    if let WishEnd::Failed(why) = &end {
        log::warn!("REST API: a request failed: {why}");
    }
    Ok(end)
}

fn failsafe_question(body: &Body) -> Result<RequestFailsafe, Answer> {
    let fields = body.needed()?;
    let text = |key: &str| {
        let text = fields.get(key).and_then(|value| value.as_str()).filter(|text| !text.is_empty());
        text.map(str::to_owned).ok_or_else(|| body::bad(&format!("{key}: must be text")))
    };
    let slots = match fields.get("slots") {
        None | Some(Value::Null) => BTreeMap::new(),
        Some(Value::Object(slots)) => {
            let position = |(slot, at): (&String, &Value)| Some((slot.clone(), Lsn(at.as_u64()?)));
            let read: Option<BTreeMap<_, _>> = slots.iter().map(position).collect();
            read.ok_or_else(|| body::bad("slots: must be positions, in bytes, by the names of slots"))?
        }
        Some(_) => return Err(body::bad("slots: must be a map of positions by the names of slots")),
    };
    let (name, conn_url, api_url) = (text("name")?.as_str().into(), text("conn_url")?, text("api_url")?);
    Ok(RequestFailsafe { name, conn_url, api_url, slots })
}

fn failsafe_answer(said: FailsafeAnswer) -> Answer {
    match said {
        FailsafeAnswer::Accepted { position } => {
            let accepted = Answer::text(StatusCode::OK, "Accepted");
            if position.is_zero() { accepted } else { accepted.with_header("lsn", position.0.to_string()) }
        }
        FailsafeAnswer::Off => Answer::error(StatusCode::BAD_GATEWAY, "failsafe_mode is not enabled"),
        FailsafeAnswer::Leading => Answer::text(StatusCode::INTERNAL_SERVER_ERROR, "Running as a leader"),
    }
}

#[cfg(test)]
#[path = "operations_tests.rs"]
mod tests;

#[cfg(test)]
#[path = "bad_input_tests.rs"]
mod bad_input_tests;

#[cfg(test)]
#[path = "damaged_bodies_tests.rs"]
mod damaged_bodies_tests;
