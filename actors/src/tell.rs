//! Bounded sending between actors without an answer. `do_send` would queue without limit; this refuses when the
//! receiver's mailbox is full, counts that and says so.

use actix::prelude::*;
use std::sync::atomic::{AtomicU64, Ordering};

/// Every actor sets its mailbox to this. Facts and commands are few; a full mailbox means a stuck actor.
pub const MAILBOX_CAPACITY: usize = 256;

static REFUSED: AtomicU64 = AtomicU64::new(0);

/// How many messages were refused since the process started.
pub fn refused_total() -> u64 {
    REFUSED.load(Ordering::Relaxed)
}

/// Sends, or drops the message with a warning.
pub fn tell<M>(to: &Recipient<M>, message: M)
where
    M: Message + Send + 'static,
    M::Result: Send,
{
    let _ = try_tell(to, message);
}

/// Sends and says whether that was possible, for senders that can send again later.
pub fn try_tell<M>(to: &Recipient<M>, message: M) -> bool
where
    M: Message + Send + 'static,
    M::Result: Send,
{
    let Err(refusal) = to.try_send(message) else { return true };
    let count = REFUSED.fetch_add(1, Ordering::Relaxed) + 1;
    // The 1st, 2nd, 4th, 8th ...: a stuck receiver must not fill the log as well.
    if count.is_power_of_two() {
        let what = std::any::type_name::<M>().rsplit("::").next().unwrap_or_default();
        let why = match refusal {
            SendError::Full(_) => "its mailbox is full",
            SendError::Closed(_) => "it has ended",
        };
        log::warn!("message {what} was not delivered, the receiver did not take it: {why} ({count} so far)");
    }
    false
}
