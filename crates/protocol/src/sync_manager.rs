//! Commands for the sync-replication manager.

use actix::Message;
use pgherd_types::Instant;

/// Make PostgreSQL wait for no standby: `synchronous_standby_names` is emptied if the agent set it.
/// (The synchronous modes are decided in the kernel as steps of which this is the first.)
#[derive(Message, Clone, Copy, Debug)]
#[rtype(result = "Result<(), String>")]
pub struct AlignSync {
    /// Dropped if it arrives after this.
    pub fence: Option<Instant>,
}
