//! Commands for the PostgreSQL monitor.

use actix::Message;

/// Look at PostgreSQL at once; the answer is `PostgresObserved`.
#[derive(Message, Clone, Copy, Debug)]
#[rtype(result = "()")]
pub struct LookNow;
