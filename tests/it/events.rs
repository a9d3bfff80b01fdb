//! What happens is told in order, to everybody who asks, and is not forgotten.

use crate::support::*;
use pgherd_testkit::http::request_with;
use pgherd_testkit::node::Node;
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

fn events(node: &Node, query: &str) -> Vec<Value> {
    let answer = node.get(&format!("/events?{query}")).expect("an answer");
    assert_eq!(answer.status, 200, "{:?}", answer.json());
    answer.json()["events"].as_array().expect("events").clone()
}

fn seq(event: &Value) -> u64 {
    let id = event["id"].as_str().expect("an id");
    id.split_once('.').expect("term and number").1.parse().expect("a number")
}

/// Reads server-sent events, from that one on.
struct Stream(BufReader<TcpStream>);

impl Stream {
    fn open(node: &Node, query: &str, last_id: &str) -> Self {
        let mut stream = TcpStream::connect(("127.0.0.1", node.rest_port)).expect("connect");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        let accept = "Accept: text/event-stream";
        let head = format!("GET /events?{query} HTTP/1.1\r\nHost: x\r\n{accept}\r\nLast-Event-ID: {last_id}\r\n\r\n");
        stream.write_all(head.as_bytes()).expect("ask");
        let mut stream = Self(BufReader::new(stream));
        assert!(stream.line().contains("200"));
        stream
    }
    fn line(&mut self) -> String {
        let mut line = String::new();
        self.0.read_line(&mut line).expect("a line");
        line
    }
    /// The next document.
    fn next(&mut self) -> Value {
        loop {
            if let Some(data) = self.line().strip_prefix("data: ") {
                return serde_json::from_str(data).expect("JSON");
            }
        }
    }
    fn until(&mut self, kind: &str) -> Vec<Value> {
        let mut seen = Vec::new();
        while seen.last().is_none_or(|event: &Value| event["type"] != kind) {
            seen.push(self.next());
        }
        seen
    }
}

/// `pgherd events --follow`, and the lines it prints; it ends with this value.
struct Command(Child, Receiver<String>);

impl Command {
    /// Of this node, from its last event on.
    fn follow(node: &Node) -> Self {
        let mut command = node.command();
        command
            .args(["events", "test", &node.name, "--follow", "-n", "1", "--format", "json", "-c"])
            .arg(node.config());
        let mut child = command.stdout(Stdio::piped()).spawn().expect("run pgherd");
        let lines = BufReader::new(child.stdout.take().expect("its output")).lines();
        let (tell, told) = channel();
        std::thread::spawn(move || lines.map_while(Result::ok).try_for_each(|line| tell.send(line)));
        let command = Self(child, told);
        assert!(command.next()["specversion"] == "1.0");
        command
    }
    fn next(&self) -> Value {
        let line = self.1.recv_timeout(PATIENCE).expect("pgherd events --follow goes on");
        serde_json::from_str(&line).expect("JSON")
    }
}

impl Drop for Command {
    fn drop(&mut self) {
        let _ = self.0.kill().and_then(|()| self.0.wait());
    }
}

#[test]
fn a_failover_is_one_chain_and_readers_go_on_where_they_were() {
    let mut cluster = cluster(2);
    rewind_what_diverges(&cluster);
    let primary = cluster.await_complete();
    let other = 1 - primary;
    let (old, new) = (cluster.nodes[primary].name.clone(), cluster.nodes[other].name.clone());
    let node = &cluster.nodes[other];
    let asked = await_event(&cluster.nodes[0], "request", |data| data["operation"] == "change configuration");
    assert_eq!((&asked["data"]["from"], &asked["data"]["status"]), (&json!("127.0.0.1"), &json!(200)));
    await_event(node, "config.changed", |data| data["keys"] == json!(["postgresql.use_pg_rewind"]));

    let last = node.get("/events?limit=1").expect("an answer").json()["last"].as_str().expect("an id").to_owned();
    let mut follower = Stream::open(node, "", &last);
    let command = Command::follow(node);
    cluster.nodes[primary].kill_node();
    let chain = follower.until("pgherd.role.changed");
    let of = |kind: &str| chain.iter().position(|event| event["type"] == kind).unwrap_or_else(|| panic!("{chain:?}"));
    assert!(of("pgherd.leader.lost") < of("pgherd.leader.elected"));
    let elected = &chain[of("pgherd.leader.elected")]["data"];
    assert_eq!((&elected["leader"], &elected["former"]), (&json!(new), &json!(old)));
    let role = &chain[of("pgherd.role.changed")];
    assert_eq!((&role["data"]["from"], &role["data"]["to"]), (&json!("replica"), &json!("primary")), "{role}");
    assert!(role["data"]["phases"]["key_to_primary_ms"].is_u64(), "{role}");
    assert!(chain.iter().any(|event| event["type"] == "pgherd.race.step"), "{chain:?}");
    assert!(chain.iter().map(seq).is_sorted(), "{chain:?}");
    assert_eq!(role["source"], format!("/pgherd/test/{new}"));

    while command.next()["id"] != role["id"] {}
    drop(command);

    let node = &cluster.nodes[other];
    let again = Stream::open(node, "type=leader,role", &last).until("pgherd.role.changed");
    let wanted = |event: &&Value| {
        ["pgherd.leader", "pgherd.role"].iter().any(|kind| event["type"].as_str().is_some_and(|t| t.starts_with(kind)))
    };
    assert_eq!(again, chain.iter().filter(wanted).cloned().collect::<Vec<_>>(), "who comes back misses nothing");
    let printed = cluster.run(other, &["events", "test", &new, "--type", "leader.elected", "-n", "1"]);
    assert!(printed.contains(&format!("leader.elected leader={new} former={old}")), "{printed}");

    // the term is the timeline, and the numbers go on after a restart of the agent
    let promoted = await_event(node, "role.changed", |data| data["to"] == "primary");
    let (before, newest) = (events(node, "limit=1000"), events(node, "limit=1"));
    assert!(newest[0]["id"].as_str().is_some_and(|id| id.starts_with("2.")), "{newest:?}");
    cluster.nodes[other].kill_agent();
    cluster.nodes[other].start();
    let node = &cluster.nodes[other];
    eventually(PATIENCE, "the agent is back and remembers", || {
        let answer = node.get("/events?limit=1000&type=agent.started")?.json();
        (answer["events"].as_array()?.len() == 2).then_some(())
    });
    let after = events(node, "limit=1000");
    assert_eq!(after[..before.len()], before[..], "nothing was forgotten or changed");
    assert!(after.windows(2).all(|pair| seq(&pair[0]) + 1 == seq(&pair[1])), "and no number left out");
    assert!(after.iter().any(|event| event["id"] == promoted["id"]));
}

