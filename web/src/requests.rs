//! The way from HTTP handlers to the actors that do what operators and peers ask for. The API server listens before those
//! exist, so the ways are filled in once; until then requests are answered with 503.

use crate::answer::Answer;
use actix::{Message, Recipient};
use actix_web::http::StatusCode;
use pgherd_protocol::coordinator::{RequestFailsafe, RequestWish};
use pgherd_protocol::events::EventSink;
use pgherd_protocol::explain::RequestExplanation;
use pgherd_protocol::node::ReloadRequested;
use pgherd_protocol::postgres_monitor::LookNow;
use pgherd_protocol::request_desk::{RequestCancelSwitchover, RequestConfig, RequestFailover};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// Who handles what; `None` where nobody does.
#[derive(Clone, Default)]
pub struct Requests {
    /// `POST /switchover`, `POST /failover`.
    pub failover: Option<Recipient<RequestFailover>>,
    /// `DELETE /switchover`.
    pub cancel_switchover: Option<Recipient<RequestCancelSwitchover>>,
    /// `PATCH /config`, `PUT /config`.
    pub config: Option<Recipient<RequestConfig>>,
    /// `/restart` and `/reinitialize`.
    pub wish: Option<Recipient<RequestWish>>,
    /// `POST /failsafe`.
    pub failsafe: Option<Recipient<RequestFailsafe>>,
    /// `GET /patroni?look=now`.
    pub look: Option<Recipient<LookNow>>,
    /// `GET /explain`.
    pub explain: Option<Recipient<RequestExplanation>>,
    /// Who is told what was asked for.
    pub events: Option<EventSink>,
    /// `POST /reload`.
    pub reload: Option<Recipient<ReloadRequested>>,
}

/// Filled in when the actors run.
pub type SharedRequests = Arc<OnceLock<Requests>>;

/// Asks, and waits no longer than that; the error is the answer for the client. Pending once in any case, if there is
/// somebody to ask.
pub async fn ask<M>(
    requests: &SharedRequests,
    way: impl FnOnce(&Requests) -> &Option<Recipient<M>>,
    message: M,
    patience: Duration,
) -> Result<M::Result, Answer>
where
    M: Message + Send + 'static,
    M::Result: Send,
{
    let unavailable = |why: &str| Answer::error(StatusCode::SERVICE_UNAVAILABLE, why);
    let requests = requests.get().ok_or_else(|| unavailable("the node is still starting: try again"))?;
    let to = way(requests).as_ref().ok_or_else(|| unavailable("nothing on this node handles such a request"))?;
    // what an actor says is never there at the first poll, however quick it is: to a client that does not wait, what is
    // refused at once is what its request alone is refused for
    tokio::task::yield_now().await;
    match tokio::time::timeout(patience, to.send(message)).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(_)) => Err(unavailable("the node is being stopped, or the request failed: see its log")),
        Err(_) => Err(unavailable(&format!(
            "no answer within {} seconds; the operation may still be in progress",
            patience.as_secs()
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use actix::{Actor, ActorContext, Context, Handler};
    use std::future::{Future, poll_fn};
    use std::task::Poll;

    struct Gone;

    impl Actor for Gone {
        type Context = Context<Self>;
        fn started(&mut self, context: &mut Context<Self>) {
            context.stop();
        }
    }

    impl Handler<ReloadRequested> for Gone {
        type Result = bool;
        fn handle(&mut self, _: ReloadRequested, _: &mut Context<Self>) -> bool {
            true
        }
    }

    #[actix_rt::test]
    async fn what_an_actor_says_is_not_there_at_once() {
        let to = Gone.start();
        while to.connected() {
            tokio::task::yield_now().await;
        }
        let requests = SharedRequests::default();
        let ways = Requests { reload: Some(to.recipient()), ..Requests::default() };
        assert!(requests.set(ways).is_ok());
        let mut asked = Box::pin(ask(&requests, |r| &r.reload, ReloadRequested, Duration::from_secs(60)));
        let first = poll_fn(|context| Poll::Ready(asked.as_mut().poll(context))).await;
        assert!(first.is_pending());
        assert_eq!(asked.await.map_err(|answer| answer.code), Err(StatusCode::SERVICE_UNAVAILABLE));
    }
}
