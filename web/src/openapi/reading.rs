//! What is read.

use super::parts::{Described, Said, flag, list, map, number, object, one_of, parameter, query, text, text_like};
use crate::reading::Reading;
use utoipa::openapi::path::{Parameter, ParameterIn};

const NEVER_READ: (u16, &str, Said) = (503, "the cluster has not been read from the DCS yet", Said::Text);

/// This one.
pub fn described(reading: Reading) -> Described {
    match reading {
        Reading::Health => Described::reading(
            "Is the node what the path says?",
            vec![(200, "it is", Said::Json(status())), (503, "it is not", Said::Json(status()))],
        )
        .with(vec![
            lag(),
            query("replication_state", "how a replica must replicate", text()),
            // `tag_<name>`: any name
            query(
                "tag_zone",
                "the node must have the tag `zone` with this value; likewise with any other name",
                text(),
            ),
        ]),
        Reading::Liveness => Described::reading("Does the agent decide?", probe()),
        Reading::Readiness => Described::reading("May a rollout go on?", probe())
            .with(vec![lag(), query("mode", "what the lag is counted from", one_of(&["apply", "write"]))]),
        Reading::Status => Described::reading("The status of the node", vec![(200, "always", Said::Json(status()))])
            .with(vec![query("look", "look at PostgreSQL first", one_of(&["now"]))]),
        Reading::Cluster => {
            let members = object(vec![("members", list(map())), ("scope", text())], &["members", "scope"]);
            Described::reading("The members", vec![(200, "as last read", Said::Json(members)), NEVER_READ])
        }
        Reading::History => {
            let rows = list(list(super::parts::anything()));
            Described::reading("When leaders changed", vec![(200, "as last read", Said::Json(rows)), NEVER_READ])
        }
        Reading::Config => Described::reading(
            "The dynamic configuration",
            vec![
                (200, "as stored", Said::Json(map())),
                (502, "there is none that can be used", Said::Text),
                NEVER_READ,
            ],
        ),
        Reading::Failsafe => Described::reading(
            "Whom a primary asks when it loses the DCS",
            vec![
                (200, "`api_url` by name", Said::Json(map())),
                (502, "the mode is off, or nobody is known", Said::Text),
            ],
        ),
        Reading::Metrics => {
            Described::reading("Series for Prometheus", vec![(200, "always", Said::Other("text/plain"))])
        }
        Reading::Explain => {
            let keys = vec![("name", text()), ("scope", text()), ("facts", list(map())), ("members", list(map()))];
            let explanation = object(keys, &["name", "scope", "facts", "members"]);
            Described::reading(
                "Why the node does what it does, and who could lead",
                vec![(200, "the decision, made again", Said::Json(explanation)), (503, "nobody answers", Said::Text)],
            )
            .with(vec![query("if", "what would be decided then", one_of(&["leader-lost"]))])
        }
        Reading::Events => events(),
        Reading::Operations => {
            let all = object(vec![("operations", list(map()))], &["operations"]);
            Described::reading(
                "What goes on although nobody waits for it",
                vec![(200, "all that is known", Said::Json(all))],
            )
        }
        Reading::OpenApi => Described::reading("This document", vec![(200, "always", Said::Json(map()))]),
        Reading::Page => Described::reading("The page", vec![(200, "always", Said::Other("text/html"))]),
    }
}

/// `/operations/{id}`.
pub fn operation_by_id() -> Described {
    let keys = vec![("id", text()), ("operation", text()), ("state", one_of(&["running", "done", "failed", "lost"]))];
    let document = object(keys, &["id", "operation", "state"]);
    Described::reading(
        "What became of an operation",
        vec![(200, "it is known", Said::Json(document)), (404, "it is not", Said::Text)],
    )
    .with(vec![parameter("id", "as it was answered", text(), ParameterIn::Path)])
}

fn events() -> Described {
    let keys = vec![("events", list(map())), ("missed", number(0, isize::MAX))];
    let document = object(keys, &["events", "missed"]);
    Described::reading(
        "What happened; followed by who accepts text/event-stream or asks for a WebSocket",
        vec![
            (200, "some of it, or all to come", Said::Either(document, "text/event-stream")),
            (503, "too many follow it", Said::Text),
        ],
    )
    .with(vec![
        query("limit", "so many", number(1, 1000)),
        query("since", "after the one of this id", text_like(r"^[0-9]{1,6}\.[0-9]{1,9}$")),
        query("type", "kinds, separated by commas", text_like("^[a-z.]+(,[a-z.]+)*$")),
    ])
}

fn probe() -> Vec<(u16, &'static str, Said)> {
    vec![(200, "yes", Said::Nothing), (503, "no", Said::Nothing)]
}

fn lag() -> Parameter {
    query("lag", "how far a replica may be behind", text_like("^[0-9]{1,9}(B|kB|MB|GB)?$"))
}

/// The keys that are always there.
fn status() -> super::parts::Node {
    let patroni = object(vec![("version", text()), ("scope", text()), ("name", text())], &["version", "scope", "name"]);
    let keys = vec![
        ("state", text()),
        ("role", text()),
        ("dcs_last_seen", number(0, isize::MAX)),
        ("patroni", patroni),
        ("pause", flag()),
        ("cluster_unlocked", flag()),
    ];
    object(keys, &["state", "role", "dcs_last_seen", "patroni"])
}
