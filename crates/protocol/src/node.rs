//! Requests about the node as a whole, for the one who holds its local configuration.

use actix::Message;

/// Read the local configuration again (SIGHUP, `POST /reload`).
#[derive(Message, Clone, Copy, Debug)]
#[rtype(result = "bool")]
pub struct ReloadRequested;
