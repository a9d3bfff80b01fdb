//! The node agent against real etcd and real PostgreSQL, as whole processes: what users are promised.
//!
//! The tests prove order and cause (last acknowledged write < key gone < first write on the new primary) and wait for
//! conditions; they do not measure. PostgreSQL's `fsync` is off: processes are ended here, never the machine.

mod bootstrap;
mod node_death;
mod support;
