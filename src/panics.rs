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
    let payload = panic.payload();
    let text = payload.downcast_ref::<&str>().copied().or_else(|| payload.downcast_ref::<String>().map(String::as_str));
    let message = text.unwrap_or("no message");
    format!("panic in thread {} at {place}: {message}", thread.name().unwrap_or("without a name"))
}

#[cfg(test)]
mod tests {
    use std::process::{Command, ExitStatus};

    /// Names the child's job; a test that finds it set is that child.
    const JOB: &str = "PGHERD_PANIC_TEST";

    /// Runs this very test in a process of its own, because the hook is for a whole process.
    fn run_child(job: &str) -> ExitStatus {
        let mut child = Command::new(std::env::current_exe().unwrap());
        child.args(["--exact", "panics::tests::panics_end_the_process_except_on_http_workers", "--nocapture"]);
        child.env(JOB, job).env("RUST_BACKTRACE", "0").output().unwrap().status
    }

    #[test]
    fn panics_end_the_process_except_on_http_workers() {
        use std::os::unix::process::ExitStatusExt;
        let Ok(job) = std::env::var(JOB) else {
            assert!(run_child("http worker").success());
            assert_eq!(run_child("actor").signal(), Some(6), "an abort");
            return;
        };
        super::install();
        let arbiter = actix_rt::System::new().block_on(async { actix_rt::Arbiter::new() });
        let (tell, told) = std::sync::mpsc::channel();
        arbiter.spawn(async move {
            if job == "http worker" {
                pgherd_web::worker::mark_http_worker();
            }
            actix_rt::spawn(async { panic!("on purpose") });
            actix_rt::task::yield_now().await;
            let _ = tell.send(());
        });
        told.recv_timeout(std::time::Duration::from_secs(30)).unwrap();
    }
}
