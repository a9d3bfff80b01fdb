//! The settings as a whole: a good file, and everything that can be wrong with one.

use super::*;
use pgherd_dcs::EtcdApi;
use pgherd_watchdog::{WatchdogDriver, WatchdogMode};
use std::path::PathBuf;

const GOOD: &str = r#"
scope: demo
name: pg1
restapi: {listen: "0.0.0.0:8008", connect_address: "10.0.0.1:8008"}
etcd3: {hosts: "10.0.0.1, http://10.0.0.2:2380"}
bootstrap:
  dcs: {ttl: 3, loop_wait: 1, retry_timeout: 1, postgresql: {use_slots: yes}}
  initdb: [data-checksums, encoding: UTF8, pwfile: /x]
  users: {app: {password: secret1, options: [createdb]}}
postgresql:
  listen: "127.0.0.1,10.0.0.1:5433"
  data_dir: /data
  authentication:
    superuser: {username: postgres, password: secret2}
    replication: {username: repl, password: 0123}
  parameters: {wal_log_hints: on, max_connections: 50, pg_stat_statements.track: all}
  pg_hba: [host all all all md5]
  use_pg_rewind: on
  remove_data_directory_on_rewind_failure: no
  rewind: [debug, dry-run, sync-method: syncfs]
tags: {nofailover: false, clonefrom: true, zone: b, weight: 1.5}
watchdog: {mode: off}
"#;

/// A directory of its own for each test, removed at its end.
struct Directory(PathBuf);

