//! Which threads answer HTTP requests. They are arbiters like those of the actors and even have the same names, so each
//! marks itself when it begins to serve.

use std::cell::Cell;

thread_local! {
    static SERVES_HTTP: Cell<bool> = const { Cell::new(false) };
}

/// Says that this thread answers HTTP requests: a panic here cuts one connection and need not end the process.
pub fn mark_http_worker() {
    SERVES_HTTP.set(true);
}

/// Does this thread answer HTTP requests?
pub fn is_http_worker() -> bool {
    SERVES_HTTP.get()
}
