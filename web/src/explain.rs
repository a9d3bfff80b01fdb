//! `GET /explain`: why the node does what it does, and who could lead. The coordinator answers, which makes its decision
//! again for it; no more than a few may ask at a time, so that asking cannot keep it from its work.

use crate::answer::Answer;
use crate::query::Parameters;
use crate::requests::{SharedRequests, ask};
use actix_web::http::StatusCode;
use pgherd_protocol::explain::RequestExplanation;
use std::time::Duration;
use tokio::sync::Semaphore;

/// How long the coordinator may take. It never waits for anything: if it does not answer, that is what is wrong.
const PATIENCE: Duration = Duration::from_secs(2);
/// So many questions at a time.
static PERMITS: Semaphore = Semaphore::const_new(2);

/// The answer to this query.
pub async fn answer(query: &str, requests: &SharedRequests) -> Answer {
    let question = match read(query) {
        Ok(question) => question,
        Err(why) => return Answer::error(StatusCode::BAD_REQUEST, &why),
    };
    let Ok(Ok(_permit)) = tokio::time::timeout(PATIENCE, PERMITS.acquire()).await else {
        return Answer::error(StatusCode::SERVICE_UNAVAILABLE, "too many ask for an explanation: try again");
    };
    match ask(requests, |r| &r.explain, question, PATIENCE).await {
        Ok(explanation) => match serde_json::to_value(&explanation) {
            Ok(document) => Answer::json(StatusCode::OK, &document),
            Err(e) => Answer::error(StatusCode::INTERNAL_SERVER_ERROR, &format!("no explanation: {e}")),
        },
        Err(answer) => answer,
    }
}

fn read(query: &str) -> Result<RequestExplanation, String> {
    match Parameters::parse(query)?.get("if") {
        None => Ok(RequestExplanation { leader_lost: false }),
        Some("leader-lost") => Ok(RequestExplanation { leader_lost: true }),
        Some(other) => Err(format!("if={other}: must be leader-lost")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[actix_rt::test]
    async fn only_known_conditions_are_asked_about_and_nobody_waits_for_one_who_is_not_there() {
        assert_eq!(read(""), Ok(RequestExplanation { leader_lost: false }));
        assert_eq!(read("if=leader-lost&x=1"), Ok(RequestExplanation { leader_lost: true }));
        let requests = SharedRequests::default();
        assert_eq!(answer("if=rain", &requests).await.code, 400);
        assert_eq!(answer("", &requests).await.code, 503);
    }
}
