//! The moments at which a user's script is called.

/// What a script is called for: its first argument.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum CallbackAction {
    /// PostgreSQL was started, or was found running by a new agent.
    OnStart,
    /// PostgreSQL was stopped in order.
    OnStop,
    /// PostgreSQL was restarted.
    OnRestart,
    /// PostgreSQL's configuration was reloaded.
    OnReload,
    /// The role of this node changed.
    OnRoleChange,
}

impl CallbackAction {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::OnStart, Self::OnStop, Self::OnRestart, Self::OnReload, Self::OnRoleChange];

    /// Its name in the settings and on the script's command line.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::OnStart => "on_start",
            Self::OnStop => "on_stop",
            Self::OnRestart => "on_restart",
            Self::OnReload => "on_reload",
            Self::OnRoleChange => "on_role_change",
        }
    }
}
