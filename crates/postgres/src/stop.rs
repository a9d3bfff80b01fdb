//! Stopping the server. It has ended only when no process of the data directory is alive.

use crate::archiving::ShutdownWatch;
use crate::control::OperationControl;
use crate::control_data::has_signal_file;
use crate::error::{OperationError, Outcome};
use crate::exit_watch::PidFd;
use crate::process::find_postmaster;
use crate::queries;
use crate::scripts;
use crate::server::Postgres;
use crate::slots::waited;
use rustix::process::Signal;
use std::time::{Duration, Instant};

/// An immediate stop becomes a kill after this time.
const IMMEDIATE_PATIENCE: Duration = Duration::from_secs(2);
/// The checkpoint before a fast stop makes the one during it short; it may take this long.
const CHECKPOINT_PATIENCE: Duration = Duration::from_secs(30);
/// What is left after that is the archive's time, as long as nobody is in a hurry: a file that is not archived now is missing
/// in the archive until this server is a primary again.
const ARCHIVE_PATIENCE: Duration = Duration::from_secs(1800);
const STEP: Duration = Duration::from_millis(20);

/// SIGQUIT; after two seconds, or at once when hurried, everything is killed.
pub fn stop_immediately(server: &Postgres, control: &OperationControl) -> Outcome<()> {
    let killer = server.killer();
    let hurries = control.hurries();
    let begun = Instant::now();
    if let Some(postmaster) = find_postmaster(&server.options.data_dir) {
        let exit = PidFd::open(postmaster.pid).ok();
        killer.stop_immediate();
        while begun.elapsed() < IMMEDIATE_PATIENCE
            && control.hurries() == hurries
            && !exit.as_ref().is_none_or(|e| e.wait(STEP))
        {}
    }
    server.kill_all()
}

/// A checkpoint, the user's `before_stop` script, SIGINT, and the end of the postmaster. When the shutdown checkpoint is not
/// written in the configured time, or the operation is hurried or cancelled (a stop cannot be taken back), it goes on as an
/// immediate stop. Tells when nothing but archiving is left.
pub async fn stop_fast(server: &Postgres, control: &OperationControl) -> Outcome<()> {
    let Some(postmaster) = find_postmaster(&server.options.data_dir) else { return server.kill_all() };
    tokio::select! {
        done = queries::checkpoint(server, CHECKPOINT_PATIENCE) => if let Err(e) = done {
            log::info!("checkpoint before the stop was skipped: {e}");
        },
        () = hurried(control) => {}
    }
    if !has_signal_file(&server.options.data_dir) {
        tokio::select! {
            () = waited::leave_connected(server) => {}
            () = hurried(control) => {}
        }
    }
    scripts::before_stop(&server.current(), &server.scripts().before_stop, control);
    let patience = server.stop_patience();
    let begun = Instant::now();
    let exit = PidFd::open(postmaster.pid).ok();
    server.killer().signal_postmaster(Signal::INT);
    let mut watch = ShutdownWatch::new(&server.options);
    let mut archives_since = None;
    while !exit.as_ref().is_none_or(|e| e.wait(STEP)) {
        if archives_since.is_none() && watch.reached() {
            log::info!("PostgreSQL has written its shutdown checkpoint; it still archives, or sends WAL to standbys");
            archives_since = Some(Instant::now());
            control.tell_progress();
        }
        let overdue = match archives_since {
            None => begun.elapsed() >= patience,
            Some(since) => since.elapsed() >= ARCHIVE_PATIENCE,
        };
        if control.hurries() > 0 || control.go_on().is_err() || overdue {
            log::warn!(
                "PostgreSQL did not stop in order after {} s; stopping it immediately",
                begun.elapsed().as_secs()
            );
            return stop_immediately(server, control);
        }
    }
    match server.killer().anything_alive() {
        false => Ok(()),
        true => server.kill_all().map_err(|e| OperationError::failed(e.to_string())),
    }
}

impl Postgres {
    /// How long an orderly stop may take (spec/postgres-control.md 4.4).
    fn stop_patience(&self) -> Duration {
        let of_a_primary = self.config().primary_stop_timeout.filter(|_| !has_signal_file(&self.options.data_dir));
        of_a_primary.unwrap_or(self.current().ctl_timeout)
    }
}

async fn hurried(control: &OperationControl) {
    while control.hurries() == 0 {
        tokio::time::sleep(STEP).await;
    }
}
