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

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Message)]
    #[rtype(result = "()")]
    struct Note;

    struct Sleeper;

    impl Actor for Sleeper {
        type Context = Context<Self>;
    }

    impl Handler<Note> for Sleeper {
        type Result = ();
        fn handle(&mut self, _: Note, _: &mut Self::Context) {}
    }

    #[actix::test]
    async fn a_full_or_closed_mailbox_refuses_and_is_counted() {
        let sleeper = Sleeper.start();
        let to = sleeper.clone().recipient();
        let before = refused_total();
        // Nothing is handled as long as this test does not wait.
        let sent = (0..1000).take_while(|_| try_tell(&to, Note)).count();
        assert!(sent > 0 && sent < 1000, "{sent}");
        assert!(refused_total() > before);
        sleeper.send(Note).await.unwrap();
        assert!(try_tell(&to, Note), "there is room again");
    }
}
