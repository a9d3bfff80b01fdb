//! From the dynamic configuration (the JSON text of the `config` key, or `bootstrap.dcs`) to the typed settings that
//! decisions depend on. Whatever the text holds, usable settings come out: a key with a value of the wrong type keeps
//! what was in force before and is reported, bad timings are corrected and reported.

use pgherd_postgres::{SLOT_KEYS, StandbySection, slot_settings};
use pgherd_types::{RewindPolicy, Settings, SlotSettings, StandbyCluster, SyncMode, SyncSettings};
use serde_json::{Map, Value};
use std::fmt;
use std::time::Duration;

/// Usable settings, and what is wrong with the text they came from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Checked {
    /// The settings.
    pub settings: Settings,
    /// One sentence each, beginning with the key.
    pub warnings: Vec<String>,
    /// Those of them that are about values nobody can use.
    pub mistakes: Vec<String>,
}

/// The text is not a JSON object; the previous settings stay in force.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NotAnObject(pub String);

impl fmt::Display for NotAnObject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the dynamic configuration is not a JSON object: {}", self.0)
    }
}

impl std::error::Error for NotAnObject {}

/// Longer times are mistakes; it also keeps sums of times far from overflow.
const SECONDS_MAX: u64 = 10_000_000;

/// Reads `text`. `all_ours` says that no member of another kind is in the cluster, so that our lower minima apply.
pub fn read(text: &str, previous: &Settings, all_ours: bool) -> Result<Checked, NotAnObject> {
    let map = match serde_json::from_str(text) {
        Ok(Value::Object(map)) => map,
        Ok(_) => return Err(NotAnObject("it is valid JSON of another kind".to_owned())),
        Err(e) => return Err(NotAnObject(e.to_string())),
    };
    let mut reader = Reader { map, known: Vec::new(), warnings: Vec::new(), mistakes: Vec::new() };
    let default = Settings::default();
    let mut settings = Settings {
        ttl: reader.seconds(&["ttl"], default.ttl, previous.ttl),
        loop_wait: reader.seconds(&["loop_wait"], default.loop_wait, previous.loop_wait),
        retry_timeout: reader.seconds(&["retry_timeout"], default.retry_timeout, previous.retry_timeout),
        maximum_lag_on_failover: reader.whole(
            "maximum_lag_on_failover",
            default.maximum_lag_on_failover,
            previous.maximum_lag_on_failover,
        ),
        primary_start_timeout: reader.seconds(
            &["primary_start_timeout", "master_start_timeout"],
            default.primary_start_timeout,
            previous.primary_start_timeout,
        ),
        member_slots_ttl: reader.seconds(&["member_slots_ttl"], default.member_slots_ttl, previous.member_slots_ttl),
        use_slots: reader.section_flag("use_slots", default.use_slots, previous.use_slots),
        slots: reader.slots(&previous.slots),
        max_timelines_history: reader.history_rows(previous.max_timelines_history),
        pause: reader.flag("pause", default.pause, previous.pause),
        primary_stop_timeout: reader.seconds(
            &["primary_stop_timeout", "master_stop_timeout"],
            default.primary_stop_timeout,
            previous.primary_stop_timeout,
        ),
        primary_race_backoff: reader.seconds(
            &["primary_race_backoff"],
            default.primary_race_backoff,
            previous.primary_race_backoff,
        ),
        check_timeline: reader.flag("check_timeline", default.check_timeline, previous.check_timeline),
        failsafe_mode: reader.flag("failsafe_mode", default.failsafe_mode, previous.failsafe_mode),
        standby_cluster: reader.standby_cluster(previous.standby_cluster.as_ref()),
        sync: reader.sync(previous.sync),
        rewind: reader.rewind(previous.rewind),
        dcs_outage_demote_early: reader.demote_early(previous.dcs_outage_demote_early),
    };
    reader.report_the_rest();
    correct_timings(&mut settings, all_ours, &mut reader.warnings);
    Ok(Checked { settings, warnings: reader.warnings, mistakes: reader.mistakes })
}

struct Reader {
    map: Map<String, Value>,
    known: Vec<&'static str>,
    warnings: Vec<String>,
    mistakes: Vec<String>,
}

impl Reader {
    /// A value that nobody can use; what else is done instead.
    fn mistake(&mut self, what: String, instead: &str) {
        self.warnings.push(format!("{what}; {instead}"));
        self.mistakes.push(what);
    }

