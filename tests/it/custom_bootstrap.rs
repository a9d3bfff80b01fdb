//! A cluster made from a backup of another one, by a program of the user's; the others clone it.

use crate::replica_methods::{configure, program};
use crate::support::*;
use pgherd_testkit::postgres::PASSWORD;
use std::path::Path;

#[test]
fn custom_bootstrap() {
    let old = cluster(1);
    old.nodes[0].sql("CREATE TABLE t AS SELECT 42 AS answer");
    let old_system = old.keys().get("initialize").expect("an initialize key").text();
    let mut cluster = Cluster::prepare(2, options());
    let source = old.nodes[0].pg_port;
    let bin = pgherd_testkit::postgres::options("x", Path::new("/")).program("pg_basebackup");
    for node in &cluster.nodes {
        let directory = node.config().parent().expect("a directory").to_owned();
        let restores = format!(
            "for a in \"$@\"; do case \"$a\" in --datadir=*) d=${{a#*=}};; esac; done\n\
             PGPASSWORD={} exec {} -D \"$d\" -X stream --checkpoint=fast -h 127.0.0.1 -p {source} -U replicator",
            shlex::try_quote(PASSWORD).expect("a password without NUL"),
            bin.display()
        );
        program(&directory.join("restores"), &restores);
        let script = "case \"$1\" in dbname=postgres*) ;; *) exit 1;; esac; test -r \"$PGPASSFILE\"";
        program(&directory.join("post"), script);
        let directory = directory.display();
        let lines = format!(
            "  method: backup\n  backup:\n    command: {directory}/restores\n    recovery_conf: {{recovery_target_timeline: latest, \
             restore_command: 'false'}}\n  post_bootstrap: {directory}/post"
        );
        configure(node, "bootstrap", &lines);
    }
    cluster.nodes[0].start();
    let primary = cluster.await_primary();
    cluster.nodes[1].start();
    cluster.await_complete();
    let node = &cluster.nodes[primary];
    assert_eq!(node.sql("SELECT answer FROM t"), ["42"]);
    assert_eq!(cluster.nodes[1].sql("SELECT answer FROM t"), ["42"]);
    assert_eq!(cluster.keys().get("initialize").expect("an initialize key").text(), old_system);
    assert_eq!(timeline(node), 2);
    eventually(PATIENCE, "no later promotion can use the number", || {
        (cluster.keys().get("timeline")?.text() == "2").then_some(())
    });
    let log = node.log();
    let line =
        |text: &str| log.iter().position(|line| line.contains(text)).unwrap_or_else(|| panic!("no line {text:?}"));
    assert!(line("running custom bootstrap script backup") < line("running post_bootstrap"));
    let done = line("running post_bootstrap")
        + log[line("running post_bootstrap")..].iter().position(|l| l.contains("ended: Done")).expect("the end");
    assert!(done < line("begins: starting primary"), "clients come after everything is done");
    assert_eq!(node.leftovers().iter().filter(|name| name.starts_with("data")).count(), 0, "{:?}", node.leftovers());
}
