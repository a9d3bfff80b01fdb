//! One request at one endpoint, and what its answer means.

use super::wire::{Answered, Request, code, error_of};
use crate::etcd3::client::{Client, Reply};
use crate::etcd3::endpoint::Endpoint;
use crate::etcd3::etcd_error::EtcdError;
use crate::etcd3::failure::{Failure, of_sending, with_advice};
use crate::etcd3::request::{BODY_LIMIT_BYTES, excerpt};
use crate::etcd3::wire::Header;
use awc::http::{Method, StatusCode, header::HeaderMap};
use pgherd_types::{Instant, Refused};
use std::rc::Rc;

pub(super) const NO_API: &str = "etcd has no v2 API here (start it with --enable-v2, or use etcd3)";

/// Asks one endpoint after the other until one answers.
pub(super) async fn ask(client: &Client, request: &Request, deadline: Instant) -> Result<Reply<Answered>, Failure> {
    client.ask(&request.path, async |at| attempt(client, at, request).await, deadline).await
}

/// As the final word on a request. What the adapters share speaks of the section of the settings for etcd v3.
pub(super) fn refused(failure: Failure) -> Refused {
    match failure.refused() {
        Refused::Unreachable(why) => Refused::Unreachable(why.replace("etcd3.", "etcd.")),
        Refused::Denied(why) => Refused::Denied(why.replace("etcd3.", "etcd.")),
        other => other,
    }
}

/// A request that is ready to be sent to that endpoint, on a connection for streams or for others.
pub(super) fn prepared(client: &Client, at: &Endpoint, request: &Request, stream: bool) -> Result<Sendable, Failure> {
    let (settings, pools) = (client.in_force.borrow().clone(), client.pools.borrow().clone());
    let url = format!("{at}{}", request.path);
    let http = if stream { &pools.streams } else { &pools.http };
    let prepared = http.request(request.method.clone(), &url);
    let prepared = match &settings.login {
        Some(login) => prepared.basic_auth(&login.username, &login.password),
        None => prepared,
    };
    if request.method == Method::PUT {
        let form = prepared.insert_header(("Content-Type", "application/x-www-form-urlencoded"));
        return Ok(Sendable { url, sending: form.send_form(&request.parameters) });
    }
    let prepared = prepared.query(&request.parameters).map_err(|e| Failure::unsent(format!("{url}: {e}")))?;
    Ok(Sendable { url, sending: prepared.send() })
}

pub(super) struct Sendable {
    pub url: String,
    pub sending: awc::SendClientRequest,
}

pub(super) async fn attempt(client: &Client, at: &Rc<Endpoint>, request: &Request) -> Result<Answered, Failure> {
    let Sendable { url, sending } = prepared(client, at, request, false)?;
    let mut response = sending.await.map_err(|e| of_sending(&url, &e))?;
    let body = response.body().limit(BODY_LIMIT_BYTES).await;
    let body = body.map_err(|e| Failure::unsure(format!("{url}: the answer broke off: {e}")))?;
    let (status, header) = (response.status(), header_of(response.headers()));
    if status.is_success() {
        let index = header.revision;
        note(client, at, &url, &header, is_key(request))?;
        client.session.logged_in(None);
        return Ok(Answered { index, refusal: None, body: body.to_vec() });
    }
    match failure(client, at, &url, (status, &header), &body) {
        Failure::Explicit(e) if code::is_answer(e.code) => {
            client.session.logged_in(None);
            Ok(Answered { index: header.revision, refusal: Some(e.code), body: Vec::new() })
        }
        failure => Err(failure),
    }
}

fn is_key(request: &Request) -> bool {
    request.path.starts_with("/v2/keys")
}

/// Without its number and index it is not etcd that answers, and what it says must not be taken for its word.
fn note(client: &Client, at: &Rc<Endpoint>, url: &str, header: &Header, is_key: bool) -> Result<(), Failure> {
    if is_key && (header.cluster_id == 0 || header.revision == 0) {
        return Err(Failure::unsure(format!("{url}: the answer is not etcd's; does something else listen there?")));
    }
    client.note(at, header)
}

/// A refusal is etcd's word only if it names its cluster, as every one does.
fn failure(
    client: &Client,
    at: &Rc<Endpoint>,
    url: &str,
    (status, header): (StatusCode, &Header),
    body: &[u8],
) -> Failure {
    match error_of(body).filter(|_| header.cluster_id != 0) {
        None if status == StatusCode::NOT_FOUND => Failure::unsent(format!("{url}: {NO_API}")),
        None => Failure::unsure(with_advice(format!("{url}: {status}, {}", excerpt(body)))),
        Some(e) if status == StatusCode::UNAUTHORIZED || e.code == code::UNAUTHORIZED => login_refused(client, e),
        Some(e) if e.code == code::INDEX_CLEARED => Failure::Explicit(e),
        // the member could not find out, or not in time: the next one may, and the request may yet take effect
        Some(e) if e.code == 0 || e.code >= code::TROUBLE_FROM || status.is_server_error() => {
            Failure::unsure(with_advice(format!("{url}: {}", e.message)))
        }
        Some(e) => match client.note(at, header) {
            Ok(()) => Failure::Explicit(e),
            Err(stranger) => stranger,
        },
    }
}

/// Whether the password is wrong or the user may not do this, etcd does not say.
fn login_refused(client: &Client, e: EtcdError) -> Failure {
    let login = client.in_force.borrow().login.clone();
    let message = match &login {
        None => format!("{} (etcd's authentication is on: set etcd.username and etcd.password)", e.message),
        Some(login) => {
            let why = format!("etcd refuses the user {}: {}", login.username, e.message);
            client.session.refused(why.clone());
            format!(
                "{why} (check etcd.username and etcd.password, and that the user's role may read and write the whole \
                 prefix of the cluster's keys)"
            )
        }
    };
    Failure::Explicit(EtcdError { message, ..e })
}

/// etcd's numbers stand beside the answer, the cluster's in hexadecimal.
pub(super) fn header_of(headers: &HeaderMap) -> Header {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    Header {
        revision: text("X-Etcd-Index").parse().unwrap_or(0),
        cluster_id: u64::from_str_radix(text("X-Etcd-Cluster-Id"), 16).unwrap_or(0),
        member_id: 0,
    }
}
