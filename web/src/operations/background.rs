//! Operations whose client does not wait (`Prefer: respond-async`): each gets an id, and goes on by itself. What becomes of
//! it is told at `/operations/{id}`, with what happened on this node meanwhile. After a restart of the agent the record of
//! events still has their beginning and their end.

mod record;
mod remembered;

use super::Operation;
use crate::PublishedStatus;
use crate::answer::Answer;
use actix_web::HttpRequest;
use actix_web::http::StatusCode;
use pgherd_protocol::events::{EventFeed, EventSink, Told};
use pgherd_types::{NodeStatus, ServerPhase};
use record::Record;
use serde_json::json;
use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;
use std::time::Duration;

/// So many are remembered, and so many may go on at a time.
const KEPT_MAX: usize = 100;
const RUNNING_MAX: usize = 16;
/// How often a copy is looked after, and for how long.
const STEP: Duration = Duration::from_millis(200);
const COPY_PATIENCE: Duration = Duration::from_secs(7 * 86_400);

/// Those that go on, and those that ended lately.
#[derive(Clone, Default)]
pub struct Background(Arc<Mutex<VecDeque<Record>>>);

/// Does the client ask not to wait, and is this something that takes a while?
pub fn is_wanted(operation: Operation, request: &HttpRequest) -> bool {
    let prefers = request.headers().get_all("prefer").filter_map(|value| value.to_str().ok());
    let asked =
        prefers.flat_map(|text| text.split([',', ';'])).any(|word| word.trim().eq_ignore_ascii_case("respond-async"));
    asked
        && matches!(
            operation,
            Operation::Switchover | Operation::Failover | Operation::Restart | Operation::Reinitialize
        )
}

impl Background {
    /// Begins the work. What is refused at once is answered at once; else the answer is where to ask for the rest.
    pub async fn begin(
        &self,
        (operation, whom): (Operation, &str),
        work: impl Future<Output = Answer> + 'static,
        status: PublishedStatus,
        (feed, sink): (&EventFeed, Option<EventSink>),
    ) -> Answer {
        if self.all(|records| records.iter().filter(|record| record.is_running()).count()) >= RUNNING_MAX {
            return Answer::error(
                StatusCode::SERVICE_UNAVAILABLE,
                "too many operations go on already: try again later",
            );
        }
        let since = feed.ends().map_or(0, |(_, last)| last.seq);
        let mut work = Box::pin(work);
        let at_once = match poll_fn(|context| Poll::Ready(work.as_mut().poll(context))).await {
            Poll::Ready(answer) if !answer.code.is_success() => return answer,
            Poll::Ready(answer) => Some(answer),
            Poll::Pending => None,
        };
        let id = self.all(|records| {
            let record = Record::new(operation, whom, since);
            let id = record.id().to_owned();
            if records.len() >= KEPT_MAX
                && let Some(at) = records.iter().position(|record| !record.is_running())
            {
                records.remove(at);
            }
            records.push_back(record);
            id
        });
        let tell = move |kind, data| sink.as_ref().is_some_and(|sink| sink.tell(Told::Happened(kind, data)));
        tell(remembered::ACCEPTED, json!({"id": id, "operation": operation.as_str(), "from": whom}));
        let (all, known) = (self.clone(), id.clone());
        let feed = feed.clone();
        actix_web::rt::spawn(async move {
            let mut answer = match at_once {
                Some(answer) => answer,
                None => work.await,
            };
            if operation == Operation::Reinitialize && answer.code.is_success() {
                answer = copied(&status, &feed, since).await;
            }
            let until = feed.ends().map_or(0, |(_, last)| last.seq);
            let ended = all.all(|records| {
                let record = records.iter_mut().find(|record| record.id() == known)?;
                record.end(answer, until);
                Some(record.ending())
            });
            ended.map(|ending| tell(remembered::ENDED, ending));
        });
        let href = format!("/operations/{id}");
        Answer::json(StatusCode::ACCEPTED, &json!({"id": id, "href": href}))
            .with_header("Location", href)
            .with_header("Preference-Applied", "respond-async".to_owned())
    }

    /// `/operations` and `/operations/{id}`.
    pub fn answer(&self, path: &str, status: &NodeStatus, feed: &EventFeed) -> Answer {
        let mut parts = path.split('/').filter(|part| !part.is_empty()).skip(1);
        self.all(|records| match parts.next() {
            None => {
                let all: Vec<_> = records.iter().map(Record::brief).collect();
                Answer::json(StatusCode::OK, &json!({"operations": all}))
            }
            Some(id) => {
                let known = records.iter().find(|record| record.id() == id).map(|record| record.document(status, feed));
                match known.or_else(|| remembered::document(id, feed)) {
                    Some(document) => Answer::json(StatusCode::OK, &document),
                    None => Answer::error(StatusCode::NOT_FOUND, "no such operation is known (any more)"),
                }
            }
        })
    }

    fn all<T>(&self, with: impl FnOnce(&mut VecDeque<Record>) -> T) -> T {
        with(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// A new copy is to be made: waits until PostgreSQL runs from it.
async fn copied(status: &PublishedStatus, feed: &EventFeed, since: u64) -> Answer {
    let deadline = pgherd_clock::boottime() + COPY_PATIENCE;
    // the server that runs before is not the one that is waited for
    let began = || feed.after(since, usize::MAX).events.iter().any(|event| event.kind == "pgherd.operation.started");
    while pgherd_clock::boottime() < deadline {
        let runs = |status: &NodeStatus| status.operation.is_none() && status.phase == ServerPhase::Running;
        if runs(&status.load()) && began() {
            return Answer::text(StatusCode::OK, "reinitialized: PostgreSQL runs from the new copy");
        }
        actix_web::rt::time::sleep(STEP).await;
    }
    Answer::error(StatusCode::GATEWAY_TIMEOUT, "the copy has not come to an end; it is not watched any longer")
}

#[cfg(test)]
#[path = "background/background_tests.rs"]
mod tests;