    fn get(&mut self, key: &'static str) -> Option<Value> {
        self.known.push(key);
        self.map.get(key).filter(|v| !v.is_null()).cloned()
    }

    /// The value if it is there and right, the default if it is absent, what was before if it is wrong.
    fn read<T>(
        &mut self,
        key: &'static str,
        default: T,
        previous: T,
        needs: &str,
        parse: fn(&Value) -> Option<T>,
    ) -> T {
        match self.get(key) {
            None => default,
            Some(value) => parse(&value).unwrap_or_else(|| {
                self.mistake(format!("{key}: must be {needs}"), "the value in force before is kept");
                previous
            }),
        }
    }

    /// The first of the names that is there counts.
    fn seconds(&mut self, names: &[&'static str], default: Duration, previous: Duration) -> Duration {
        let there = names.iter().find(|name| self.map.get(**name).is_some_and(|v| !v.is_null()));
        let chosen = there.copied().unwrap_or(names[0]);
        self.known.extend(names);
        self.read(chosen, default, previous, "a number of seconds", duration)
    }

    fn whole(&mut self, key: &'static str, default: u64, previous: u64) -> u64 {
        self.read(key, default, previous, "a whole number of bytes", whole)
    }

    fn flag(&mut self, key: &'static str, default: bool, previous: bool) -> bool {
        self.read(key, default, previous, "true or false", flag)
    }

    fn history_rows(&mut self, previous: usize) -> usize {
        self.read("max_timelines_history", 0, previous, "a whole number", |v| usize::try_from(whole(v)?).ok())
    }

    fn demote_early(&mut self, previous: bool) -> bool {
        self.read("dcs_outage_demote", false, previous, "retry_timeout or fence", |v| match v.as_str()? {
            "retry_timeout" => Some(true),
            "fence" => Some(false),
            _ => None,
        })
    }

    /// A section that cannot be used changes nothing: whether a cluster has a primary must not hang on a slip.
    fn standby_cluster(&mut self, previous: Option<&StandbyCluster>) -> Option<StandbyCluster> {
        self.known.push("standby_cluster");
        match StandbySection::read(&Value::Object(self.map.clone())) {
            Ok(section) => section.map(|section| section.remote),
            Err(why) => {
                self.mistake(why.to_string(), "what was in force before is kept");
                previous.cloned()
            }
        }
    }

    fn sync(&mut self, previous: SyncSettings) -> SyncSettings {
        let mode = self.read("synchronous_mode", SyncMode::Off, previous.mode, "on, off or quorum", |v| {
            match (v.as_str().map(str::to_ascii_lowercase).as_deref(), flag(v)) {
                (Some("quorum"), _) => Some(SyncMode::Quorum),
                (_, Some(on)) => Some(if on { SyncMode::On } else { SyncMode::Off }),
                _ => None,
            }
        });
        let count = |v: &Value| u32::try_from(whole(v)?).ok().filter(|count| *count > 0);
        let lag = |v: &Value| match v.as_i64().or_else(|| v.as_str()?.trim().parse().ok()) {
            Some(bytes) if bytes <= 0 => Some(None),
            _ => Some(Some(whole(v)?)),
        };
        SyncSettings {
            mode,
            strict: self.flag("synchronous_mode_strict", false, previous.strict),
            node_count: self.read("synchronous_node_count", 1, previous.node_count, "a number of standbys", count),
            maximum_lag: self.read("maximum_lag_on_syncnode", None, previous.maximum_lag, "a number of bytes", lag),
        }
    }

    fn slots(&mut self, previous: &SlotSettings) -> SlotSettings {
        self.known.extend(SLOT_KEYS);
        let (settings, warnings) = slot_settings(&self.map, previous);
        self.warnings.extend(warnings);
        settings
    }

    /// What may be done with diverged data.
    fn rewind(&mut self, previous: RewindPolicy) -> RewindPolicy {
        let mut flag = |key, previous| self.section_flag(key, false, previous);
        RewindPolicy {
            use_pg_rewind: flag("use_pg_rewind", previous.use_pg_rewind),
            replace_on_failure: flag("remove_data_directory_on_rewind_failure", previous.replace_on_failure),
            replace_on_divergence: flag("remove_data_directory_on_diverged_timelines", previous.replace_on_divergence),
        }
    }

    /// A flag of the section `postgresql`.
    fn section_flag(&mut self, key: &str, default: bool, previous: bool) -> bool {
        let section = match self.get("postgresql") {
            None => return default,
            Some(Value::Object(section)) => section,
            Some(_) => {
                let mistake = "postgresql: must be a map".to_owned();
                if !self.mistakes.contains(&mistake) {
                    self.mistake(mistake, "ignored");
                }
                return previous;
            }
        };
        match section.get(key).filter(|v| !v.is_null()) {
            None => default,
            Some(value) => flag(value).unwrap_or_else(|| {
                self.mistake(format!("postgresql.{key}: must be true or false"), "the value in force before is kept");
                previous
            }),
        }
    }

    fn report_the_rest(&mut self) {
        for key in self.map.keys().filter(|key| !self.known.contains(&key.as_str())) {
            self.warnings.push(format!("{key}: unknown key, ignored"));
        }
    }
}

/// A number, also as text, rounded when it is a fraction; not negative.
fn whole(value: &Value) -> Option<u64> {
    match value {
        Value::Number(number) => number.as_u64().or_else(|| rounded(number.as_f64()?)),
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    }
}

fn rounded(number: f64) -> Option<u64> {
    // 2^53: beyond it a fraction says nothing any more.
    (number.is_finite() && (0.0..9_007_199_254_740_992.0).contains(&number)).then_some(number.round() as u64)
}

/// Seconds as a number, or a number with a unit: `30min`.
fn duration(value: &Value) -> Option<Duration> {
    let seconds = match value {
        Value::String(text) if whole(value).is_none() => with_unit(text.trim())?,
        other => whole(other)?,
    };
    (seconds <= SECONDS_MAX).then(|| Duration::from_secs(seconds))
}

fn with_unit(text: &str) -> Option<u64> {
    let digits = text.find(|c: char| !c.is_ascii_digit())?;
    let number: u64 = text[..digits].parse().ok()?;
    let factor = match text[digits..].trim() {
        "ms" => return Some(number / 1000),
        "s" => 1,
        "min" => 60,
        "h" => 3600,
        "d" => 86_400,
        _ => return None,
    };
    number.checked_mul(factor)
}

fn flag(value: &Value) -> Option<bool> {
    match value {
        Value::Bool(flag) => Some(*flag),
        Value::Number(number) => match number.as_u64()? {
            0 => Some(false),
            1 => Some(true),
            _ => None,
        },
        Value::String(text) => match text.to_ascii_lowercase().as_str() {
            "on" | "true" | "yes" | "1" => Some(true),
            "off" | "false" | "no" | "0" => Some(false),
            _ => None,
        },
        _ => None,
    }
}

/// Minima, then `loop_wait + 2*retry_timeout <= ttl` (spec/ha.md 1): a leader must have time for a second try.
fn correct_timings(settings: &mut Settings, all_ours: bool, warnings: &mut Vec<String>) {
    let (ttl_min, retry_min) = if all_ours { (3, 1) } else { (20, 3) };
    raise("ttl", &mut settings.ttl, ttl_min, warnings);
    raise("loop_wait", &mut settings.loop_wait, 1, warnings);
    raise("retry_timeout", &mut settings.retry_timeout, retry_min, warnings);
    let (ttl, loop_wait, retry) =
        (settings.ttl.as_secs(), settings.loop_wait.as_secs(), settings.retry_timeout.as_secs());
    if loop_wait + 2 * retry <= ttl {
        return;
    }
    if 1 + 2 * retry > ttl {
        settings.loop_wait = Duration::from_secs(1);
        settings.retry_timeout = Duration::from_secs((ttl - 1) / 2);
    } else {
        settings.loop_wait = Duration::from_secs(ttl - 2 * retry);
    }
    warnings.push(format!(
        "Violated the rule \"loop_wait + 2*retry_timeout <= ttl\", where ttl={ttl}: loop_wait={loop_wait} and \
         retry_timeout={retry} are used as loop_wait={} and retry_timeout={}",
        settings.loop_wait.as_secs(),
        settings.retry_timeout.as_secs()
    ));
}

fn raise(key: &str, value: &mut Duration, min_s: u64, warnings: &mut Vec<String>) {
    if value.as_secs() < min_s {
        warnings.push(format!("{key}={} is below the minimum and is used as {min_s}", value.as_secs()));
        *value = Duration::from_secs(min_s);
    }
}

#[cfg(test)]
#[path = "dynamic_settings_tests.rs"]
mod tests;
