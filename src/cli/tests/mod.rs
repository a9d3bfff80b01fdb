//! Every command against a real etcd and members that answer as told: what is printed, what is asked of whom, and the exit
//! codes by both names of the program.

mod changing;
mod cluster_wide;
mod failover;
mod reading;
mod stage;
