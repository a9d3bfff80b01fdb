//! The node agent against real etcd and real PostgreSQL, as whole processes: what users are promised.
//!
//! The tests prove order and cause (last acknowledged write < key gone < first write on the new primary) and wait for
//! conditions; they do not measure. PostgreSQL's `fsync` is off: processes are ended here, never the machine.

mod agent_death;
mod archiving;
mod bootstrap;
mod callbacks;
mod cli;
mod config_api;
mod custom_bootstrap;
mod disk;
mod dynamic_config;
mod etcd2;
mod etcd_gateway;
mod etcd_login;
mod etcd_outage;
mod etcd_tls;
mod events;
mod explain;
mod failsafe;
mod garbage;
mod guard;
mod handover;
mod haproxy;
mod hooks;
mod https;
mod metrics;
mod node_death;
mod partition;
mod pause;
mod postmaster_death;
mod process_rules;
mod recovery;
mod replica_methods;
mod rest;
mod restart;
mod rewind;
mod settings;
mod shutdown;
mod slots;
mod standby_cluster;
mod support;
mod switchover_api;
mod sync_deaths;
mod sync_replication;
mod ttl;
mod watchdog;
