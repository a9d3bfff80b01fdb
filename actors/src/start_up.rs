//! What happens before the first word to the DCS: a PostgreSQL that no recorded promise allows to be writable is ended,
//! and the fence is armed with the promise that does.

use crate::fence_keeper::{self, FenceHandle, Watch};
use pgherd_guard::GuardProgram;
use pgherd_kernel::LeaseView;
use pgherd_postgres::{
    Alive, Killer, Postgres, alive, forget_promotion, look_at_data_directory, only_archives, promotion_is_unfinished,
};
use pgherd_types::{DataDirectory, FenceOrder, Instant, LeaseGrant};
use std::path::Path;
use std::time::Duration;

/// How long an immediate stop may take before the kill.
const STOP_PATIENCE: Duration = Duration::from_secs(2);
const KILL_PATIENCE: Duration = Duration::from_secs(30);

/// What the predecessor left.
pub struct Inherited {
    /// The running fence.
    pub fence: FenceHandle,
    /// The promise recorded in this boot, run out or not: its lease is asked about first.
    pub promise: Option<LeaseGrant>,
    /// Maintenance mode was on, by what this node last knew.
    pub paused: bool,
}

/// Fence what must be fenced, arm the fence, and find or start the guard process, which is a run of `program`. Blocks;
/// an error means that PostgreSQL may still be writable.
pub fn inherit(server: &Postgres, program: &Path, watch: Watch) -> Result<Inherited, String> {
    let record_path = server.state_dir().path().join("lease");
    let promise = fence_keeper::read_record(&record_path);
    let paused = fence_keeper::is_paused(&record_path);
    let now = pgherd_clock::boottime();
    if promotion_is_unfinished(server) {
        if alive(&server.options().data_dir) != Alive::Nothing {
            log::warn!("PostgreSQL was being promoted when its agent ended: stopping it before anything else");
            end(&server.killer())?;
        }
        forget_promotion(server);
    }
    let writable = may_be_writable(server);
    let order = match promise.map(|promise| order_of(promise, now)) {
        Some(FenceOrder::Armed { stop_at, lease, kill_at }) if writable && now < stop_at => {
            log::info!(
                "PostgreSQL is running under a lease that may be relied upon for {} ms: adopting it",
                now.until(stop_at).as_millis()
            );
            FenceOrder::Armed { stop_at, lease, kill_at }
        }
        _ if writable && paused => {
            log::warn!("PostgreSQL is running as a primary and no lease allows it; maintenance mode is on: it goes on");
            FenceOrder::Disarmed
        }
        _ if writable => {
            log::warn!("PostgreSQL is running as a primary and no lease allows it: stopping it before anything else");
            end(&server.killer())?;
            FenceOrder::Disarmed
        }
        _ => FenceOrder::Disarmed,
    };
    let guard = GuardProgram { program: program.to_owned(), data_dir: server.options().data_dir.clone() };
    let fence = fence_keeper::start(server.killer(), record_path, order, promise, Some(guard), watch)
        .map_err(|e| format!("cannot start the fence thread: {e}"))?;
    Ok(Inherited { fence, promise, paused })
}

fn order_of(promise: LeaseGrant, now: Instant) -> FenceOrder {
    let mut lease = LeaseView::default();
    lease.prove(promise, now);
    lease.fence_order(now)
}

/// Is anything alive of the data directory that is not known to be a standby, nor to be past its shutdown checkpoint?
fn may_be_writable(server: &Postgres) -> bool {
    if alive(&server.options().data_dir) == Alive::Nothing || only_archives(server.options()) {
        return false;
    }
    !matches!(look_at_data_directory(server.options()), DataDirectory::Present(control) if control.standby_signal)
}

fn end(killer: &Killer) -> Result<(), String> {
    killer.stop_immediate();
    let deadline = pgherd_clock::boottime() + STOP_PATIENCE;
    while killer.anything_alive() && pgherd_clock::boottime() < deadline {
        std::thread::sleep(Duration::from_millis(10));
    }
    killer
        .kill_all(KILL_PATIENCE)
        .map_err(|e| format!("processes {:?} of PostgreSQL survive SIGKILL; the agent cannot go on safely", e.0))
}
