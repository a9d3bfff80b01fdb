//! The guard: a second, tiny process for each data directory, which outlives the agent and ends PostgreSQL at the
//! deadline when nobody extends it. It knows no lease and no etcd, only an order and the boot-time clock.
//!
//! Reading order: `message` (what is said), `watch` (what is done about it, pure), `process` (the guard itself), `link`
//! (the agent's end).

mod link;
mod log_file;
mod message;
mod place;
mod process;
mod watch;

pub use link::{GuardProgram, Link};
pub use place::{end, holder};
pub use process::{run, wanted};
