//! Every path that is read from, by its first segment. The server goes by this table, and so does the document at
//! `/openapi.json`.

/// What is asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reading {
    /// A check of the role; also every path that is not known.
    Health,
    /// Does the agent decide?
    Liveness,
    /// May a rollout go on?
    Readiness,
    /// The status document.
    Status,
    /// The members.
    Cluster,
    /// When leaders changed.
    History,
    /// The dynamic configuration.
    Config,
    /// Whom a primary asks that lost the DCS.
    Failsafe,
    /// Series.
    Metrics,
    /// Why?
    Explain,
    /// What happened.
    Events,
    /// What goes on although nobody waits for it.
    Operations,
    /// This API.
    OpenApi,
    /// The page.
    Page,
}

/// The segments that are not checks of the role.
pub const READINGS: &[(&str, Reading)] = &[
    ("liveness", Reading::Liveness),
    ("readiness", Reading::Readiness),
    ("patroni", Reading::Status),
    ("cluster", Reading::Cluster),
    ("history", Reading::History),
    ("config", Reading::Config),
    ("failsafe", Reading::Failsafe),
    ("metrics", Reading::Metrics),
    ("explain", Reading::Explain),
    ("events", Reading::Events),
    ("operations", Reading::Operations),
    ("openapi.json", Reading::OpenApi),
    ("ui", Reading::Page),
];

impl Reading {
    /// What this first segment of a path names.
    pub fn named(segment: &str) -> Self {
        READINGS.iter().find(|(known, _)| *known == segment).map_or(Self::Health, |(_, reading)| *reading)
    }
}
