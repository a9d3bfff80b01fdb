//! Every row of the tables of `/restart` and `/reinitialize`.

use super::*;
use pgherd_types::RestartFilter;
use serde_json::json;

const NOW: WallTime = WallTime(1_893_456_000_000);

fn asked(fields: Value) -> Result<Wish, Answer> {
    restart(fields.as_object().unwrap(), NOW, "2029-01-01 00:00:00+00")
}

fn plain(filter: RestartFilter, timeout_ms: Option<u64>) -> Wish {
    Wish::Restart(RestartWish { filter, timeout: timeout_ms.map(Duration::from_millis) })
}

#[test]
fn conditions_are_read() {
    let none = RestartFilter::default();
    for (fields, expected) in [
        (json!({}), plain(none.clone(), None)),
        (json!({"role": "replica"}), plain(RestartFilter { role: Some(Role::Replica), ..none.clone() }, None)),
        (
            json!({"role": "standby_leader"}),
            plain(RestartFilter { role: Some(Role::StandbyLeader), ..none.clone() }, None),
        ),
        (json!({"role": "primary"}), plain(RestartFilter { role: Some(Role::Primary), ..none.clone() }, None)),
        (
            json!({"postgres_version": "9.5.3"}),
            plain(RestartFilter { below_version: Some(90_503), ..none.clone() }, None),
        ),
        (
            json!({"postgres_version": "15.4"}),
            plain(RestartFilter { below_version: Some(150_004), ..none.clone() }, None),
        ),
        (
            json!({"postgres_version": 15.4}),
            plain(RestartFilter { below_version: Some(150_004), ..none.clone() }, None),
        ),
        (json!({"restart_pending": true}), plain(RestartFilter { pending_only: true, ..none.clone() }, None)),
        (json!({"restart_pending": "on"}), plain(RestartFilter { pending_only: true, ..none.clone() }, None)),
        (json!({"restart_pending": false}), plain(none.clone(), None)),
        (json!({"restart_pending": null}), plain(none.clone(), None)),
        (json!({"timeout": 30}), plain(none.clone(), Some(30_000))),
        (json!({"timeout": "30"}), plain(none.clone(), Some(30_000))),
        (json!({"timeout": 0.5}), plain(none.clone(), Some(500))),
        (json!({"timeout": "1500 ms"}), plain(none.clone(), Some(1_500))),
        (json!({"timeout": "2min"}), plain(none.clone(), Some(120_000))),
        (json!({"timeout": "1h"}), plain(none.clone(), Some(3_600_000))),
        (json!({"timeout": "1d"}), plain(none, Some(86_400_000))),
    ] {
        assert_eq!(asked(fields.clone()), Ok(expected), "{fields}");
    }
}

#[test]
fn wrong_conditions_are_refused_with_the_known_text() {
    let role = "PostgreSQL role should be either primary, standby_leader, or replica";
    let timeout = "Timeout should be a positive number of seconds";
    let format = |v: &str| format!("Invalid PostgreSQL version format: X.Y or X.Y.Z is accepted: {v}");
    let version = |v: &str| format!("Invalid PostgreSQL version: {v}");
    for (fields, code, text) in [
        (json!({"role": "master"}), 400, role.to_owned()),
        (json!({"role": 1}), 400, role.to_owned()),
        (json!({"postgres_version": "15"}), 400, format("15")),
        (json!({"postgres_version": "1.2.3.4"}), 400, format("1.2.3.4")),
        (json!({"postgres_version": "a.b.c"}), 400, version("a.b.c")),
        (json!({"postgres_version": "15.beta"}), 400, version("15.beta")),
        (json!({"postgres_version": "15.+4"}), 400, version("15.+4")),
        (json!({"postgres_version": "100.1"}), 400, version("100.1")),
        (json!({"timeout": 0}), 400, timeout.to_owned()),
        (json!({"timeout": -5}), 400, timeout.to_owned()),
        (json!({"timeout": "soon"}), 400, timeout.to_owned()),
        (json!({"timeout": "5 weeks"}), 400, timeout.to_owned()),
        (json!({"timeout": null}), 400, timeout.to_owned()),
        (json!({"timeout": 1e300}), 400, timeout.to_owned()),
        (
            json!({"schedule": "2030-01-02T00:00:00"}),
            400,
            "Timezone information is mandatory for the scheduled restart".to_owned(),
        ),
        (json!({"schedule": "2029-01-02T00:00:00Z"}), 422, "Cannot schedule restart in the past".to_owned()),
        (json!({"leader": "a"}), 400, "Unknown filter for the scheduled restart: leader".to_owned()),
        (json!({"x": 1, "role": "master"}), 400, "Unknown filter for the scheduled restart: x".to_owned()),
        (json!({"role": "master", "x": 1}), 400, role.to_owned()),
    ] {
        let answer = asked(fields.clone()).unwrap_err();
        assert_eq!((u16::from(answer.code), answer.body), (code, Some(text)), "{fields}");
    }
    assert_eq!(asked(json!({"restart_pending": "perhaps"})).unwrap_err().code, 400);
}

