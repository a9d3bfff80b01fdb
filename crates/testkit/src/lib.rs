//! Real servers, links that can be cut, and waiting, for tests; never a dependency of what is shipped.
//!
//! `etcd`, `postgres` and `proxy` are the parts; `cluster` puts them together with agents (`node`); `writer`, `keys`,
//! `leader_watch` and `http` look at what a cluster does.

pub mod authority;
pub mod cluster;
pub mod dns;
pub mod etcd;
pub mod eventually;
pub mod http;
pub mod keys;
pub mod leader_watch;
pub mod node;
pub mod ports;
pub mod postgres;
pub mod proxy;
pub mod slot_consumer;
pub mod writer;
