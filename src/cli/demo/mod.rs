//! `pgherd demo`: a three-node cluster with its own etcd on this machine, on loopback, in a directory of its own that is
//! removed at the end. With `--once` it loses its primary's node on purpose and reports what that cost.

mod nodes;
mod outage;
mod writer;

use clap::Args;
use nodes::Cluster;
use std::process::ExitCode;
use std::time::Duration;

/// How long the cluster may take to be complete.
const COMPLETE_WITHIN: Duration = Duration::from_secs(120);

/// What to show.
#[derive(Args)]
pub struct DemoArguments {
    /// Run a writer, kill the primary's node, wait for the new primary, report, and end: exit code 0 if all went as it should, else 1.
    #[arg(long)]
    once: bool,
    /// Where PostgreSQL's programs are; the newest of /usr/lib/postgresql/*/bin if not given.
    #[arg(long)]
    bin_dir: Option<std::path::PathBuf>,
}

/// Runs the command.
pub fn demo(arguments: &DemoArguments) -> ExitCode {
    if rustix::process::geteuid().is_root() {
        return super::fail("demo: PostgreSQL refuses to run as root; run it as another user (`make demo` does)");
    }
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(e) => return super::fail(format!("demo: cannot start the runtime: {e}")),
    };
    let (mut cluster, outcome) = match Cluster::prepare(arguments.bin_dir.as_deref()) {
        Err(why) => return super::fail(format!("demo: {why}")),
        Ok(mut cluster) => {
            let outcome = runtime.block_on(async {
                tokio::select! {
                    outcome = play(&mut cluster, arguments.once) => outcome,
                    () = interrupted() => Ok(()),
                }
            });
            (cluster, outcome)
        }
    };
    if let Err(why) = &outcome {
        cluster.print_logs();
        eprintln!("pgherd: demo: {why}");
    }
    println!("stopping");
    cluster.stop();
    if outcome.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

async fn interrupted() {
    use tokio::signal::unix::{SignalKind, signal};
    let (Ok(mut int), Ok(mut term)) = (signal(SignalKind::interrupt()), signal(SignalKind::terminate())) else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = int.recv() => {}
        _ = term.recv() => {}
    }
    println!();
}

async fn play(cluster: &mut Cluster, once: bool) -> Result<(), String> {
    println!("starting etcd and three nodes in {}", cluster.directory().display());
    cluster.start()?;
    cluster.wait_until_complete(COMPLETE_WITHIN).await?;
    cluster.print_members();
    if once {
        return outage::play(cluster).await;
    }
    println!("{}", cluster.what_to_try());
    std::future::pending().await
}
