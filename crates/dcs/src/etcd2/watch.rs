//! The watch: one request after the other, each answered when something changed. etcd keeps the last 1000 changes, so
//! what happens between two of them is not missed.

use super::Etcd2;
use super::request::{NO_API, Sendable, header_of, prepared, refused};
use super::wire::{Answered, Request, code, error_of};
use crate::etcd3::client::Client;
use crate::etcd3::endpoint::Endpoint;
use crate::etcd3::request::excerpt;
use crate::etcd3::watch::{Chunks, OPENING_MAX, SILENCE, SignOfLife};
use crate::port::{Answer, Watch, WatchEnded, WatchEvent};
use futures_util::StreamExt;
use pgherd_types::{Instant, Refused};
use std::pin::Pin;
use std::rc::Rc;

const EVENT_LIMIT_BYTES: usize = 16 << 20;
type Sending = Pin<Box<dyn Future<Output = Result<Wait, WatchEnded>>>>;

/// A request that etcd has confirmed: its answer comes when something changes.
struct Wait {
    /// etcd's index then.
    created_at: i64,
    chunks: Chunks,
    body: Vec<u8>,
}

/// Makes the next request.
type Again = Box<dyn Fn(i64) -> Sending>;

struct Etcd2Watch {
    created_at: i64,
    wait: Option<Wait>,
    /// The newest event.
    seen: i64,
    again: Again,
    sign_of_life: SignOfLife,
}

impl Watch for Etcd2Watch {
    fn created_at(&self) -> i64 {
        self.created_at
    }
    fn next(&mut self) -> Answer<'_, Result<WatchEvent, WatchEnded>> {
        Box::pin(async move {
            if self.wait.is_none() {
                let opened = tokio::time::timeout(OPENING_MAX, (self.again)(self.seen)).await;
                let late =
                    |_| Err(WatchEnded::Broken(format!("etcd did not go on with the watch within {OPENING_MAX:?}")));
                self.wait = Some(opened.unwrap_or_else(late)?);
            }
            loop {
                let Some(wait) = &mut self.wait else { return Err(WatchEnded::Broken("it is over".into())) };
                match tokio::time::timeout(SILENCE.0, wait.chunks.next()).await {
                    Err(_) => (self.sign_of_life)().await.map_err(WatchEnded::Broken)?,
                    Ok(Some(Ok(chunk))) if wait.body.len() + chunk.len() <= EVENT_LIMIT_BYTES => {
                        wait.body.extend(chunk)
                    }
                    Ok(Some(Ok(_))) => {
                        let why = format!("a watch event is larger than {EVENT_LIMIT_BYTES} bytes");
                        return Err(WatchEnded::Broken(why));
                    }
                    Ok(Some(Err(why))) => return Err(WatchEnded::Broken(format!("the watch connection broke: {why}"))),
                    Ok(None) => break,
                }
            }
            let body = self.wait.take().map(|wait| wait.body).unwrap_or_default();
            self.seen = event(&body)?.max(self.seen);
            Ok(WatchEvent { revision: self.seen })
        })
    }
}

/// The index of the change that an answer tells of.
fn event(body: &[u8]) -> Result<i64, WatchEnded> {
    if let Some(e) = error_of(body) {
        return Err(ended(e.code, &e.message, body));
    }
    let node = Answered { index: 0, refusal: None, body: body.to_vec() }.node();
    node.map(|node| node.modified).ok_or_else(|| match body.is_empty() {
        true => WatchEnded::Broken("etcd closed the watch connection".into()),
        false => WatchEnded::Broken(format!("etcd's watch answer makes no sense: {}", excerpt(body))),
    })
}

/// The message names the oldest index that is kept: `the requested history has been cleared [1001/1]`.
fn ended(code: u64, message: &str, body: &[u8]) -> WatchEnded {
    if code != code::INDEX_CLEARED {
        return WatchEnded::Canceled(if message.is_empty() { excerpt(body) } else { message.to_owned() });
    }
    let oldest = message.split_once('[').and_then(|(_, rest)| rest.split_once('/')).map(|(oldest, _)| oldest);
    WatchEnded::Compacted { oldest: oldest.and_then(|oldest| oldest.parse().ok()).unwrap_or(0) }
}

async fn wait_at(client: &Client, at: &Endpoint, request: &Request) -> Result<Wait, WatchEnded> {
    let Sendable { url, sending } = prepared(client, at, request, true).map_err(broken)?;
    confirmed(url, sending).await
}

