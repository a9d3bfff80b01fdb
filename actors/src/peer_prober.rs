//! The peer prober: asks other members for their status before a leader race, all at once, each with its own patience.

mod failsafe;

use crate::peer_client::{PeerClient, SharedPeers};
use actix::fut::wrap_future;
use actix::prelude::*;
use futures_util::future::join_all;
use pgherd_protocol::coordinator::{FailsafeAsked, PeersProbed};
use pgherd_protocol::peer_prober::ProbePeers;
use pgherd_types::{Instant, Lsn, PeerAnswer, PeerReport, PeerSaid, PeerToAsk, Timeline};
use serde_json::Value;
use std::collections::BTreeSet;
use std::rc::Rc;
use std::time::Duration;

/// A status document is a few kilobytes; this is generous.
const BODY_LIMIT: usize = 1 << 20;

/// See the module.
pub struct PeerProber {
    coordinator: Recipient<PeersProbed>,
    agreed: Recipient<FailsafeAsked>,
    client: Rc<PeerClient>,
}

impl PeerProber {
    /// A prober that reports there. Make it on the thread it runs on.
    pub fn new(coordinator: Recipient<PeersProbed>, agreed: Recipient<FailsafeAsked>, peers: SharedPeers) -> Self {
        Self { coordinator, agreed, client: Rc::new(PeerClient::new(peers)) }
    }
}

impl Actor for PeerProber {
    type Context = Context<Self>;
    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.set_mailbox_capacity(crate::tell::MAILBOX_CAPACITY);
    }
}

impl Handler<ProbePeers> for PeerProber {
    type Result = ();
    fn handle(&mut self, ProbePeers { round, peers }: ProbePeers, ctx: &mut Self::Context) {
        let asks: Vec<_> = peers.into_iter().map(|peer| ask(self.client.clone(), peer, "leader race")).collect();
        ctx.spawn(wrap_future::<_, Self>(join_all(asks)).map(move |reports, prober, _| {
            crate::tell::tell(&prober.coordinator, PeersProbed { round, reports });
        }));
    }
}

/// Ask one for its status, and say for what when it has no usable answer.
pub(crate) async fn ask(client: Rc<PeerClient>, peer: PeerToAsk, purpose: &str) -> PeerReport {
    let asked_at = pgherd_clock::boottime();
    let patience = Duration::from_millis(peer.patience_ms);
    let answer = match tokio::time::timeout(patience, fetch(&client, &with_look(&peer.api_url))).await {
        Err(_) => PeerAnswer::Silent(format!("no answer within {} ms", peer.patience_ms)),
        Ok(Err(why)) => PeerAnswer::Silent(why),
        Ok(Ok(document)) => match read_status(&document, asked_at, pgherd_clock::boottime()) {
            Some(said) => PeerAnswer::Said(said),
            None => PeerAnswer::Silent("its status names no WAL position".to_owned()),
        },
    };
    if let PeerAnswer::Silent(why) = &answer {
        log::info!("{purpose}: no usable answer from {} at {}: {why}", peer.name, peer.api_url);
    }
    PeerReport { name: peer.name, answer }
}

/// One of ours looks at its PostgreSQL before it answers; others look anyway and do not know the word.
fn with_look(api_url: &str) -> String {
    format!("{api_url}{}look=now", if api_url.contains('?') { '&' } else { '?' })
}

async fn fetch(client: &PeerClient, url: &str) -> Result<Value, String> {
    let mut response = client.reaching(url)?.get(url).send().await.map_err(|e| e.to_string())?;
    let body = response.body().limit(BODY_LIMIT).await.map_err(|e| e.to_string())?;
    serde_json::from_slice(&body).map_err(|e| format!("not a status document: {e}"))
}

