//! The URL table. The first segment of the path and the method select the answer; an unknown path is a health check that
//! fails, never 404, because that is what load balancers are used to. HEAD and OPTIONS answer with GET's status.

use crate::answer::Answer;
use crate::connection::Client;
use crate::health::{self, Verdict};
use crate::operations::{self, Operation, State};
use crate::query::Parameters;
use crate::reading::Reading;
use crate::{cluster, events, explain, metrics, openapi, page, probes, status};
use actix_web::http::{Method, StatusCode};
use actix_web::{HttpRequest, HttpResponse, web};
use pgherd_protocol::postgres_monitor::LookNow;
use pgherd_types::Instant;
use pgherd_types::node_status::NodeStatus;
use serde_json::Value;
use std::sync::Arc;
use std::time::Duration;

/// Asks for a status whose positions are not older than the request: other members ask so before a leader steps down.
const LOOK_NOW: &str = "look=now";
/// How long such a request waits for the look.
const LOOK_PATIENCE: Duration = Duration::from_millis(1000);
const LOOK_STEP: Duration = Duration::from_millis(5);

/// Every path and method that changes nothing.
fn answer(method: &Method, path: &str, query: &str, status: &Arc<NodeStatus>, now: Instant) -> Answer {
    if !is_reading(method) {
        return error(StatusCode::NOT_IMPLEMENTED, "Server does not support this operation");
    }
    let parameters = match Parameters::parse(query) {
        Ok(parameters) => parameters,
        Err(why) => return error(StatusCode::BAD_REQUEST, &why),
    };
    match Reading::named(first_segment(path)) {
        Reading::Liveness => bare(probes::liveness(status, now)),
        Reading::Readiness => bare(probes::readiness(status, &parameters, now)),
        Reading::Status => Answer::raw_json(StatusCode::OK, status::text(status, now)),
        Reading::Cluster => {
            cluster::document(status, now).map_or_else(never_read, |doc| json_answer(StatusCode::OK, &doc))
        }
        Reading::History => match &status.cluster {
            Some((cluster, _)) => json_answer(StatusCode::OK, &cluster::history(cluster)),
            None => never_read(),
        },
        Reading::Config => config(status),
        Reading::Failsafe => failsafe(status),
        Reading::OpenApi => openapi::answer(),
        Reading::Page => page::answer(),
        Reading::Metrics => match metrics::text(status, now) {
            Ok(text) => Answer::metrics(text),
            Err(why) => error(StatusCode::INTERNAL_SERVER_ERROR, &why),
        },
        // the last three are not answered from the status alone, and not from here
        Reading::Health | Reading::Explain | Reading::Events | Reading::Operations => {
            health_check(status, path, &parameters, now)
        }
    }
}

fn is_reading(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS)
}

/// `patroni` of `//patroni/x/y`; empty for `/`.
pub fn first_segment(path: &str) -> &str {
    path.trim_start_matches('/').split('/').next().unwrap_or_default()
}

fn health_check(status: &Arc<NodeStatus>, path: &str, parameters: &Parameters, now: Instant) -> Answer {
    let code = match health::check(status, path, parameters, now) {
        Verdict::Healthy => StatusCode::OK,
        Verdict::Unhealthy => StatusCode::SERVICE_UNAVAILABLE,
        Verdict::Nonsense(why) => return error(StatusCode::BAD_REQUEST, &why),
    };
    Answer::raw_json(code, status::text(status, now))
}

/// The dynamic configuration exactly as stored: tools compare checksums of it.
fn config(status: &NodeStatus) -> Answer {
    let Some((cluster, _)) = &status.cluster else { return never_read() };
    match cluster.config.as_ref().filter(|config| config.valid) {
        Some(config) => Answer::raw_json(StatusCode::OK, config.text.clone()),
        None => error(StatusCode::BAD_GATEWAY, "the cluster has no usable dynamic configuration"),
    }
}

/// Whom a primary asks when it loses the DCS.
fn failsafe(status: &NodeStatus) -> Answer {
    let members = status.cluster.as_ref().and_then(|(cluster, _)| cluster.failsafe.as_ref());
    match members.filter(|_| status.settings.failsafe_mode) {
        Some(members) => {
            let members = members.iter().map(|(name, api)| (name.0.clone(), api.clone().into())).collect();
            json_answer(StatusCode::OK, &Value::Object(members))
        }
        None => error(StatusCode::BAD_GATEWAY, "failsafe_mode is not enabled, or its members are not known"),
    }
}

fn bare(verdict: Verdict) -> Answer {
    match verdict {
        Verdict::Healthy => Answer::bare(StatusCode::OK),
        Verdict::Unhealthy => Answer::bare(StatusCode::SERVICE_UNAVAILABLE),
        Verdict::Nonsense(why) => error(StatusCode::BAD_REQUEST, &why),
    }
}

fn never_read() -> Answer {
    error(StatusCode::SERVICE_UNAVAILABLE, "the cluster has not been read from the DCS yet")
}

fn error(code: StatusCode, what: &str) -> Answer {
    Answer::error(code, what)
}

fn json_answer(code: StatusCode, body: &Value) -> Answer {
    Answer::json(code, body)
}

