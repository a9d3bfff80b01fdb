//! A new node whose data a program of the user's makes, with a method before it that fails.

use crate::support::*;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// Adds lines to a section of a node's settings.
pub fn configure(node: &pgherd_testkit::node::Node, section: &str, lines: &str) {
    let text = fs::read_to_string(node.config()).expect("a node's settings");
    let changed = text.replacen(&format!("\n{section}:\n"), &format!("\n{section}:\n{lines}\n"), 1);
    assert_ne!(changed, text);
    fs::write(node.config(), changed).expect("write a node's settings");
}

/// A program that everybody may run.
pub fn program(path: &Path, body: &str) {
    fs::write(path, format!("#!/bin/sh\n{body}\n")).expect("write a program");
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("permissions");
}

#[test]
fn replica_methods() {
    let mut cluster = cluster(1);
    cluster.nodes[0].sql("CREATE TABLE t AS SELECT 42 AS answer");
    let new = cluster.add_node();
    let node = &cluster.nodes[new];
    let bin = pgherd_testkit::postgres::options("x", Path::new("/")).program("pg_basebackup");
    let directory = node.config().parent().expect("a directory").to_owned();
    let copies = format!(
        "for a in \"$@\"; do case \"$a\" in --datadir=*) d=${{a#*=}};; --connstring=*) c=${{a#*=}};; esac; done\n\
         {} -D \"$d\" -X stream --checkpoint=fast --no-password -d \"$c\" && touch \"$d/by_program\"",
        bin.display()
    );
    program(&directory.join("copies"), &copies);
    program(&directory.join("fails"), "echo no tape in drive; exit 1");
    let directory = directory.display();
    let lines = format!(
        "  create_replica_methods: [tape, copy, basebackup]\n  tape: {{command: {directory}/fails, keep_data: true}}\n  \
         copy: {{command: {directory}/copies}}"
    );
    configure(node, "postgresql", &lines);
    cluster.nodes[new].start();
    cluster.await_complete();
    let node = &cluster.nodes[new];
    assert_eq!(node.sql("SELECT answer FROM t"), ["42"]);
    assert!(node.data_dir().join("by_program").exists());
    let failed = node.logged_since(0, "no replica could be created using tape").expect("the first method").0;
    let made = node.logged_since(0, "replica has been created using copy").expect("the second").0;
    assert!(failed < made && node.log()[failed].contains("no tape in drive"));
    assert_eq!(node.log().iter().filter(|line| line.ends_with("begins: bootstrap from")).count(), 1);
}