impl Directory {
    fn new() -> Self {
        static NEXT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let number = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("pgherd-settings-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }
    fn write(&self, name: &str, text: impl AsRef<[u8]>) -> PathBuf {
        let path = self.0.join(name);
        std::fs::write(&path, text).unwrap();
        path
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn load_text(text: &str) -> Result<Loaded, SettingsError> {
    let directory = Directory::new();
    load(&directory.write("pg.yml", text), [])
}

/// The error's line without the directory.
fn error_of(text: &str) -> String {
    let line = load_text(text).unwrap_err().to_string();
    assert!(!line.contains('\n'), "{line}");
    line[line.find("pg.yml").unwrap_or(0)..].to_owned()
}

#[test]
fn a_good_file_gives_typed_settings() {
    let loaded = load_text(GOOD).unwrap();
    let s = &loaded.settings;
    assert_eq!((s.scope.as_str(), s.name.as_str(), s.namespace.as_str()), ("demo", "pg1", "/service"));
    assert_eq!(s.restapi.api_url(), "http://10.0.0.1:8008/patroni");
    assert_eq!(s.etcd3.names(), "http://10.0.0.1:2379, http://10.0.0.2:2380");
    assert_eq!(s.bootstrap.dcs, r#"{"ttl":3,"loop_wait":1,"retry_timeout":1,"postgresql":{"use_slots":true}}"#);
    assert_eq!(s.bootstrap.initdb, ["--data-checksums", "--encoding=UTF8", "--pwfile=/x"]);
    assert_eq!(s.bootstrap.users[0].options, ["createdb"]);
    let p = &s.postgresql;
    assert_eq!((p.listen_addresses.as_str(), p.port), ("127.0.0.1,10.0.0.1", 5433));
    assert_eq!(p.connect_address.to_string(), "127.0.0.1:5433");
    assert_eq!(p.superuser, p.rewind);
    assert_eq!(p.replication.password.as_ref().unwrap().expose(), "83");
    let parameters: Vec<_> = p.parameters.iter().map(|(k, v)| format!("{k}={v}")).collect();
    assert_eq!(parameters, ["wal_log_hints=on", "max_connections=50", "pg_stat_statements.track=all"]);
    assert_eq!(p.rewind_options, ["--debug", "--sync-method=syncfs"]);
    let policy = (p.policy.use_pg_rewind, p.policy.replace_on_failure, p.policy.replace_on_divergence);
    assert_eq!(policy, (Some(true), Some(false), None));
    let tags: Vec<_> = s.tags.shown.iter().map(|(k, v)| format!("{k}={v}")).collect();
    assert_eq!(tags, ["clonefrom=true", "zone=\"b\"", "weight=1.5"]);
    assert_eq!(s.watchdog.mode, WatchdogMode::Off);
    assert_eq!(loaded.warnings.len(), 3, "{:?}", loaded.warnings);
    assert!(loaded.warnings.iter().any(|w| w.contains("replication.password: is a number")), "{:?}", loaded.warnings);
    assert!(!format!("{s:?}").contains("secret"), "passwords must not be shown");
}

#[test]
fn commands_are_split_like_a_shell_line() {
    let scripts = "  pre_promote: /x/check 'two words' \"a b\"\n  before_stop: ''\n  callback_timeout: 5\n  \
                   callbacks: {on_start: /x/cb start, on_role_change: /x/cb role, on_wrong: x}\ntags:";
    let text = GOOD.replacen("tags:", scripts, 1);
    let Loaded { settings, warnings } = load_text(&text).unwrap();
    let p = &settings.postgresql.scripts;
    assert_eq!(p.pre_promote.as_deref().unwrap(), ["/x/check", "two words", "a b"]);
    assert_eq!(p.before_stop.as_deref(), Some(&[][..]), "it says that there is none");
    assert_eq!(p.callback_timeout.unwrap().as_secs(), 5);
    let commands = p.callbacks.as_ref().unwrap();
    let commands: Vec<_> = commands.iter().map(|(action, words)| format!("{} {words:?}", action.as_str())).collect();
    assert_eq!(commands, [r#"on_start ["/x/cb", "start"]"#, r#"on_role_change ["/x/cb", "role"]"#]);
    assert!(warnings.iter().any(|w| w.contains("postgresql.callbacks.on_wrong: unknown key")), "{warnings:?}");
    let error = error_of(&text.replace("'two words'", "'two words"));
    assert!(error.contains("postgresql.pre_promote: has a quote or a backslash without its end"), "{error}");
}

#[test]
fn the_watchdogs_words_are_those_of_others() {
    let read = |line: &str| {
        load_text(&GOOD.replacen("watchdog: {mode: off}", line, 1)).map(|l| (l.settings.watchdog, l.warnings))
    };
    let others = load_text(GOOD).unwrap().warnings.len();
    for (line, mode) in [
        ("", WatchdogMode::Automatic),
        ("watchdog: {mode: auto}", WatchdogMode::Automatic),
        ("watchdog: {mode: Required}", WatchdogMode::Required),
        ("watchdog: {mode: require}", WatchdogMode::Required),
        ("watchdog: {mode: 'off'}", WatchdogMode::Off),
        ("watchdog: {mode: disabled}", WatchdogMode::Off),
        ("watchdog: {mode: no}", WatchdogMode::Off),
    ] {
        let (watchdog, warnings) = read(line).unwrap();
        assert_eq!((watchdog.mode, warnings.len()), (mode, others), "{line}: {warnings:?}");
    }
    let (watchdog, warnings) =
        read("watchdog: {mode: sometimes, driver: testing, device: /x, safety_margin: -1}").unwrap();
    assert_eq!((watchdog.mode, watchdog.driver), (WatchdogMode::Off, WatchdogDriver::Testing));
    assert_eq!((watchdog.device.to_str(), watchdog.safety_margin_s), (Some("/x"), None));
    assert!(warnings.iter().any(|w| w.contains("watchdog.mode: is not known")), "{warnings:?}");
    for (line, what) in [
        ("watchdog: {safety_margin: -2}", "watchdog.safety_margin: must be"),
        ("watchdog: {driver: other}", "watchdog.driver: must be"),
    ] {
        assert!(read(line).unwrap_err().to_string().contains(what), "{line}");
    }
}

#[test]
fn every_needed_key_is_missed_by_name() {
    for (key, text) in [
        ("scope", "scope: demo\n"),
        ("name", "name: pg1\n"),
        ("restapi.listen", "listen: \"0.0.0.0:8008\", "),
        ("restapi.connect_address", ", connect_address: \"10.0.0.1:8008\""),
        ("etcd3.hosts", "hosts: \"10.0.0.1, http://10.0.0.2:2380\""),
        ("postgresql.listen", "  listen: \"127.0.0.1,10.0.0.1:5433\"\n"),
        ("postgresql.data_dir", "  data_dir: /data\n"),
        ("postgresql.authentication.superuser", "    superuser: {username: postgres, password: secret2}\n"),
        ("postgresql.authentication.replication", "    replication: {username: repl, password: 0123}\n"),
        ("postgresql.authentication.replication.username", "username: repl, "),
    ] {
        let without = GOOD.replacen(text, "", 1);
        assert_ne!(without, GOOD, "{key}");
        let error = error_of(&without);
        assert!(error.contains(&format!(": {key}: missing, but needed")), "{key}: {error}");
    }
}

#[test]
fn wrong_types_name_file_line_and_key() {
    for (good, bad, error) in [
        ("name: pg1", "name: [pg1]", "pg.yml:3: name: must be text, not a list"),
        ("name: pg1", "name: a/b", "pg.yml:3: name: must not contain `/`"),
        ("data_dir: /data", "data_dir: {a: 1}", "pg.yml:12: postgresql.data_dir: must be text, not a map"),
        ("listen: \"0.0.0.0:8008\"", "listen: 8008", "pg.yml:4: restapi.listen: must be host:port"),
        ("  pg_hba: [host all all all md5]", "  pg_hba: x", "pg.yml:17: postgresql.pg_hba: must be a list, not text"),
        ("{nofailover: false", "{nofailover: maybe", "pg.yml:21: tags.nofailover: must be true or false, not text"),
        ("tags: {", "tags: [{", "pg.yml:"),
        ("mode: off", "mode: on", "pg.yml:22: watchdog.mode: must be text, not true or false"),
        (
            "max_connections: 50",
            "max_connections: [5]",
            "postgresql.parameters.max_connections: must be a single value",
        ),
        ("etcd3: {", "consul: {", "pg.yml:5: consul: this store is not supported yet"),
        ("etcd3: {", "etcd: {host: a}\netcd3: {", "pg.yml:5: etcd: there is a section etcd3 too; keep one"),
        ("dcs: {ttl: 3", "dcs: [3], x: {ttl: 3", "pg.yml:"),
    ] {
        let text = GOOD.replacen(good, bad, 1);
        assert_ne!(text, GOOD, "{bad}");
        assert!(error_of(&text).contains(error), "{}", error_of(&text));
    }
}

#[test]
fn etcd_is_named_in_every_way_that_is_known() {
    let with = |section: &str| GOOD.replacen("{hosts: \"10.0.0.1, http://10.0.0.2:2380\"}", section, 1);
    for (section, names, proxies, user) in [
        ("{hosts: [a, 'b:1']}", "http://a:2379, http://b:1", false, None),
        ("{host: a, url: 'http://b'}", "http://a:2379", false, None),
        ("{proxy: 'http://p:80', hosts: a}", "http://p:80", true, None),
        ("{hosts: a, use_proxies: true, protocol: http}", "http://a:2379", true, None),
        ("{url: 'http://u:p%40ss@a:1/'}", "http://a:1", false, Some("u")),
        ("{srv: db.test, srv_suffix: pg, hosts: a}", "what DNS names for db.test", false, None),
        ("{discovery_srv: db.test}", "what DNS names for db.test", false, None),
        ("{hosts: 'a,b', username: me, password: x}", "http://a:2379, http://b:2379", false, Some("me")),
    ] {
        let loaded = load_text(&with(section)).unwrap_or_else(|e| panic!("{section}: {e}"));
        let etcd3 = loaded.settings.etcd3;
        assert_eq!((etcd3.names().as_str(), etcd3.use_proxies), (names, proxies), "{section}");
        assert_eq!(etcd3.login.as_ref().map(|login| login.0.as_str()), user, "{section}");
        assert_eq!(etcd3.server().unwrap().discover, !proxies);
    }
    let password = load_text(&with("{url: 'http://u:p%40ss@a:1/'}")).unwrap().settings.etcd3.login.unwrap().1;
    assert_eq!(password.expose(), "p@ss");
    for (section, error) in [
        ("{hosts: a, username: me}", "etcd3.password: missing, but needed"),
        ("{hosts: a, password: hunter2}", "etcd3.username: missing, but needed"),
        ("{hosts: 'ftp://a'}", "etcd3.hosts: must begin with http:// or https://"),
        ("{hosts: 'a b'}", "etcd3.hosts: must be host:port"),
        ("{hosts: 'a:x'}", "etcd3.hosts: must be host:port"),
        ("{hosts: []}", "etcd3.hosts: missing"),
        ("{hosts: a, move_leader: maybe}", "etcd3.move_leader: must be true or false"),
        ("{hosts: a, key: /k}", "etcd3.cert: missing, but needed"),
        ("{srv: 'db test'}", "etcd3.srv: must be the name of a domain"),
        ("{srv: db.test, srv_suffix: 'a b'}", "etcd3.srv: srv_suffix must be"),
        ("{hosts: a, protocol: gopher}", "etcd3.protocol: must be http or https"),
    ] {
        let found = error_of(&with(section));
        assert!(found.contains(error) && !found.contains("hunter2"), "{section}: {found}");
    }
    let srv = load_text(&with("{srv: db.test, srv_suffix: pg}")).unwrap().settings.etcd3.srv.unwrap();
    assert_eq!((srv.domain.as_str(), srv.suffix.as_deref()), ("db.test", Some("pg")));
    let loaded = load_text(&with("{host: a, url: 'http://b'}")).unwrap();
    assert!(
        loaded.warnings.iter().any(|w| w.contains("etcd3.url: has no effect: etcd is found by host")),
        "{:?}",
        loaded.warnings
    );
}

#[test]
fn the_old_api_has_a_section_of_its_own_with_the_same_keys() {
    let with = |section: &str| GOOD.replacen("etcd3: {hosts: \"10.0.0.1, http://10.0.0.2:2380\"}", section, 1);
    let loaded = load_text(&with("etcd: {hosts: 'a, b:1', username: me, password: x, move_leader: true}")).unwrap();
    let etcd = loaded.settings.etcd3;
    assert_eq!((etcd.names().as_str(), etcd.api), ("http://a:2379, http://b:1", EtcdApi::V2));
    assert!(loaded.warnings.iter().any(|w| w.contains("etcd.move_leader: has no effect")), "{:?}", loaded.warnings);
    assert_eq!(load_text(GOOD).unwrap().settings.etcd3.api, EtcdApi::V3);
    for (section, error) in [
        ("etcd: {hosts: []}", "etcd.hosts: missing"),
        ("etcd: {hosts: a, password: x}", "etcd.username: missing"),
        ("etcd: {hosts: 'ftp://a'}", "etcd.hosts: must begin with http"),
    ] {
        let found = error_of(&with(section));
        assert!(found.contains(error), "{section}: {found}");
    }
    let hidden = with("etcd: {hosts: a}").replacen("name: pg1", "name: _pg1", 1);
    assert!(error_of(&hidden).contains("name: must not begin with `_`"), "{}", error_of(&hidden));
    assert!(load_text(&GOOD.replacen("name: pg1", "name: _pg1", 1)).is_ok(), "no harm in v3");
}

#[test]
fn unusable_files_are_refused_with_one_line() {
    let directory = Directory::new();
    let error = |path: PathBuf| load(&path, []).unwrap_err().to_string();
    assert!(error(directory.0.join("nope.yml")).contains("nope.yml: no such file or directory"));
    assert!(error(directory.0.clone()).contains("has no *.yml"));
    assert!(error(directory.write("a.yml", "")).contains("a.yml: the file is empty"));
    assert!(error(directory.write("b.yml", "- x")).contains("b.yml: not a map"));
    assert!(error(directory.write("c.yml", "a: 1\nb: {\nc: ]")).contains("c.yml:3: not valid YAML: "));
    assert!(error(directory.write("d.yml", b"a: \xff")).contains("d.yml: not UTF-8"));
    assert!(error(directory.write("e.yml", vec![b' '; 2 << 20])).contains("e.yml: larger than"));
    assert!(error(PathBuf::from("/dev/null")).contains("/dev/null: neither a file nor a directory"));
}

#[test]
fn unknown_keys_are_named_with_their_path() {
    let text = GOOD.replacen("data_dir: /data", "data_dir: /data\n  datadir: /x", 1)
        + "lgo: {a: 1}\npostgresql.port: 5\nlog: {level: debug, dir: /x}\n";
    let warnings = load_text(&text).unwrap().warnings.join("\n");
    for part in [
        "pg.yml:13: postgresql.datadir: unknown key, ignored",
        "pg.yml:24: lgo: unknown key, ignored",
        "pg.yml: postgresql.port: unknown key, ignored; write nested keys as nested maps",
        "log.dir: is not supported yet and has no effect",
    ] {
        assert!(warnings.contains(part), "{part} is not in\n{warnings}");
    }
    let text = GOOD.replacen("dcs: {ttl: 3", "dcs: {tttl: 3", 1);
    let warnings = load_text(&text).unwrap().warnings.join("\n");
    assert!(warnings.contains("bootstrap.dcs: tttl: unknown key"), "{warnings}");
}

#[test]
fn methods_of_replicas_and_bootstraps_are_read() {
    let more = "data_dir: /data\n  create_replica_method: [tape, basebackup]\n  tape: {command: t 'x y', no_leader: yes, n: 3}\n  spare: {command: s}";
    let text = GOOD.replacen("data_dir: /data", more, 1);
    let text = text.replacen(
        "  initdb:",
        "  method: own\n  own: {command: o, recovery_conf: {recovery_target_time: x}}\n  post_init: p --x\n  initdb:",
        1,
    );
    let loaded = load_text(&text).unwrap();
    let p = &loaded.settings.postgresql;
    assert_eq!(p.create_replica_methods, ["tape", "basebackup"]);
    let known: Vec<_> = p.replica_methods.iter().map(|m| (m.name.as_str(), m.no_leader)).collect();
    assert_eq!(known, [("tape", true), ("spare", false)]);
    assert_eq!(p.replica_methods[0].arguments[1], ("n".to_owned(), "3".to_owned()));
    let b = &loaded.settings.bootstrap;
    assert_eq!(b.method.as_ref().unwrap().recovery_conf.as_ref().unwrap()["recovery_target_time"], "x");
    assert_eq!(b.post_bootstrap.as_deref(), Some("p --x"));
    assert!(loaded.warnings.iter().all(|w| !w.contains("unknown key")), "{:?}", loaded.warnings);
    for (good, bad, error) in [
        ("t 'x y'", "t 'x y", "postgresql.tape: the command is empty, or a quote"),
        ("tape: {command: t 'x y', no_leader: yes, n: 3}", "tape: [x]", "postgresql.tape: must be a map"),
        ("n: 3}", "n: [3]}", "postgresql.tape: n must be a single value"),
        (
            "{command: o, recovery_conf: {recovery_target_time: x}}",
            "{command: o, recovery_conf: x}",
            "bootstrap.own: recovery_conf",
        ),
        ("p --x", "''", "bootstrap.post_bootstrap: the command is empty"),
    ] {
        assert!(text.contains(good), "{good}");
        let error_found = error_of(&text.replacen(good, bad, 1));
        assert!(error_found.contains(error), "{error_found}");
    }
}

#[test]
fn the_environment_counts_over_the_file() {
    let directory = Directory::new();
    let file = directory.write("pg.yml", GOOD);
    let set = |name: &str, text: &str| [(name.to_owned(), text.to_owned())];
    let loaded = load(&file, set("PATRONI_SUPERUSER_PASSWORD", "0123")).unwrap();
    assert_eq!(loaded.settings.postgresql.superuser.username, "postgres");
    assert_eq!(loaded.settings.postgresql.superuser.password.unwrap().expose(), "0123");
    let error = load(&file, set("PATRONI_RESTAPI_LISTEN", "nowhere")).unwrap_err().to_string();
    assert!(error.starts_with("PATRONI_RESTAPI_LISTEN: restapi.listen: must be host:port"), "{error}");
}

#[test]
fn a_directory_is_merged_in_the_order_of_names() {
    let directory = Directory::new();
    directory.write("10.yml", GOOD);
    directory
        .write("20.yaml", "name: pg2\nbootstrap: {users: null}\npostgresql: {parameters: {max_connections: 70}}\n");
    directory.write("30.txt", "not: [read");
    let s = load(&directory.0, []).unwrap().settings;
    assert_eq!(s.name.as_str(), "pg2");
    assert!(s.bootstrap.users.is_empty());
    assert_eq!(s.postgresql.parameters[1], ("max_connections".to_owned(), "70".to_owned()));
    directory.write("40.yml", "");
    assert!(load(&directory.0, []).unwrap_err().to_string().contains("40.yml: the file is empty"));
}

#[test]
fn the_sample_is_a_good_file() {
    let sample = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/pgherd.yml");
    let loaded = load(&sample, []).unwrap();
    assert!(loaded.warnings.is_empty(), "{:?}", loaded.warnings);
    assert_eq!(loaded.settings.bootstrap.initdb, ["--encoding=UTF8", "--data-checksums"]);
    // Every key that is commented out must be one the program knows.
    let text = std::fs::read_to_string(sample).unwrap();
    let is_key = |line: &&str| {
        line.trim_start()
            .strip_prefix("# ")
            .is_some_and(|rest| rest.trim_start().contains(": ") || rest.starts_with("tags:"))
    };
    let (head, body) = text.split_at(text.find("scope:").unwrap());
    let uncommented: Vec<_> =
        body.lines().map(|line| if is_key(&line) { line.replacen("# ", "", 1) } else { line.to_owned() }).collect();
    assert_ne!(uncommented.join("\n"), body.trim_end(), "{head}");
    let loaded = load_text(&uncommented.join("\n")).unwrap();
    assert!(loaded.warnings.is_empty(), "{:?}", loaded.warnings);
    assert_eq!(loaded.settings.tags.shown.len(), 5, "{:?}", loaded.settings.tags);
}

#[test]
fn who_may_change_something_is_read() {
    let restapi = |more: &str| {
        let text = GOOD.replacen(
            "connect_address: \"10.0.0.1:8008\"",
            &format!("connect_address: \"10.0.0.1:8008\", {more}"),
            1,
        );
        assert_ne!(text, GOOD);
        load_text(&text).map(|loaded| loaded.settings.restapi)
    };
    let settings =
        restapi("allowlist: [10.0.0.0/8, db1], allowlist_include_members: on, auth: 'admin:s:cret'").unwrap();
    assert_eq!(
        (settings.allowlist, settings.allowlist_include_members),
        (vec!["10.0.0.0/8".into(), "db1".into()], true)
    );
    let login = settings.authentication.unwrap();
    assert_eq!((login.username.as_str(), login.password.expose()), ("admin", "s:cret"));
    let settings = restapi("server_tokens: minimal").unwrap();
    assert!(settings.allowlist.is_empty() && !settings.allowlist_include_members && settings.authentication.is_none());
    assert!(restapi("allowlist: 10.0.0.0/8").is_err() && restapi("allowlist: [1]").is_err());
}

#[test]
fn webhooks_and_headers_are_read() {
    let load =
        |more: &str| load_text(&format!("{GOOD}\n{more}\n")).map(|loaded| (loaded.settings.webhooks, loaded.warnings));
    let (webhooks, warnings) = load(
        "events:\n  webhooks:\n    - {url: 'http://hooks:9/x', types: [leader, role.changed], secret: hunter2}\n    - {url: 'http://other/'}",
    )
    .unwrap();
    assert_eq!(warnings.len(), load_text(GOOD).unwrap().warnings.len(), "{warnings:?}");
    assert_eq!((webhooks[0].url.as_str(), webhooks[0].secret.as_deref()), ("http://hooks:9/x", Some("hunter2")));
    assert!(webhooks[0].kinds.include("pgherd.leader.lost") && !webhooks[0].kinds.include("pgherd.sync.changed"));
    assert!(webhooks[1].kinds.include("pgherd.sync.changed") && webhooks[1].secret.is_none());
    for (bad, key) in [
        ("{url: 'ftp://x/'}", "events.webhooks[0].url"),
        ("{url: 'https:///x'}", "events.webhooks[0].url"),
        ("{url: 'https://x/', cacert: [a]}", "events.webhooks[0].cacert"),
        ("{url: 'http://user:pw@x/'}", "events.webhooks[0].url"),
        ("{types: [leader]}", "events.webhooks[0].url"),
        ("{url: 'http://x/', types: [Leader]}", "events.webhooks[0].types"),
        ("{url: 'http://x/', types: leader}", "events.webhooks[0].types"),
        ("7", "events.webhooks"),
    ] {
        let error = load(&format!("events:\n  webhooks: [{bad}]")).unwrap_err().to_string();
        assert!(error.contains(key) && !error.contains("pw"), "{bad}: {error}");
    }
    let restapi = |more: &str| {
        load_text(&GOOD.replacen(
            "connect_address: \"10.0.0.1:8008\"",
            &format!("connect_address: \"10.0.0.1:8008\", {more}"),
            1,
        ))
    };
    let headers = restapi("server_tokens: minimal, http_extra_headers: {X-Frame-Options: DENY}")
        .unwrap()
        .settings
        .restapi
        .headers;
    let pair = ("X-Frame-Options".to_owned(), "DENY".to_owned());
    assert_eq!(Ok(headers.every), pgherd_web::ExtraHeaders::new(&[pair], pgherd_web::ServerTokens::Minimal));
    let error = restapi("http_extra_headers: {Content-Length: 7}").unwrap_err().to_string();
    assert!(error.contains("restapi.http_extra_headers") && error.contains("Content-Length"), "{error}");
}

#[test]
fn names_and_places_of_the_servers_files_and_what_depends_on_the_role() {
    let more = "config_dir: /etc/pg\n  config_base_name: main\n  custom_conf: mine.conf\n  bin_name: {postgres: postgres-15}\n  \
        proxy_address: 10.0.0.9:6432\n  use_unix_socket_repl: true\n  krbsrvname: pg\n  parameters_replica: {work_mem: 8MB}\n  \
        pg_hba_primary: [a, b]\n  data_dir: /data";
    let loaded = load_text(&GOOD.replacen("data_dir: /data", more, 1)).unwrap();
    let usual = load_text(GOOD).unwrap().warnings.len();
    assert_eq!(loaded.warnings.len(), usual, "{:?}", loaded.warnings);
    let p = loaded.settings.postgresql;
    assert_eq!(p.files.config_dir, Some(PathBuf::from("/etc/pg")));
    assert_eq!((p.files.config_base_name.as_str(), p.files.custom_conf.as_deref()), ("main", Some("mine.conf")));
    assert_eq!(p.files.bin_name["postgres"], "postgres-15");
    assert_eq!(p.proxy_address.unwrap().to_string(), "10.0.0.9:6432");
    assert_eq!((p.use_unix_socket_repl, p.krbsrvname.as_deref()), (true, Some("pg")));
    let overlays: Vec<_> = p.overlays.values().map(|overlay| (overlay.parameters.is_some(), &overlay.pg_hba)).collect();
    assert_eq!(overlays, [(false, &Some(vec!["a".to_owned(), "b".to_owned()])), (true, &None)]);
    for (bad, error) in [
        ("bin_name: {postgres: server}", "postgresql.bin_name.postgres: must be postgres with a version behind it"),
        ("bin_name: {initdb: /x/initdb}", "postgresql.bin_name.initdb: must be a name, not a path"),
        ("config_base_name: a/b", "postgresql.config_base_name: must be a name, not a path"),
        ("proxy_address: 'a:b'", "postgresql.proxy_address: "),
        ("pg_ident_replica: x", "postgresql.pg_ident_replica: must be a list"),
    ] {
        let text = GOOD.replacen("data_dir: /data", &format!("{bad}\n  data_dir: /data"), 1);
        assert!(error_of(&text).contains(error), "{}", error_of(&text));
    }
}

#[test]
fn certificates_are_named_and_what_contradicts_itself_is_refused() {
    let load = |restapi: &str, ctl: &str| {
        let address = "connect_address: \"10.0.0.1:8008\"";
        load_text(&format!("{}\nctl: {{{ctl}}}\n", GOOD.replacen(address, &format!("{address}, {restapi}"), 1)))
    };
    let settings = load("certfile: /c.crt, keyfile: /c.key, cafile: /ca.crt, verify_client: Optional", "").unwrap();
    assert_eq!(settings.warnings.len(), load_text(GOOD).unwrap().warnings.len(), "{:?}", settings.warnings);
    let settings = settings.settings;
    assert_eq!(settings.restapi.api_url(), "https://10.0.0.1:8008/patroni");
    let tls = settings.restapi.tls.unwrap();
    assert_eq!((tls.identity.key, tls.authorities), (Some("/c.key".into()), Some("/ca.crt".into())));
    assert_eq!(tls.verify_client, pgherd_tls::VerifyClient::Optional);
    assert_eq!(settings.ctl.tls.map(|tls| (tls.authorities, tls.insecure)), Some((Some("/ca.crt".into()), false)));
    let of = |restapi: &str, ctl: &str| load(restapi, ctl).unwrap().settings;
    let ctl = of("cafile: /ca.crt, auth: 'a:b'", "cacert: /other.crt, certfile: /mine.pem, insecure: true").ctl;
    let (tls, login) = (ctl.tls.unwrap(), ctl.login.unwrap());
    assert_eq!((tls.authorities, tls.insecure), (Some("/other.crt".into()), true));
    assert_eq!(
        (tls.identity.map(|identity| identity.certificate), login.username),
        (Some("/mine.pem".into()), "a".into())
    );
    assert!(of("request_queue_size: 5, thread_pool_size: 9", "").ctl.tls.is_none());
    assert_eq!(of("request_queue_size: 5", "").restapi.request_queue_size, Some(5));
    for (bad, error) in [
        ("certfile: /c, verify_client: optional", "restapi.verify_client: needs a cafile"),
        ("verify_client: required", "restapi.verify_client: needs a certfile"),
        ("certfile: /c, verify_client: sometimes", "restapi.verify_client: must be none, optional or required"),
        ("certfile: [/c]", "restapi.certfile: must be text"),
        ("request_queue_size: 4097", "restapi.request_queue_size: must be between 0 and 4096"),
        ("https_extra_headers: {Content-Length: 7}", "restapi.https_extra_headers: Content-Length"),
    ] {
        assert!(load(bad, "").unwrap_err().to_string().contains(error), "{bad}");
    }
}
