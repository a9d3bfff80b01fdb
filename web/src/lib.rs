//! The REST API of a node. Every answer comes from the status that the coordinator published last, whose claims expire: a
//! request never waits for PostgreSQL, etcd or the coordinator.
//!
//! Reading order: `routes` (the URL table), `health` (role checks), `probes` (liveness, readiness), `status` (the status
//! document), `cluster` (members), `api_server` (the sockets).

pub mod api_server;
pub mod cluster;
pub mod health;
pub mod probes;
pub mod query;
pub mod routes;
pub mod server_time;
pub mod status;
pub mod worker;

pub use api_server::{ApiOptions, ApiServer, StopServing};
pub use worker::is_http_worker;

use arc_swap::ArcSwap;
use pgherd_types::node_status::NodeStatus;
use std::sync::Arc;

/// The status as published last: the coordinator stores, the HTTP workers load.
pub type PublishedStatus = Arc<ArcSwap<NodeStatus>>;
