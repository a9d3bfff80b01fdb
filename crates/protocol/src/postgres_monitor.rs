//! Commands for the PostgreSQL monitor.

use actix::Message;

/// Look at PostgreSQL at once; the answer is `PostgresObserved`.
#[derive(Message, Clone, Copy, Debug)]
#[rtype(result = "()")]
pub struct LookNow;

/// Look at least this often from now on.
#[derive(Message, Clone, Copy, Debug)]
#[rtype(result = "()")]
pub struct ChangeSchedule {
    /// `loop_wait`.
    pub every: std::time::Duration,
}
