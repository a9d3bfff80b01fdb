//! The adapter for etcd's v2 API against real servers: the same script, and what is different where there are neither leases
//! nor transactions.

mod common;

use common::*;
use pgherd_testkit::etcd::{Etcd, EtcdSetup};

fn start(members: usize) -> Vec<Etcd> {
    Etcd::start_setup(&EtcdSetup::members(members).with_v2())
}

#[actix_rt::test]
async fn the_script_works_on_one_member() {
    let etcd = start(1).remove(0);
    script(&node2("a", &[etcd.url()]), &node2("b", &[etcd.url()])).await;
}
