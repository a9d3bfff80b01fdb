//! Settings that cannot work: one line that says which file and key, exit code 1, and nothing touched.

use crate::support::*;
use pgherd_testkit::cluster::Program;
use pgherd_testkit::node::command;
use pgherd_testkit::postgres::{TestDir, run_as};
use std::path::Path;
use std::process::{Command, Output};

/// Complete settings, except that nothing answers at the etcd they name.
fn usable(directory: &Path) -> String {
    let [rest, pg, etcd] = [(); 3].map(|()| pgherd_testkit::ports::lasting_port());
    let directory = directory.display();
    format!(
        "scope: test
name: pg1
restapi:
  listen: 127.0.0.1:{rest}
etcd3:
  hosts: 127.0.0.1:{etcd}
bootstrap:
  dcs:
    ttl: 30
postgresql:
  listen: 127.0.0.1:{pg}
  data_dir: {directory}/data
  pgpass: {directory}/pgpass
  authentication:
    superuser: {{username: postgres, password: x}}
    replication: {{username: replicator, password: x}}
"
    )
}

fn without(text: &str, key: &str) -> String {
    text.lines().filter(|line| !line.trim_start().starts_with(key)).collect::<Vec<_>>().join("\n")
}

fn run(directory: &Path, config: &Path) -> Output {
    let program = Program::reachable(Path::new(PROGRAM));
    command(&program.path, directory).arg("run").arg(config).output().expect("run pgherd")
}

/// The agent must refuse with one line that has all of these in it, and leave the directory as it is.
fn assert_refused(directory: &Path, output: &Output, names: &[&str]) {
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{errors}");
    assert!(errors.ends_with('\n') && errors.lines().count() == 1, "one line: {errors:?}");
    for name in names {
        assert!(errors.contains(name), "{name:?} is not in {errors:?}");
    }
    assert!(output.stdout.is_empty());
    let left: Vec<_> = std::fs::read_dir(directory).expect("the directory").flatten().map(|e| e.file_name()).collect();
    assert!(left.iter().all(|name| name == "node.yml" || name == "empty"), "something was made: {left:?}");
}

#[test]
fn unusable_settings_are_refused_and_nothing_is_made() {
    let dir = TestDir::new();
    let (directory, file) = (dir.path(), dir.path().join("node.yml"));
    assert_refused(directory, &run(directory, &file), &[&file.display().to_string(), "no such file"]);
    let empty = directory.join("empty");
    std::fs::create_dir(&empty).expect("a directory");
    assert_refused(directory, &run(directory, &empty), &[&empty.display().to_string(), "yml"]);

    let good = usable(directory);
    let cases = [
        (String::new(), "empty"),
        ("scope: [a\n  b: }".to_owned(), "not valid YAML"),
        ("- a\n- b\n".to_owned(), "not a map"),
        ("scope: test\u{0}".to_owned(), "NUL"),
        (without(&good, "scope:"), "scope"),
        (without(&good, "name: pg1"), "name"),
        (without(&good, "data_dir:"), "postgresql.data_dir"),
        (
            without(&good, "listen: 127.0.0.1").replace("restapi:\n", "restapi:\n  listen: 127.0.0.1:1\n"),
            "postgresql.listen",
        ),
        (without(&without(&good, "hosts:"), "etcd3:"), "etcd3"),
        (good.replace("name: pg1", "name: a/b"), "name"),
        (good.replace("listen: 127.0.0.1", "listen: 127.0.0.1:x:"), "listen"),
        (good.replace("scope: test", "scope: {a: 1}"), "scope"),
    ];
    for (text, names) in cases {
        std::fs::write(&file, &text).expect("write settings");
        let output = run(directory, &file);
        assert_refused(directory, &output, &[&file.display().to_string(), names]);
    }
    std::fs::write(&file, b"scope: \xff\xfe").expect("write settings");
    assert_refused(directory, &run(directory, &file), &[&file.display().to_string(), "UTF-8"]);
}

#[test]
fn root_is_refused() {
    if run_as().is_none() {
        // Only root can try it.
        return;
    }
    let dir = TestDir::new();
    let file = dir.path().join("node.yml");
    std::fs::write(&file, usable(dir.path())).expect("write settings");
    let output = Command::new(PROGRAM).env_clear().arg("run").arg(&file).output().expect("run pgherd");
    assert_refused(dir.path(), &output, &["root"]);
}

#[test]
fn an_unknown_key_is_a_warning_that_names_it() {
    let mut cluster = Cluster::prepare(1, options());
    let node = &mut cluster.nodes[0];
    let text = std::fs::read_to_string(node.config()).expect("settings");
    let line = text.lines().count() + 2;
    std::fs::write(node.config(), format!("{text}\nno_such_key: 1\n")).expect("write settings");
    node.start();
    let (_, warning) = node.await_log(0, "no_such_key");
    assert!(warning.contains(" WARNING: ") && warning.contains(&node.config().display().to_string()), "{warning}");
    assert!(warning.contains(&format!(":{line}")), "the line is {line}: {warning}");
    node.await_log(0, "REST API listens");
    assert_eq!(node.terminate().code(), Some(0));
}
