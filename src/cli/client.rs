//! The commands over a cluster, as opposed to those that run something on this machine.

use super::console::{Console, Outcome, Stop};
use super::session::{CalledAs, Connection, Session};
use super::{
    dsn, edit_config, events, explain, flush, history, list, pause, reinit, reload, remove, restart, show_config,
    standby_cluster, switchover, version,
};
use clap::{Args, Subcommand};
use std::future::Future;

/// A command's own arguments and where the cluster is.
#[derive(Args)]
pub struct Of<A: Args> {
    #[command(flatten)]
    connection: Connection,
    #[command(flatten)]
    own: A,
}

/// The commands.
#[derive(Subcommand)]
pub enum ClientCommand {
    /// Print the members of clusters.
    List(Of<list::ListArguments>),
    /// Print the members of clusters, each below the one it replicates from.
    Topology(Of<list::TopologyArguments>),
    /// Let another member lead, in good order.
    Switchover(Of<switchover::SwitchoverArguments>),
    /// Let another member lead, whether or not there is a leader.
    Failover(Of<switchover::FailoverArguments>),
    /// Restart PostgreSQL of members.
    Restart(Of<restart::RestartArguments>),
    /// Let members read their settings again.
    Reload(Of<reload::ReloadArguments>),
    /// Replace the data of replicas by a new copy.
    Reinit(Of<reinit::ReinitArguments>),
    /// Turn maintenance mode on: nothing is promoted, demoted or restarted by itself.
    Pause(Of<pause::PauseArguments>),
    /// Turn maintenance mode off.
    Resume(Of<pause::PauseArguments>),
    /// Make the cluster a standby of another cluster's primary.
    DemoteCluster(Of<standby_cluster::DemoteArguments>),
    /// Make a standby cluster a cluster of its own.
    PromoteCluster(Of<standby_cluster::PromoteArguments>),
    /// Change the dynamic configuration.
    EditConfig(Of<edit_config::EditConfigArguments>),
    /// Print the dynamic configuration.
    ShowConfig(Of<show_config::ShowConfigArguments>),
    /// Print when leaders changed.
    History(Of<history::HistoryArguments>),
    /// Take back a scheduled restart or switchover.
    Flush(Of<flush::FlushArguments>),
    /// Take a cluster out of the DCS.
    Remove(Of<remove::RemoveArguments>),
    /// Print the version of this program, and what members run.
    Version(Of<version::VersionArguments>),
    /// Print where PostgreSQL of a member is.
    Dsn(Of<dsn::DsnArguments>),
    /// Print what happened on a member.
    Events(Of<events::EventsArguments>),
    /// Print why a member does what it does, and who could lead.
    Explain(Of<explain::ExplainArguments>),
}

impl ClientCommand {
    fn connection(&self) -> &Connection {
        match self {
            Self::List(of) => &of.connection,
            Self::Topology(of) => &of.connection,
            Self::Switchover(of) => &of.connection,
            Self::Failover(of) => &of.connection,
            Self::Restart(of) => &of.connection,
            Self::Reload(of) => &of.connection,
            Self::Reinit(of) => &of.connection,
            Self::Pause(of) | Self::Resume(of) => &of.connection,
            Self::DemoteCluster(of) => &of.connection,
            Self::PromoteCluster(of) => &of.connection,
            Self::EditConfig(of) => &of.connection,
            Self::ShowConfig(of) => &of.connection,
            Self::History(of) => &of.connection,
            Self::Flush(of) => &of.connection,
            Self::Remove(of) => &of.connection,
            Self::Version(of) => &of.connection,
            Self::Dsn(of) => &of.connection,
            Self::Events(of) => &of.connection,
            Self::Explain(of) => &of.connection,
        }
    }

    async fn run(&self, session: &Session<'_>) -> Outcome {
        match self {
            Self::List(of) => list::list(session, &of.own).await,
            Self::Topology(of) => list::topology(session, &of.own).await,
            Self::Switchover(of) => switchover::switchover(session, &of.own).await,
            Self::Failover(of) => switchover::failover(session, &of.own).await,
            Self::Restart(of) => restart::restart(session, &of.own).await,
            Self::Reload(of) => reload::reload(session, &of.own).await,
            Self::Reinit(of) => reinit::reinit(session, &of.own).await,
            Self::Pause(of) => pause::pause(session, &of.own).await,
            Self::Resume(of) => pause::resume(session, &of.own).await,
            Self::DemoteCluster(of) => standby_cluster::demote(session, &of.own).await,
            Self::PromoteCluster(of) => standby_cluster::promote(session, &of.own).await,
            Self::EditConfig(of) => edit_config::edit_config(session, &of.own).await,
            Self::ShowConfig(of) => show_config::show_config(session, &of.own).await,
            Self::History(of) => history::history(session, &of.own).await,
            Self::Flush(of) => flush::flush(session, &of.own).await,
            Self::Remove(of) => remove::remove(session, &of.own).await,
            Self::Version(of) => version::version(session, &of.own).await,
            Self::Dsn(of) => dsn::dsn(session, &of.own).await,
            Self::Events(of) => events::events(session, &of.own).await,
            Self::Explain(of) => explain::explain(session, &of.own).await,
        }
    }
}

/// What is given to a command from outside.
pub struct Call<'a, V> {
    /// The name of the program.
    pub called_as: CalledAs,
    /// What was said of the cluster before the command.
    pub connection: &'a Connection,
    /// The environment.
    pub variables: V,
    /// Where to speak.
    pub console: &'a Console,
}

/// Runs a command until it ends or `interrupted` does; the exit code.
pub fn run<V>(command: &ClientCommand, call: Call<'_, V>, interrupted: impl Future<Output = ()>) -> u8
where
    V: IntoIterator<Item = (String, String)>,
{
    let Call { called_as, connection, variables, console } = call;
    let outcome = actix_rt::System::new().block_on(async {
        let work = async {
            let session = Session::begin(called_as, &command.connection().or(connection), variables, console)?;
            command.run(&session).await
        };
        tokio::select! {
            biased;
            () = interrupted => Err(Stop::Aborted),
            outcome = work => outcome,
        }
    });
    match &outcome {
        Err(Stop::Error(text) | Stop::Usage(text)) => console.complain(format!("Error: {text}")),
        Err(Stop::Aborted) => console.complain("Aborted!"),
        Err(Stop::Gone) | Ok(_) => {}
    }
    called_as.exit_code(&outcome)
}

/// Ctrl-C; never, if it cannot be waited for: then it ends the process as by default.
pub async fn ctrl_c() {
    if tokio::signal::ctrl_c().await.is_err() {
        std::future::pending::<()>().await;
    }
}