#[test]
fn web_sockets_slow_readers_and_nonsense() {
    let hooks = std::net::TcpListener::bind("127.0.0.1:0").expect("listen");
    let port = hooks.local_addr().expect("an address").port();
    let mut cluster = Cluster::prepare(1, options());
    let hook = format!("{{url: 'http://127.0.0.1:{port}/hook', types: [role], secret: hunter2}}");
    cluster.nodes[0].add_section(&format!("events:\n  webhooks: [{hook}]"));
    cluster.nodes[0].start();
    let (mut posted, _) = hooks.accept().expect("somebody tells of the first primary");
    posted.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    let mut text = String::new();
    while !text.ends_with("}}") {
        let mut bytes = [0; 4096];
        let count = posted.read(&mut bytes).expect("a request");
        text.push_str(&String::from_utf8_lossy(&bytes[..count]));
    }
    posted.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").expect("take it");
    assert!(text.to_lowercase().contains("x-pgherd-signature: sha256="), "{text}");
    assert!(text.contains("pgherd.role.changed"), "{text}");
    cluster.await_primary();
    let node = &cluster.nodes[0];
    assert!(!node.log().iter().any(|line| line.contains("hunter2")));
    let patience = Duration::from_secs(30);
    for bad in ["limit=0", "limit=x", "since=yesterday", "type=A%20B"] {
        assert_eq!(node.check(&format!("/events?{bad}")), Some(400), "{bad}");
    }
    let head = request_with(node.rest_port, "HEAD", "/events", "", "", patience).expect("an answer");
    assert_eq!((head.status, head.body.len()), (200, 0));
    // readers that read nothing, while the node goes on deciding and telling
    let silent: Vec<_> = (0..200).map(|_| Stream::open(node, "", "0.0")).collect();
    let mut socket = TcpStream::connect(("127.0.0.1", node.rest_port)).expect("connect");
    socket.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    let upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13";
    let key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==";
    let head = format!("GET /events?type=request HTTP/1.1\r\nHost: x\r\n{upgrade}\r\n{key}\r\n\r\n");
    socket.write_all(head.as_bytes()).expect("ask");
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        socket.read_exact(&mut byte).expect("a head");
        head.push(byte[0]);
    }
    assert!(String::from_utf8_lossy(&head).starts_with("HTTP/1.1 101"), "{}", String::from_utf8_lossy(&head));
    assert_eq!(send(node, "POST", "/sigterm", &Value::Null).0, 202);
    let mut frame = [0; 4];
    socket.read_exact(&mut frame).expect("a frame");
    assert_eq!((frame[0], frame[1]), (0x81, 126), "a whole text message of middle length, not masked");
    let mut text = vec![0; usize::from(u16::from_be_bytes([frame[2], frame[3]]))];
    socket.read_exact(&mut text).expect("a message");
    let event: Value = serde_json::from_slice(&text).expect("JSON");
    assert_eq!((&event["type"], &event["data"]["operation"]), (&json!("pgherd.request"), &json!("sigterm")));
    assert_eq!(node.check("/primary"), Some(200));
    let began = Instant::now();
    assert_eq!(cluster.nodes[0].terminate().code(), Some(0), "nobody who listens keeps it from leaving");
    assert!(began.elapsed() < PATIENCE);
    drop(silent);
}
