//! `/liveness` (is the agent alive?) and `/readiness` (may a rollout go on?).

use crate::health::{Verdict, is_blind, is_running, lag, leader_position, leads, server};
use crate::query::Parameters;
use pgherd_types::node_status::NodeStatus;
use pgherd_types::{Instant, Role};

/// Did the coordinator turn lately? A leader must turn within `ttl`, others within twice that.
pub fn liveness(status: &NodeStatus, now: Instant) -> Verdict {
    let leading = status.leader_until.is_some() || status.role == Role::Primary;
    let patience = if leading { status.settings.ttl } else { status.settings.ttl * 2 };
    verdict(status.settings.pause || status.turned_at + patience > now)
}

/// The leader is ready; a replica is when it streams and is not further behind than `lag`, by default
/// `maximum_lag_on_failover`, counted from what it replayed (`mode=apply`) or received (`mode=write`).
pub fn readiness(status: &NodeStatus, parameters: &Parameters, now: Instant) -> Verdict {
    let limit = match parameters.lag_bytes() {
        Ok(lag) => lag.unwrap_or(status.settings.maximum_lag_on_failover),
        Err(why) => return Verdict::Nonsense(why),
    };
    let received = match parameters.get("mode") {
        None | Some("apply") => false,
        Some("write") => true,
        Some(other) => return Verdict::Nonsense(format!("mode={other}: must be apply or write")),
    };
    if leads(status, now) {
        return Verdict::Healthy;
    }
    let Some(server) = server(status, now).filter(|_| is_running(status, now)) else { return Verdict::Unhealthy };
    let position = if received { server.received.max(server.replayed) } else { server.replayed };
    let known = !is_blind(status) || leader_position(status, server).is_some();
    verdict(known && server.replication_state() == Some("streaming") && lag(status, server, position) <= limit)
}

const fn verdict(healthy: bool) -> Verdict {
    if healthy { Verdict::Healthy } else { Verdict::Unhealthy }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::tests::{NOW, primary, replica, server_of};
    use std::time::Duration;

    fn ready(status: &NodeStatus, query: &str) -> Verdict {
        readiness(status, &Parameters::parse(query).unwrap(), NOW)
    }

    #[test]
    fn liveness_is_a_turn_within_the_ttl() {
        let (leader, other) = (primary(), replica());
        let ttl = leader.settings.ttl;
        let just_before = |d: Duration| (leader.turned_at + d).minus(Duration::from_millis(1));
        assert_eq!(liveness(&leader, just_before(ttl)), Verdict::Healthy);
        assert_eq!(liveness(&leader, leader.turned_at + ttl), Verdict::Unhealthy);
        assert_eq!(liveness(&other, just_before(ttl * 2)), Verdict::Healthy);
        assert_eq!(liveness(&other, other.turned_at + ttl * 2), Verdict::Unhealthy);
    }

    #[test]
    fn readiness_is_leading_or_streaming_closely() {
        assert_eq!(ready(&primary(), ""), Verdict::Healthy);
        assert_eq!(ready(&replica(), ""), Verdict::Healthy);
        // 100 bytes behind in what it replayed, 50 in what it received.
        assert_eq!(ready(&replica(), "lag=99"), Verdict::Unhealthy);
        assert_eq!(ready(&replica(), "lag=99&mode=write"), Verdict::Healthy);
        assert!(matches!(ready(&replica(), "mode=x"), Verdict::Nonsense(_)));
        assert!(matches!(ready(&replica(), "lag=x"), Verdict::Nonsense(_)));
        let mut archive = replica();
        server_of(&mut archive).streaming = false;
        assert_eq!(ready(&archive, ""), Verdict::Unhealthy);
        let mut blind = NodeStatus { cluster: None, ..replica() };
        assert_eq!(ready(&blind, ""), Verdict::Healthy);
        server_of(&mut blind).latest_end = None;
        assert_eq!(ready(&blind, ""), Verdict::Unhealthy);
        assert_eq!(ready(&NodeStatus::default(), ""), Verdict::Unhealthy);
    }
}
