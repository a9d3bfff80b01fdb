//! What changes something. All of it is refused in the same ways, beside its own.

use super::parts::{Described, Node, Said, flag, map, object, one_of, parameter, text};
use crate::operations::Operation;
use utoipa::openapi::path::{Parameter, ParameterIn};

type Answers = Vec<(u16, &'static str, Said)>;

/// This one.
pub fn described(change: Operation) -> Described {
    match change {
        Operation::Switchover => {
            Described { parameters: vec![prefer()], ..moved("Let another member lead", &["leader"]) }
        }
        Operation::Failover => Described {
            parameters: vec![prefer()],
            ..moved("Let another member lead, whether or not there is a leader", &["candidate"])
        },
        Operation::CancelSwitchover => changing(
            "Take a scheduled switchover back",
            None,
            vec![said(200, "it is deleted"), said(404, "there is none"), said(409, "it changed meanwhile")],
        ),
        Operation::PatchConfig => changing("Change the dynamic configuration", Some((map(), true)), config()),
        Operation::ReplaceConfig => changing("Replace the dynamic configuration", Some((map(), true)), config()),
        Operation::Restart => {
            let keys = vec![
                ("schedule", text()),
                ("role", one_of(&["primary", "standby_leader", "replica"])),
                ("postgres_version", text()),
                ("restart_pending", flag()),
                ("timeout", text()),
            ];
            let answers = vec![
                said(200, "PostgreSQL was restarted"),
                accepted(),
                said(409, "another restart is scheduled"),
                said(422, "the time is past or cannot be read"),
                said(500, "nothing can be scheduled in maintenance mode"),
            ];
            let restart = changing("Restart PostgreSQL, now or later", Some((object(keys, &[]), false)), answers);
            Described { parameters: vec![prefer()], ..restart }
        }
        Operation::CancelRestart => changing(
            "Take a scheduled restart back",
            None,
            vec![said(200, "it is deleted"), said(404, "there is none")],
        ),
        Operation::Reinitialize => {
            let body = object(vec![("force", flag()), ("from_leader", flag())], &[]);
            let answers = vec![said(200, "it has begun"), accepted()];
            let copy = changing("Replace the data by a new copy", Some((body, false)), answers);
            Described { parameters: vec![prefer()], ..copy }
        }
        Operation::Reload => changing("Read the settings again", None, vec![said(202, "they are read")]),
        Operation::Failsafe => {
            let keys = ["name", "conn_url", "api_url"];
            let body = object(keys.iter().map(|key| (*key, text())).collect(), &keys);
            let answers = vec![
                said(200, "this node does not race for a while"),
                said(500, "this node leads"),
                said(502, "the mode is off"),
            ];
            changing("A primary that lost the DCS asks whether it may go on", Some((body, true)), answers)
        }
        Operation::Sigterm => changing("Nothing", None, vec![said(202, "always")]),
    }
}

fn moved(what: &'static str, needed: &[&str]) -> Described {
    let keys = ["leader", "candidate", "member", "scheduled_at"];
    let body = object(keys.iter().map(|key| (*key, text())).collect(), needed);
    let answers = vec![
        said(200, "another member leads"),
        accepted(),
        said(412, "the members do not allow it"),
        said(422, "the time is past or cannot be read"),
    ];
    changing(what, Some((body, true)), answers)
}

fn config() -> Answers {
    vec![
        (200, "the document in force", Said::Json(map())),
        said(409, "somebody else changed it meanwhile"),
        said(502, "it could not be written"),
    ]
}

fn changing(what: &'static str, body: Option<(Node, bool)>, own: Answers) -> Described {
    let needed = body.as_ref().is_some_and(|(_, needed)| *needed);
    let mut answers = own;
    answers.extend([
        said(400, "the request makes no sense; nothing was changed"),
        said(401, "credentials are missing or wrong"),
        said(403, "the address is not allowed, or a client certificate is missing"),
        said(408, "the body did not arrive in time"),
        said(413, "the body is too large"),
        said(503, "it cannot be done now, or it failed; the text says why"),
    ]);
    if needed {
        answers.push(said(411, "a body is needed"));
    }
    Described { what, parameters: Vec::new(), body, answers, guarded: true }
}

fn said(code: u16, what: &'static str) -> (u16, &'static str, Said) {
    (code, what, Said::Text)
}

/// Scheduled, or with an id because nobody waits.
fn accepted() -> (u16, &'static str, Said) {
    said(202, "it is done later, or goes on without its client: `id` and `href` tell where to ask")
}

fn prefer() -> Parameter {
    let what = "do not wait for the end";
    parameter("Prefer", what, one_of(&["respond-async"]), ParameterIn::Header)
}