#[test]
fn a_scheduled_restart_keeps_what_was_asked() {
    let fields =
        json!({"restart_pending": true, "schedule": "2030-01-02T00:00:00Z", "timeout": "5min", "role": "replica"});
    let Ok(Wish::ScheduleRestart(restart)) = asked(fields) else { panic!("not scheduled") };
    assert_eq!((restart.at, restart.text.as_str()), (WallTime(NOW.0 + 86_400_000), "2030-01-02T00:00:00Z"));
    assert_eq!(restart.postmaster_start_time, "2029-01-01 00:00:00+00");
    let shown: Vec<_> = restart.shown.iter().map(|(name, json)| (name.as_str(), json.as_str())).collect();
    assert_eq!(shown, [("restart_pending", "true"), ("timeout", "\"5min\""), ("role", "\"replica\"")]);
    assert!(restart.wish.filter.pending_only && restart.wish.timeout == Some(Duration::from_secs(300)));
    let Ok(Wish::ScheduleRestart(restart)) =
        asked(json!({"schedule": "2030-01-02T00:00:00Z", "restart_pending": false}))
    else {
        panic!("not scheduled")
    };
    assert!(restart.shown.is_empty(), "no filter is none");
}

#[test]
fn a_new_copy_is_asked_for() {
    let wish = |fields: Value| reinitialize(fields.as_object().unwrap());
    let of = |force, from_leader| Ok(Wish::Reinitialize { force, from_leader });
    assert_eq!(wish(json!({})), of(false, false));
    assert_eq!(wish(json!({"force": true})), of(true, false));
    assert_eq!(wish(json!({"force": "yes", "from_leader": 1, "other": {}})), of(true, true));
    assert_eq!(wish(json!({"force": "off", "from-leader": true})), of(false, false));
    assert_eq!(wish(json!({"force": "perhaps"})).unwrap_err().code, 400);
    assert_eq!(wish(json!({"from_leader": {}})).unwrap_err().code, 400);
}

#[test]
fn ends_become_the_texts_clients_know() {
    let busy = || WishEnd::Busy("reinitialize".into());
    let failed = || WishEnd::Failed("no such file".into());
    for (answer, code, text) in [
        (restart_answer(WishEnd::Done), 200, "restarted successfully"),
        (restart_answer(WishEnd::ConditionsNotMet), 503, "restart conditions are not satisfied"),
        (restart_answer(busy()), 503, "reinitialize already in progress"),
        (restart_answer(WishEnd::StillStarting), 503, "postgres is still starting"),
        (restart_answer(failed()), 503, "restart failed"),
        (restart_answer(WishEnd::Scheduled), 202, "Restart scheduled"),
        (restart_answer(WishEnd::AlreadyScheduled), 409, "Another restart is already scheduled"),
        (restart_answer(WishEnd::Paused), 500, "Can't schedule restart in the paused state"),
        (cancel_answer(WishEnd::Done), 200, "scheduled restart deleted"),
        (cancel_answer(WishEnd::NothingScheduled), 404, "no restarts are scheduled"),
        (reinitialize_answer(WishEnd::Done), 200, "reinitialize started"),
        (reinitialize_answer(WishEnd::NoLeader), 503, "Cluster has no leader, can not reinitialize"),
        (reinitialize_answer(WishEnd::IsLeader), 503, "I am the leader, can not reinitialize"),
        (reinitialize_answer(WishEnd::Busy("restart".into())), 503, "restart already in progress"),
        (reinitialize_answer(failed()), 503, "no such file"),
    ] {
        assert_eq!((u16::from(answer.code), answer.body.as_deref()), (code, Some(text)));
    }
    assert_eq!(cancel_answer(WishEnd::IsLeader).code, 500);
}
