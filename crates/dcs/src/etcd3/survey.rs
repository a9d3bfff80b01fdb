//! A look at etcd itself: which members it has (they become endpoints), who leads it, whether it is in trouble. A node that
//! is lost together with etcd's leader is an outage of twice the length, because a new leader of etcd gives every
//! lease its full time again: so the leader of a cluster wants etcd's leader elsewhere, and can move it.

use super::Etcd3;
use super::endpoint::Endpoint;
use super::failure::Failure;
use super::settle::{Pauses, parse};
use super::wire::{MemberInfo, MembersReply, StatusReply};
use pgherd_clock::{boottime, left_until};
use pgherd_types::{DcsSurvey, Instant, Refused};
use std::cell::Cell;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::rc::Rc;
use std::time::Duration;

/// Shortest time between two moves of etcd's leadership: from the first, doubled, to the second. Primaries of several
/// clusters may push it to and fro.
const MOVE_INTERVAL: (Duration, Duration) = (Duration::from_secs(600), Duration::from_secs(24 * 3600));
const TEXTS_MAX: usize = 8;

/// When etcd's leadership was last moved.
#[derive(Default)]
pub(super) struct Moves {
    at: Cell<Option<Instant>>,
    interval: Cell<Duration>,
}

impl Moves {
    fn allowed(&self, now: Instant) -> bool {
        self.at.get().is_none_or(|at| now.since(at) >= self.interval.get())
    }
    fn done(&self, now: Instant) {
        self.at.set(Some(now));
        self.interval.set((self.interval.get() * 2).clamp(MOVE_INTERVAL.0, MOVE_INTERVAL.1));
    }
}

impl Etcd3 {
    pub(super) async fn look_around(&self, leading: bool, deadline: Instant) -> Result<DcsSurvey, Refused> {
        self.surveyed(leading, deadline).await.map_err(Failure::refused)
    }

    async fn surveyed(&self, leading: bool, deadline: Instant) -> Result<DcsSurvey, Failure> {
        self.client.look_up_again(deadline).await;
        let reply = self.client.call("/cluster/member/list", "{}", deadline).await?;
        let members = parse::<MembersReply>(&reply)?.members;
        self.client.take_advertised(members.iter().flat_map(|member| &member.client_urls));
        let mut survey =
            DcsSurvey { members: u32::try_from(members.len()).unwrap_or(u32::MAX), ..DcsSurvey::default() };
        let status = match self.client.call("/maintenance/status", "{}", deadline).await {
            Err(Failure::Explicit(_)) => StatusReply::default(), // newer versions let only root ask
            answer => parse(&answer?)?,
        };
        survey.troubles = status.errors.into_iter().take(TEXTS_MAX).map(super::failure::with_advice).collect();
        if !leading || members.len() < 2 {
            return Ok(survey);
        }
        let Some(leader) = members.iter().find(|member| member.id == status.leader) else { return Ok(survey) };
        survey.leader_here = Some(is_here(leader, deadline).await);
        let settings = self.client.settings();
        if settings.move_leader && survey.leader_here == Some(true) && self.moves.allowed(boottime()) {
            survey.moved_to = self.move_leader(leader, &members, deadline).await;
        }
        Ok(survey)
    }

    /// To the first member on another host that takes it; its name. Only etcd's leader can hand over.
    async fn move_leader(&self, leader: &MemberInfo, members: &[MemberInfo], deadline: Instant) -> Option<String> {
        let at = leader.client_urls.iter().find_map(|url| Endpoint::advertised(url)).map(Rc::new)?;
        for member in members.iter().filter(|m| m.id != leader.id && !m.is_learner && !m.client_urls.is_empty()) {
            if is_here(member, deadline).await {
                continue;
            }
            let body = serde_json::json!({"targetID": member.id.to_string()}).to_string();
            // the answer to this is empty, so what became of it is seen by who leads then
            let asked = self.client.call_at(&at, "/maintenance/transfer-leadership", &body, deadline).await;
            if let Err(Failure::Explicit(e)) = asked {
                log::warn!(
                    "etcd's leadership could not be moved from {} to {}: {}",
                    leader.name,
                    member.name,
                    e.message
                );
            } else if self.comes_to_lead(member, deadline).await {
                log::info!(
                    "etcd's leadership was moved from {}, which is on this host, to {}",
                    leader.name,
                    member.name
                );
                self.moves.done(boottime());
                return Some(member.name.clone());
            }
        }
        None
    }
}

impl Etcd3 {
    async fn comes_to_lead(&self, member: &MemberInfo, deadline: Instant) -> bool {
        let mut pauses = Pauses::default();
        loop {
            let status = self.client.call("/maintenance/status", "{}", deadline).await.and_then(|reply| parse(&reply));
            if status.is_ok_and(|status: StatusReply| status.leader == member.id) {
                return true;
            }
            if !pauses.pause_before(deadline).await {
                return false;
            }
        }
    }
}

/// Does it listen for clients on this host?
async fn is_here(member: &MemberInfo, deadline: Instant) -> bool {
    for endpoint in member.client_urls.iter().filter_map(|url| Endpoint::advertised(url)) {
        let host = endpoint.host().trim_matches(['[', ']']).to_owned();
        let resolved = tokio::time::timeout(left_until(deadline), tokio::net::lookup_host((host, 9))).await;
        if resolved.is_ok_and(|found| found.is_ok_and(|mut found| found.any(|address| is_own(address.ip())))) {
            return true;
        }
    }
    false
}

/// A packet to one's own address would come from that very address. Nothing is sent.
fn is_own(address: IpAddr) -> bool {
    let any = match address {
        IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    };
    let source = UdpSocket::bind(SocketAddr::new(any, 0)).and_then(|socket| {
        socket.connect(SocketAddr::new(address, 9))?;
        socket.local_addr()
    });
    source.is_ok_and(|source| source.ip() == address)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_addresses_are_told_from_others() {
        assert!(is_own(IpAddr::V4(Ipv4Addr::LOCALHOST)));
        assert!(!is_own("192.0.2.1".parse().unwrap()), "an address of documentation is nobody's");
    }

    #[test]
    fn leadership_is_not_moved_again_and_again() {
        let (moves, start) = (Moves::default(), Instant::from_millis(1000));
        assert!(moves.allowed(start));
        moves.done(start);
        assert!(!moves.allowed(start + Duration::from_secs(599)));
        let second = start + Duration::from_secs(600);
        assert!(moves.allowed(second));
        moves.done(second);
        assert!(!moves.allowed(second + Duration::from_secs(1199)));
        assert!(moves.allowed(second + Duration::from_secs(1200)));
    }
}
