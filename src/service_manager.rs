//! What the service manager is told, where there is one (systemd's `Type=notify`): ready once the REST API answers and
//! PostgreSQL was looked at; alive as long as the coordinator turns; stopping when it was asked to stop.

use pgherd_types::NodeStatus;
use pgherd_web::PublishedStatus;
use sd_notify::NotifyState;
use std::time::Duration;

/// How often it is looked whether the node is ready.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// Messages that fit into the time after which the service manager ends a silent agent.
const MESSAGES_PER_LIMIT: u32 = 3;

/// Says that the node is ready as soon as it is, and from then on that it is alive, if that is wanted. The REST API must
/// be answering. Never ends while there is something to say.
pub async fn keep_informed(status: PublishedStatus) {
    while status.load().postgres.is_none() {
        tokio::time::sleep(LOOK_EVERY).await;
    }
    tell(NotifyState::Ready);
    let Some(limit) = sd_notify::watchdog_enabled() else { return };
    loop {
        if turns(&status.load()) {
            tell(NotifyState::Watchdog);
        }
        tokio::time::sleep(limit / MESSAGES_PER_LIMIT).await;
    }
}

/// Says that the agent leaves.
pub fn stopping() {
    tell(NotifyState::Stopping);
}

/// Has the coordinator turned within the last ttl? It does so at least every `loop_wait`.
fn turns(status: &NodeStatus) -> bool {
    pgherd_clock::boottime().since(status.turned_at) <= status.settings.ttl
}

fn tell(what: NotifyState<'_>) {
    if let Err(e) = sd_notify::notify(&[what]) {
        log::warn!("the service manager could not be told: {e}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_agent_whose_coordinator_stands_still_is_not_alive() {
        let now = pgherd_clock::boottime();
        let mut status = NodeStatus { turned_at: now, ..NodeStatus::default() };
        assert!(turns(&status));
        status.settings.ttl = Duration::ZERO;
        status.turned_at = now.minus(Duration::from_secs(5));
        assert!(!turns(&status));
    }
}
