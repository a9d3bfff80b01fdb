//! One real PostgreSQL server: its data directory, processes, configuration files and SQL. Knows no actor and decides
//! nothing. Functions that are not `async` may block: call them on a thread that may.
//!
//! Reading order: `options` and `server` (what it is), `process` and `kill` (what is alive, and its hard end),
//! `observe` (one look), then one file an operation: `initdb`, `basebackup`, `start`, `promote`, `follow`, `stop`,
//! `rewind`; `scripts` runs the user's programs.

mod accept;
mod basebackup;
mod config_files;
mod conninfo;
mod control;
mod control_data;
mod error;
mod exit_watch;
mod follow;
mod initdb;
mod interrupted;
mod kill;
mod observe;
mod options;
mod parameter_check;
mod passfile;
mod pg_rewind;
mod process;
mod programs;
mod promote;
mod queries;
mod ready_wal;
mod replication;
mod rewind;
mod rewind_marker;
mod rewind_source;
mod roles;
mod saved_wal;
mod scripts;
mod server;
mod server_config;
mod shell;
mod single_user;
mod slots;
mod sql;
mod staging;
mod start;
mod state_dir;
mod stop;
mod sync_names;
mod timeline_files;
mod wal_end;

pub use basebackup::clone_from;
pub use control::{GuardedUntil, OperationControl};
pub use control_data::look_at_data_directory;
pub use error::{OperationError, Outcome};
pub use exit_watch::{ExitWatch, PidFd, watch_exit};
pub use follow::follow;
pub use initdb::bootstrap;
pub use kill::{Killer, StillAlive};
pub use observe::{Look, find_wal_end, needs_wal_end, observe};
pub use options::{Credentials, PostgresOptions};
pub use process::{Alive, PidFileStatus, Postmaster, alive, find_postmaster, server_processes};
pub use promote::promote;
pub use rewind::rewind;
pub use scripts::{ScriptEnd, Scripts, run_script};
pub use server::Postgres;
pub use server_config::ServerConfig;
pub use slots::align as align_slots;
pub use start::{start_primary, start_replica};
pub use state_dir::{StateDir, staging_dir, state_dir};
pub use stop::{stop_fast, stop_immediately};
pub use sync_names::align as align_sync_names;
pub use wal_end::wal_end;