/// The parts of a status document that count (spec/ha.md 9.2). The HTTP status is not looked at.
fn read_status(document: &Value, asked_at: Instant, answered_at: Instant) -> Option<PeerSaid> {
    let xlog = document.get("xlog").or_else(|| document.get("wal"))?;
    let lsn = |key: &str| xlog.get(key).and_then(Value::as_u64).map(Lsn);
    let location = lsn("location");
    let role = document.get("role").and_then(Value::as_str).unwrap_or_default();
    let position = location.or_else(|| lsn("received_location").max(lsn("replayed_location"))).unwrap_or_default();
    let tags = document.get("tags");
    let tag = |name: &str| tags.and_then(|tags| tags.get(name));
    let priority = tag("failover_priority").and_then(Value::as_i64).map_or(1, |p| i32::try_from(p).unwrap_or(0));
    let nofailover = tag("nofailover").and_then(Value::as_bool).unwrap_or(false);
    // one of ours says how old its look is; Patroni looks while it answers
    let age = document.get("pgherd").and_then(|own| own.get("looked_ms_ago")).and_then(Value::as_u64);
    Some(PeerSaid {
        is_primary: location.is_some() || matches!(role, "primary" | "master"),
        position,
        timeline: document.get("timeline").and_then(Value::as_u64).and_then(|t| u32::try_from(t).ok()).map(Timeline),
        priority: if nofailover { 0 } else { priority },
        safe_slots: safe_slots(document),
        watchdog_failed: document.get("watchdog_failed").and_then(Value::as_bool).unwrap_or(false),
        looked_at: age.map_or(asked_at, |ms| answered_at.minus(Duration::from_millis(ms))),
    })
}

/// One of ours says which logical slots it could go on with.
fn safe_slots(document: &Value) -> Option<BTreeSet<String>> {
    let names = document.get("pgherd")?.get("safe_slots")?.as_array()?;
    Some(names.iter().filter_map(Value::as_str).map(str::to_owned).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(document: Value) -> Option<PeerSaid> {
        read_status(&document, Instant::from_millis(1_000), Instant::from_millis(1_400))
    }

    #[test]
    fn a_replica_of_patroni_and_one_of_ours() {
        let patroni =
            json!({"role": "replica", "timeline": 3, "xlog": {"received_location": 10, "replayed_location": 12}});
        let said = read(patroni).unwrap();
        assert_eq!((said.is_primary, said.position, said.timeline), (false, Lsn(12), Some(Timeline(3))));
        assert_eq!(said.looked_at, Instant::from_millis(1_000), "it looked no earlier than it was asked");
        let ours = json!({"role": "replica", "xlog": {"received_location": 10}, "pgherd": {"looked_ms_ago": 900}});
        assert_eq!(read(ours).unwrap().looked_at, Instant::from_millis(500));
    }

    #[test]
    fn one_of_ours_says_which_slots_it_has_and_the_others_do_not_say() {
        let of = |own: Value| read(json!({"xlog": {"received_location": 1}, "pgherd": own})).unwrap();
        let needed = ["a".to_owned(), "b".to_owned()].into();
        assert_eq!(of(json!({"safe_slots": ["a", "x"]})).lacks(&needed), ["b"]);
        assert_eq!(of(json!({"safe_slots": []})).lacks(&needed), ["a", "b"]);
        assert_eq!(of(json!({})).lacks(&needed), [""; 0]);
    }

    #[test]
    fn a_primary_is_recognised_by_role_or_position() {
        assert!(read(json!({"xlog": {"location": 5}})).unwrap().is_primary);
        assert!(read(json!({"role": "master", "wal": {"received_location": 5}})).unwrap().is_primary);
    }

    #[test]
    fn tags_decide_the_priority_and_no_position_is_no_answer() {
        let with = |tags: Value| read(json!({"tags": tags, "xlog": {"received_location": 1}})).unwrap().priority;
        assert_eq!(with(json!({})), 1);
        assert_eq!(with(json!({"failover_priority": 5})), 5);
        assert_eq!(with(json!({"nofailover": true, "failover_priority": 5})), 0);
        for useless in [json!({}), json!([]), json!("text"), json!({"role": "replica"})] {
            assert_eq!(read(useless.clone()), None, "{useless}");
        }
    }
}
