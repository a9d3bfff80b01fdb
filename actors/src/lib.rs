//! The actors of a node agent. Each owns one piece of state, and they meet only in `pgherd_protocol`'s messages; `wiring`
//! is the only file that names them all.
//!
//! - `coordinator` owns the view: applies facts, calls the kernel, publishes, sends. The only caller of `decide`.
//! - `dcs_watcher` owns the lease and the request connection to the DCS, and reads the cluster; `watch_link` beneath it
//!   holds the second, long-lived connection whose events only wake.
//! - `postgres_monitor` looks at PostgreSQL on its own schedule, when asked, and at the exit of the postmaster or a walsender.
//! - `postgres_operator` does one long operation on PostgreSQL at a time and writes its configuration files.
//! - `slot_manager` makes slots equal their target; `sync_manager` carries out steps of synchronous replication.
//! - `callbacks` calls the user's scripts for what the coordinator publishes.
//! - `peer_prober` asks other members before a race; `peer_client` is how they are spoken to.
//! - `request_desk` handles operators' requests about the whole cluster: switchover, failover, dynamic configuration.
//! - `events` is the record of what happened: a thread that derives it from what is published and writes it down.
//! - `metrics` is what the coordinator counts.
//! - `fence_keeper` is no actor but a thread that none of them can delay; `start_up` is what comes before all of them.

pub mod callbacks;
pub mod coordinator;
pub mod dcs_watcher;
pub mod dynamic_settings;
pub mod events;
pub mod fence_keeper;
mod metrics;
pub mod peer_client;
pub mod peer_prober;
pub mod postgres_monitor;
pub mod postgres_operator;
pub mod request_desk;
pub mod slot_manager;
pub mod start_up;
pub mod sync_manager;
pub mod tell;
mod walsender_watch;
pub mod wiring;
