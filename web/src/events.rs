//! `GET /events`: what happened on this node, as a JSON document, as server-sent events, or over a WebSocket. A reader
//! holds nobody up: it takes what is kept in memory at its own pace, and is told how much it missed.

mod follower;
mod query;
mod socket;
mod stream;

use crate::answer::Answer;
use crate::operations::State;
use actix_web::http::{Method, StatusCode, header};
use actix_web::{HttpRequest, HttpResponse, web};
use follower::Follower;
use pgherd_protocol::events::{Event, EventFeed};
use query::Query;
use std::sync::Arc;

/// The answer.
pub async fn serve(request: &HttpRequest, payload: web::Payload, state: &State) -> HttpResponse {
    let refused = |code, why: &str| Answer::error(code, why).respond(request);
    let last_id = request.headers().get("last-event-id").and_then(|id| id.to_str().ok());
    let query = match Query::read(request.query_string(), last_id) {
        Ok(query) => query,
        Err(why) => return refused(StatusCode::BAD_REQUEST, &why),
    };
    let wants = |name: header::HeaderName, word: &str| {
        let text = request.headers().get(name).and_then(|value| value.to_str().ok());
        *request.method() == Method::GET && text.is_some_and(|text| text.to_ascii_lowercase().contains(word))
    };
    let (socket, stream) = (wants(header::UPGRADE, "websocket"), wants(header::ACCEPT, "text/event-stream"));
    if !socket && !stream {
        return Answer::raw_json(StatusCode::OK, document(&state.feed, &query)).respond(request);
    }
    let Some(follower) = Follower::begin(state.feed.clone(), query) else {
        return refused(StatusCode::SERVICE_UNAVAILABLE, "too many follow the events of this node already");
    };
    if socket { socket::serve(request, payload, follower) } else { stream::serve(follower) }
}

/// Some of the events, and what there is: the texts are JSON already.
fn document(feed: &EventFeed, query: &Query) -> String {
    let (events, missed) = match query.since {
        None => (feed.newest(query.limit, |event| query.wants(event)), 0),
        Some(since) => {
            let found = feed.after(since.seq, usize::MAX);
            let wanted = found.events.into_iter().filter(|event| query.wants(event)).take(query.limit);
            (wanted.collect(), found.missed)
        }
    };
    let id = |id: Option<pgherd_protocol::events::EventId>| id.map_or("null".to_owned(), |id| format!("\"{id}\""));
    let (first, last) = feed.ends().map_or((None, None), |(first, last)| (Some(first), Some(last)));
    let texts: Vec<&str> = events.iter().map(|event: &Arc<Event>| event.text.as_str()).collect();
    format!(r#"{{"events": [{}], "first": {}, "last": {}, "missed": {missed}}}"#, texts.join(", "), id(first), id(last))
}

#[cfg(test)]
#[path = "events_tests.rs"]
mod tests;
