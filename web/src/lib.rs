//! The REST API of a node. Every answer comes from the status the coordinator published last, whose claims expire; a
//! request never waits for PostgreSQL, etcd or the coordinator.
use std::cell::Cell;
thread_local! {
    static HTTP_WORKER: Cell<bool> = const { Cell::new(false) };
}
/// Is this thread one that answers HTTP requests?
pub fn is_http_worker() -> bool {
    HTTP_WORKER.get()
}
