//! The REST API of a node. What only reads is answered from the status that the coordinator published last, whose claims
//! expire: such a request never waits for PostgreSQL, etcd or the coordinator. What changes something is checked here and
//! becomes a message to the actor that does it.
//!
//! Reading order: `reading`, `routes` (the URL table), `health` (role checks), `probes` (liveness, readiness), `status` (the status
//! document), `cluster` (members), `metrics`, `openapi`, `page`; `operations` (changes), `auth` (who may), `requests` (who does);
//! `api_server`, `listener`, `connection` (sockets and TLS).

pub mod answer;
pub mod api_server;
pub mod auth;
pub mod cluster;
pub mod connection;
pub mod events;
pub mod explain;
pub mod headers;
pub mod health;
mod listener;
pub mod metrics;
pub mod openapi;
pub mod operations;
pub mod page;
pub mod probes;
pub mod query;
pub mod reading;
pub mod requests;
pub mod routes;
pub mod server_time;
mod slots;
mod status;
pub mod synchronous;
pub mod worker;

pub use api_server::{ApiOptions, ApiServer, ChangeAccess, ChangeHeaders, ChangeTls, StopServing};
pub use auth::{AccessOptions, BasicLogin};
pub use connection::ListenerTls;
pub use headers::{AllHeaders, ExtraHeaders, ServerTokens};
pub use requests::{Requests, SharedRequests};
pub use worker::is_http_worker;

use arc_swap::ArcSwap;
use pgherd_types::node_status::NodeStatus;
use std::sync::Arc;

/// The status as published last: the coordinator stores, the HTTP workers load.
pub type PublishedStatus = Arc<ArcSwap<NodeStatus>>;
