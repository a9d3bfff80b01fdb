//! What a panic does. On a thread that answers HTTP it cuts that one connection. Anywhere else it ends the process:
//! an actor that is gone cannot be brought back (its mailbox stays closed), and half an agent, which answers health
//! checks while nobody decides any more, is worse than none. The service manager starts a new one.

use crate::logging::CRITICAL;
use std::panic::PanicHookInfo;

/// Installs the hook for the whole process.
pub fn install() {
    std::panic::set_hook(Box::new(|panic| {
        let on_http_worker = pgherd_web::is_http_worker();
        let consequence = if on_http_worker { "this connection is cut" } else { "the agent ends" };
        log::error!(target: CRITICAL, "{}; {consequence}; please report it as a bug", describe(panic));
        if !on_http_worker {
            std::process::abort();
        }
    }));
}

fn describe(panic: &PanicHookInfo) -> String {
    let thread = std::thread::current();
    let place = panic.location().map_or_else(|| "an unknown place".to_owned(), ToString::to_string);
    let message = panic.payload_as_str().unwrap_or("no message");
    format!("panic in thread {} at {place}: {message}", thread.name().unwrap_or("without a name"))
}