/// Has PostgreSQL looked at and waits for what was seen, but not for long; without it the answer says how old it is.
async fn await_look(state: &State) {
    let asked_at = pgherd_clock::boottime();
    let Some(look) = state.requests.get().and_then(|requests| requests.look.as_ref()) else { return };
    look.do_send(LookNow);
    let seen = || state.status.load().postgres.as_ref().is_some_and(|postgres| postgres.looked_at >= asked_at);
    while !seen() && pgherd_clock::boottime() < asked_at + LOOK_PATIENCE {
        actix_web::rt::time::sleep(LOOK_STEP).await;
    }
}

/// Serves every request. One that changes nothing reads the clock once, loads the status once and waits for nothing.
async fn serve(request: HttpRequest, payload: web::Payload, state: web::Data<State>) -> HttpResponse {
    let mut response = respond(&request, payload, &state).await;
    state.headers.load().add_to(&mut response, Client::of(&request).encrypted);
    response
}

async fn respond(request: &HttpRequest, payload: web::Payload, state: &State) -> HttpResponse {
    let segment = first_segment(request.path());
    if let Some(operation) = Operation::named(request.method(), segment) {
        return operations::perform(operation, request, payload, state).await.respond(request);
    }
    let reading = is_reading(request.method()).then(|| Reading::named(segment));
    let answer = match reading {
        Some(Reading::Events) => return events::serve(request, payload, state).await,
        Some(Reading::Operations) => state.background.answer(request.path(), &state.status.load(), &state.feed),
        Some(Reading::Explain) => explain::answer(request.query_string(), &state.requests).await,
        _ => {
            if reading == Some(Reading::Status) && request.query_string().split('&').any(|p| p == LOOK_NOW) {
                await_look(state).await;
            }
            let (path, query, now) = (request.path(), request.query_string(), pgherd_clock::boottime());
            answer(request.method(), path, query, &state.status.load(), now)
        }
    };
    answer.respond(request)
}

/// Adds the API to an application.
pub fn configure(app: &mut web::ServiceConfig, state: State) {
    app.app_data(web::Data::new(state)).default_service(web::to(serve));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::tests::{NOW, cluster, primary, replica};
    use pgherd_types::ConfigKey;
    use serde_json::json;

    fn get(path: &str, status: &NodeStatus) -> (u16, Value) {
        let (path, query) = path.split_once('?').unwrap_or((path, ""));
        let answer = answer(&Method::GET, path, query, &Arc::new(status.clone()), NOW);
        let body = answer.body.map_or(Value::Null, |body| serde_json::from_str(&body).unwrap_or(Value::String(body)));
        (answer.code.as_u16(), body)
    }

    #[test]
    fn the_first_segment_selects_the_answer() {
        for (path, code) in [
            ("/", 200),
            ("/primary", 200),
            ("//patroni/x/y", 200),
            ("/cluster", 200),
            ("/history/", 200),
            ("/config", 502),
            ("/failsafe", 502),
            ("/liveness", 200),
            ("/readiness", 200),
            ("/readiness?mode=x", 400),
            ("/replica?lag=1mb", 400),
            ("/replica", 503),
            ("/switchover", 503),
            ("/Patroni", 503),
        ] {
            assert_eq!(get(path, &primary()).0, code, "{path}");
        }
        assert_eq!(get("/unknown", &primary()).1["state"], "running");
        assert_eq!(get("/liveness", &primary()).1, Value::Null);
    }

    #[test]
    fn what_was_never_read_is_said_so() {
        for path in ["/cluster", "/history", "/config"] {
            let (code, body) = get(path, &NodeStatus::default());
            assert_eq!(code, 503, "{path}");
            assert!(body.as_str().unwrap().contains("not been read"), "{body}");
        }
    }

    #[test]
    fn the_configuration_is_served_as_stored() {
        let text = r#"{"ttl":  30, "a": 1}"#.to_owned();
        let with = |valid| {
            let config = Some(ConfigKey { mod_revision: 1, text: text.clone(), valid });
            let mut status = replica();
            status.cluster = Some((Arc::new(pgherd_types::Cluster { config, ..cluster() }), NOW));
            status
        };
        assert_eq!(answer(&Method::GET, "/config", "", &Arc::new(with(true)), NOW).body, Some(text.clone()));
        assert_eq!(answer(&Method::GET, "/config", "", &Arc::new(with(false)), NOW).code, 502);
    }

    #[test]
    fn the_failsafe_members_are_shown_while_the_mode_is_on() {
        let members = [("pg2".into(), "http://b/patroni".to_owned()), ("pg1".into(), "http://a/patroni".to_owned())];
        let with = |failsafe_mode, failsafe| {
            let mut status = replica();
            status.settings.failsafe_mode = failsafe_mode;
            status.cluster = Some((Arc::new(pgherd_types::Cluster { failsafe, ..cluster() }), NOW));
            get("/failsafe", &status)
        };
        let shown = json!({"pg1": "http://a/patroni", "pg2": "http://b/patroni"});
        assert_eq!(with(true, Some(members.clone().into())), (200, shown));
        assert_eq!(with(false, Some(members.into())).0, 502);
        assert_eq!(with(true, None).0, 502);
    }

    #[test]
    fn other_methods_are_not_implemented() {
        for method in [Method::POST, Method::PUT, Method::PATCH, Method::DELETE, Method::TRACE] {
            let answer = answer(&method, "/switchover", "", &Arc::new(primary()), NOW);
            assert_eq!(answer.code, 501);
            assert!(answer.body.unwrap().contains("Server does not support this operation"));
        }
    }
}