async fn confirmed(url: String, sending: awc::SendClientRequest) -> Result<Wait, WatchEnded> {
    let response = sending.await.map_err(|e| WatchEnded::Broken(format!("{url}: {e}")))?;
    let (status, header) = (response.status(), header_of(response.headers()));
    let chunks = response.map(|chunk| chunk.map(|c| c.to_vec()).map_err(|e| e.to_string()));
    // asked once more after its end, the body of an answer panics
    let mut chunks: Chunks = Box::pin(chunks.fuse());
    if status.is_success() && header.cluster_id != 0 {
        return Ok(Wait { created_at: header.revision, chunks, body: Vec::new() });
    }
    let body = match tokio::time::timeout(SILENCE.1, chunks.next()).await {
        Ok(Some(Ok(body))) => body,
        _ => Vec::new(),
    };
    Err(match error_of(&body) {
        Some(e) => ended(e.code, &e.message, &body),
        None if status == 404 => WatchEnded::Broken(format!("{url}: {NO_API}")),
        None => WatchEnded::Broken(format!("{url}: {status}")),
    })
}

fn broken(failure: crate::etcd3::failure::Failure) -> WatchEnded {
    match refused(failure) {
        Refused::Unreachable(why) | Refused::Denied(why) => WatchEnded::Broken(why),
        other => WatchEnded::Broken(format!("{other:?}")),
    }
}

impl Etcd2 {
    pub(super) async fn open_watch(&self, after: Option<i64>, deadline: Instant) -> Result<Box<dyn Watch>, WatchEnded> {
        let watch = self.client.first_watch(async |at| self.watch_at(at, after).await, deadline).await?;
        Ok(Box::new(watch))
    }

    async fn watch_at(&self, at: &Rc<Endpoint>, after: Option<i64>) -> Result<Etcd2Watch, WatchEnded> {
        let key = self.layout.prefix().to_owned();
        let wait = wait_at(&self.client, at, &Request::wait(&key, after)).await?;
        let created_at = wait.created_at;
        if let Some(seen) = after.filter(|seen| created_at < *seen) {
            log::debug!("a watch after {seen} was answered at {created_at}");
            return Err(WatchEnded::WentBack { revision: created_at });
        }
        Ok(Etcd2Watch {
            created_at,
            seen: after.unwrap_or(created_at),
            wait: Some(wait),
            again: self.again(at, key),
            sign_of_life: self.has_a_leader(at),
        })
    }

    /// With the connections and the login of now: when those are changed, the watch is opened afresh sooner or later.
    fn again(&self, at: &Rc<Endpoint>, key: String) -> Again {
        let (pools, settings) = (self.client.pools.borrow().clone(), self.client.in_force.borrow().clone());
        let at = at.clone();
        Box::new(move |seen| {
            let request = Request::wait(&key, Some(seen));
            let url = format!("{at}{}", request.path);
            let sending = pools.streams.get(&url);
            let sending = match &settings.login {
                Some(login) => sending.basic_auth(&login.username, &login.password),
                None => sending,
            };
            Box::pin(async move {
                let sending =
                    sending.query(&request.parameters).map_err(|e| WatchEnded::Broken(format!("{url}: {e}")))?;
                confirmed(url, sending.send()).await
            })
        })
    }

    /// A member that was cut off from the others keeps the watch open, too, as a frozen one does.
    fn has_a_leader(&self, at: &Rc<Endpoint>) -> SignOfLife {
        let (http, url) = (self.client.pools.borrow().http.clone(), format!("{at}/v2/members/leader"));
        Box::new(move || {
            let (request, url) = (http.get(&url), url.clone());
            Box::pin(async move {
                let asked = async { Some(request.send().await.ok()?.status()) };
                match tokio::time::timeout(SILENCE.1, asked).await.ok().flatten() {
                    Some(status) if status.is_success() => Ok(()),
                    Some(status) => {
                        Err(format!("{url}: {status}: the member has no leader, and the watch on it is silent"))
                    }
                    None => Err(format!("{url} gives no sign of life, and the watch on it is silent")),
                }
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_end_has_its_name() {
        let body =
            br#"{"action":"set","node":{"key":"/service/main/leader","value":"a","modifiedIndex":7,"createdIndex":7}}"#;
        assert_eq!(event(body), Ok(7));
        let cleared = br#"{"errorCode":401,"message":"The event in requested index is outdated and cleared",
            "cause":"the requested history has been cleared [1004/2]","index":2003}"#;
        assert_eq!(event(cleared), Err(WatchEnded::Compacted { oldest: 1004 }));
        let denied = br#"{"errorCode":110,"message":"The request requires user authentication","cause":"Insufficient credentials"}"#;
        assert!(matches!(event(denied), Err(WatchEnded::Canceled(why)) if why.contains("authentication")));
        for body in ["", "<html>", "{}", r#"{"node":{}}"#] {
            assert!(matches!(event(body.as_bytes()), Err(WatchEnded::Broken(_))), "{body}");
        }
    }
}
