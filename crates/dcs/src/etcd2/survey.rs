//! A look at etcd itself: which members it has (they become endpoints), and whether their clocks agree. A key expires when
//! the clock of etcd's leader passes the time that the member who took the request had read on its own, so if these differ
//! by more than keys are kept longer for, promises are broken. Who leads etcd does not matter here: a new leader gives no key
//! its full time again.

use super::Etcd2;
use super::held::CLOCKS_MAY_DIFFER_S;
use super::request::{ask, refused};
use super::wire::Request;
use crate::etcd3::endpoint::Endpoint;
use crate::etcd3::failure::Failure;
use pgherd_clock::{boottime, left_until};
use pgherd_types::{DcsSurvey, Instant, Refused};
use serde::Deserialize;
use std::rc::Rc;
use std::time::Duration;

/// How long one member may take to say what its clock shows.
const PATIENCE: Duration = Duration::from_secs(1);

#[derive(Deserialize)]
struct Members {
    members: Vec<Member>,
}

/// A member of etcd, as it is known to the others.
#[derive(Deserialize)]
#[serde(default)]
#[derive(Default)]
struct Member {
    #[serde(rename = "clientURLs")]
    client_urls: Vec<String>,
}

/// A member's clock beside our own: how far it is ahead, at the least and at the most, in milliseconds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Ahead {
    least: i64,
    most: i64,
}

impl Etcd2 {
    pub(super) async fn look_around(&self, deadline: Instant) -> Result<DcsSurvey, Refused> {
        self.client.look_up_again(deadline).await;
        let reply = ask(&self.client, &Request::get("/v2/members"), deadline).await.map_err(refused)?;
        let nonsense = |e| refused(Failure::unsure(format!("etcd's list of its members makes no sense: {e}")));
        let Members { members } = serde_json::from_slice(&reply.body.body).map_err(nonsense)?;
        self.client.take_advertised(members.iter().flat_map(|member| &member.client_urls));
        let troubles = self.clocks(deadline).await.into_iter().collect();
        Ok(DcsSurvey { members: u32::try_from(members.len()).unwrap_or(u32::MAX), troubles, ..DcsSurvey::default() })
    }

    /// What is wrong with the clocks, if anything.
    async fn clocks(&self, deadline: Instant) -> Option<String> {
        let endpoints = self.client.endpoints.order(boottime());
        let asked = endpoints.iter().map(|at| self.clock_at(at, deadline));
        let clocks: Vec<Ahead> = futures_util::future::join_all(asked).await.into_iter().flatten().collect();
        let apart_ms = apart(&clocks);
        (apart_ms > i64::try_from(CLOCKS_MAY_DIFFER_S * 1000).unwrap_or(i64::MAX)).then(|| {
            format!(
                "the clocks of etcd's members differ by {} s or more, and keys of its v2 API lapse by these clocks: a leader key \
                 may lapse early; let the hosts of etcd keep the same time (NTP), or use etcd3, which does not depend on it",
                apart_ms / 1000
            )
        })
    }

    /// Whole seconds are all that an answer says.
    async fn clock_at(&self, at: &Rc<Endpoint>, deadline: Instant) -> Option<Ahead> {
        let http = self.client.pools.borrow().http.clone();
        let asked_at = jiff::Timestamp::now().as_millisecond();
        let sending = http.get(format!("{at}/version")).send();
        let response = tokio::time::timeout(left_until(deadline).min(PATIENCE), sending).await.ok()?.ok()?;
        let answered_at = jiff::Timestamp::now().as_millisecond();
        let date = response.headers().get("Date")?.to_str().ok()?;
        let shown = jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(date).ok()?.as_millisecond();
        Some(Ahead { least: shown - answered_at, most: shown + 999 - asked_at })
    }
}

/// How far two of them are apart at the least.
fn apart(clocks: &[Ahead]) -> i64 {
    let (Some(first), Some(last)) =
        (clocks.iter().map(|clock| clock.most).min(), clocks.iter().map(|clock| clock.least).max())
    else {
        return 0;
    };
    (last - first).max(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clocks_are_apart_only_if_that_is_certain() {
        let ahead = |least, most| Ahead { least, most };
        assert_eq!(apart(&[]), 0);
        assert_eq!(apart(&[ahead(-500, 700), ahead(600, 1700)]), 0);
        assert_eq!(apart(&[ahead(-500, 700), ahead(4000, 5200), ahead(0, 900)]), 3300);
    }
}
