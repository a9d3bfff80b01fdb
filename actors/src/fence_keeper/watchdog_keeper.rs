//! The fence thread's part of the watchdog: keeps the device by the fence's order, says whether operations may rely on it,
//! and tells the coordinator when a required one cannot be used.

use actix::prelude::*;
use arc_swap::ArcSwap;
use pgherd_postgres::WatchdogGate;
use pgherd_protocol::coordinator::WatchdogChecked;
use pgherd_types::{FenceOrder, Instant, NodeStatus};
use pgherd_watchdog::{Watchdog, Wish};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// What the fence is given to watch over a machine with.
pub struct Watch {
    /// The device.
    pub watchdog: Watchdog,
    /// Where the settings in force are published.
    pub status: Arc<ArcSwap<NodeStatus>>,
}

/// Who is told.
pub(super) type Told = Arc<Mutex<Option<Recipient<WatchdogChecked>>>>;

/// See the module.
pub(super) struct WatchdogKeeper {
    watchdog: Watchdog,
    status: Arc<ArcSwap<NodeStatus>>,
    /// Only where the device is required.
    gate: Option<WatchdogGate>,
    tell: Told,
    told: Option<bool>,
    check_at: Instant,
}

impl WatchdogKeeper {
    pub fn new(Watch { watchdog, status }: Watch, tell: Told) -> Self {
        let gate = watchdog.is_required().then(WatchdogGate::default);
        Self { watchdog, status, gate, tell, told: None, check_at: Instant::default() }
    }

    pub fn gate(&self) -> Option<WatchdogGate> {
        self.gate.clone()
    }

    /// Makes the device what the order demands; when to look again. Never waits.
    pub fn tend(&mut self, order: FenceOrder, granted_ttl: Option<Duration>, now: Instant) -> Option<Instant> {
        let settings = &self.status.load().settings;
        let ttl = granted_ttl.map_or(settings.ttl, |granted| granted.min(settings.ttl));
        let wish = Wish { order, ttl, loop_wait: settings.loop_wait, paused: settings.pause };
        let tend_at = self.watchdog.tend(&wish, now);
        let check_at = self.gate.clone().and_then(|gate| self.report(&gate, &wish, now));
        tend_at.into_iter().chain(check_at).min()
    }

    /// The agent leaves in order.
    pub fn leave(&mut self) {
        self.watchdog.leave();
    }

    fn report(&mut self, gate: &WatchdogGate, wish: &Wish, now: Instant) -> Option<Instant> {
        if wish.paused {
            gate.open();
            self.tell(false);
            return None;
        }
        if wish.order != FenceOrder::Disarmed {
            match self.watchdog.problem() {
                Some(why) => gate.shut(why),
                None if self.watchdog.is_armed() => gate.open(),
                None => {}
            }
            self.tell(self.watchdog.problem().is_some());
            return None;
        }
        gate.forget();
        self.watchdog.check(wish);
        self.tell(self.watchdog.problem().is_some());
        if now >= self.check_at {
            self.check_at = now + wish.loop_wait;
        }
        Some(self.check_at)
    }

    fn tell(&mut self, failed: bool) {
        if self.told == Some(failed) {
            return;
        }
        let to = self.tell.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(to) = &*to
            && crate::tell::try_tell(to, WatchdogChecked { failed })
        {
            self.told = Some(failed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pgherd_postgres::OperationControl;
    use pgherd_types::LeaseId;
    use pgherd_watchdog::{WatchdogMode, WatchdogOptions};
    use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

    struct Listener(UnboundedSender<bool>);

    impl Actor for Listener {
        type Context = Context<Self>;
    }

    impl Handler<WatchdogChecked> for Listener {
        type Result = ();
        fn handle(&mut self, WatchdogChecked { failed }: WatchdogChecked, _: &mut Self::Context) {
            let _ = self.0.send(failed);
        }
    }

    fn listening() -> (Told, UnboundedReceiver<bool>) {
        let (told, heard) = unbounded_channel();
        (Arc::new(Mutex::new(Some(Listener(told).start().recipient()))), heard)
    }

    fn keeper(mode: WatchdogMode, device: &str, tell: Told) -> WatchdogKeeper {
        let options = WatchdogOptions { mode, device: device.into(), ..WatchdogOptions::default() };
        WatchdogKeeper::new(Watch { watchdog: Watchdog::new(options), status: Arc::default() }, tell)
    }

    const ARMED: FenceOrder = FenceOrder::Armed {
        lease: LeaseId(1),
        stop_at: Instant::from_millis(27_000),
        kill_at: Instant::from_millis(28_500),
    };

    #[actix::test]
    async fn a_required_device_that_is_missing_is_told_once_and_shuts_the_gate() {
        let (tell, mut heard) = listening();
        let mut keeper = keeper(WatchdogMode::Required, "/no/such/watchdog", tell);
        let control = OperationControl::new(None).watched_by(keeper.gate());
        let now = Instant::from_millis(1_000);
        let again = keeper.tend(FenceOrder::Disarmed, None, now);
        assert_eq!(again, Some(now + Duration::from_secs(10)), "it may be mended");
        assert_eq!(keeper.tend(FenceOrder::Disarmed, None, Instant::from_millis(1_001)), again);
        keeper.tend(ARMED, Some(Duration::from_secs(30)), Instant::from_millis(2_000));
        assert_eq!(heard.recv().await, Some(true));
        let refused = control.may_become_writable().unwrap_err().to_string();
        assert!(refused.contains("/no/such/watchdog"), "{refused}");

        // in maintenance mode nobody needs it
        let mut paused = NodeStatus::default();
        paused.settings.pause = true;
        keeper.status.store(Arc::new(paused));
        keeper.tend(ARMED, None, Instant::from_millis(3_000));
        assert_eq!(heard.recv().await, Some(false), "and nothing was told twice");
        assert_eq!(control.may_become_writable(), Ok(()));
    }

    #[actix::test]
    async fn one_that_is_not_required_is_nobodys_business() {
        let (tell, mut heard) = listening();
        let mut keeper = keeper(WatchdogMode::Automatic, "/no/such/watchdog", tell);
        assert!(keeper.gate().is_none());
        assert_eq!(keeper.tend(FenceOrder::Disarmed, None, Instant::from_millis(1_000)), None);
        assert_eq!(keeper.tend(ARMED, None, Instant::from_millis(2_000)), None);
        drop(keeper);
        assert_eq!(heard.recv().await, None);
    }
}
