//! The question of a primary that lost the DCS: do all members agree that it goes on? (spec/ha.md 15)

use super::{BODY_LIMIT, PeerProber};
use crate::peer_client::{PeerClient, PeerLogin};
use actix::fut::wrap_future;
use actix::prelude::*;
use futures_util::future::join_all;
use pgherd_protocol::coordinator::FailsafeAsked;
use pgherd_protocol::peer_prober::AskFailsafe;
use pgherd_types::MemberName;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

impl Handler<AskFailsafe> for PeerProber {
    type Result = ();
    fn handle(&mut self, asked: AskFailsafe, ctx: &mut Self::Context) {
        let AskFailsafe { round, members, me, conn_url, api_url, slots, patience } = asked;
        let asked_at = pgherd_clock::boottime();
        let slots: BTreeMap<String, u64> = slots.into_iter().map(|(slot, at)| (slot, at.0)).collect();
        let body =
            serde_json::json!({"name": me, "conn_url": conn_url, "api_url": api_url, "slots": slots}).to_string();
        let others = members.into_iter().filter(|(name, _)| *name != me);
        let asks: Vec<_> = others
            .map(|(name, api)| agrees(self.client.clone(), name, failsafe_url(&api), body.clone(), patience))
            .collect();
        ctx.spawn(wrap_future::<_, Self>(join_all(asks)).map(move |refused, prober, _| {
            let refused: Vec<_> = refused.into_iter().flatten().collect();
            for (name, why) in &refused {
                log::warn!("failsafe mode: {name} does not agree that I go on as the leader: {why}");
            }
            crate::tell::tell(&prober.agreed, FailsafeAsked { round, asked_at, refused });
        }));
    }
}

/// Why a member does not agree; asked once more when it does not answer, as other agents do.
async fn agrees(
    client: Rc<PeerClient>,
    name: MemberName,
    url: String,
    body: String,
    patience: Duration,
) -> Option<(MemberName, String)> {
    let post = async || {
        let mut request = client.reaching(&url)?.post(&url).timeout(patience / 2).content_type("application/json");
        if let Some(PeerLogin { username, password }) = client.login() {
            request = request.basic_auth(username, password);
        }
        let mut response = request.send_body(body.clone()).await.map_err(|e| e.to_string())?;
        let said = response.body().limit(BODY_LIMIT).await.map_err(|e| e.to_string())?;
        let accepted = response.status().as_u16() == 200 && said.as_ref() == b"Accepted";
        Ok::<_, String>(
            accepted.then_some(()).ok_or_else(|| format!("{}: {}", response.status(), String::from_utf8_lossy(&said))),
        )
    };
    let answer: Result<Result<(), String>, String> = match post().await {
        Err(_) => post().await,
        answered => answered,
    };
    answer.and_then(|said| said).err().map(|why| (name, why))
}

/// `http://host:port/failsafe` of `http://host:port/patroni`.
fn failsafe_url(api_url: &str) -> String {
    let base = api_url.rsplit_once("/patroni").map_or(api_url, |(base, _)| base);
    format!("{}/failsafe", base.trim_end_matches('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_question_goes_beside_the_status() {
        for api in ["http://10.0.0.1:8008/patroni", "http://10.0.0.1:8008", "http://10.0.0.1:8008/"] {
            assert_eq!(failsafe_url(api), "http://10.0.0.1:8008/failsafe");
        }
    }
}
