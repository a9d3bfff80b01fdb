//! Replication slots of this server: making them as ordered (`align`), copying the leader's logical ones (`copy`).
//!
//! `managed` remembers which ones the agent made, `demand` knows what they need of a server that starts, `waited` for which
//! standbys consumers wait; `sql` has the statements, `leader` asks the leader, `state_file` and `place` are about the files of a slot.

mod align;
mod copy;
pub(crate) mod demand;
mod leader;
pub(crate) mod managed;
mod place;
pub(crate) mod sql;
mod state_file;
pub(crate) mod waited;

pub use align::align;
pub use copy::copy;
