//! The consumer of a logical slot reads on, whoever leads.

use super::*;
use pgherd_testkit::slot_consumer::Consumer;
use pgherd_testkit::writer::Writer;
use std::collections::BTreeSet;

/// `make test-long` asks for more of both.
fn times_asked(variable: &str, usual: usize) -> usize {
    std::env::var(variable).map_or(usual, |text| text.parse().expect(variable))
}

/// A cluster whose slot `cdc` is read while its leader changes.
struct Story {
    cluster: Cluster,
    writer: Writer,
    consumer: Consumer,
}

impl Story {
    fn begin(cluster: Cluster) -> Self {
        let writer = cluster.write();
        let consumer = Consumer::start(cluster.nodes.iter().map(|node| node.pg_port).collect(), "cdc");
        consumer.await_rows(20);
        Self { cluster, writer, consumer }
    }

    fn goes_on(&self) {
        self.cluster.await_acks(&self.writer, 30);
        self.consumer.await_rows(30);
    }

    fn await_safe_but_on(&self, leader: usize) {
        self.cluster.others(leader).into_iter().for_each(|node| await_safe(&self.cluster.nodes[node]));
    }

    /// Each node leads in its turn.
    fn switch_over(&mut self) {
        let from = self.cluster.await_primary();
        let (to, third) = ((from + 1) % 3, (from + 2) % 3);
        let run = run_of(&self.cluster.nodes[third]);
        switch_to(&mut self.cluster, from, to);
        self.goes_on();
        self.await_safe_but_on(to);
        assert_eq!(run_of(&self.cluster.nodes[third]), run, "a change of leader restarts no other replica");
    }

    fn lose_the_leader(&mut self) {
        let lost = self.cluster.await_primary();
        self.cluster.nodes[lost].kill_node();
        let next = self.cluster.await_primary();
        assert_ne!(next, lost);
        self.goes_on();
        self.await_kept(lost, next);
        let mark = self.cluster.nodes[lost].log_mark();
        self.cluster.nodes[lost].start();
        assert_eq!(self.cluster.await_complete(), next);
        await_slot(&self.cluster, "cdc", true);
        self.await_safe_but_on(next);
        self.await_known(lost, next);
        assert_eq!(times(&self.cluster.nodes[lost], mark, "begins: starting as a secondary"), 1, "and it starts once");
    }

    /// A member that is gone, key and all, keeps its slot for a while.
    fn await_kept(&self, gone: usize, leader: usize) {
        let slot = self.cluster.nodes[gone].name.as_str();
        let what = format!("{slot} is gone, its slot stays, and the others are told so");
        eventually(PATIENCE, &what, || {
            let keys = self.cluster.keys();
            let gone = keys.get(&format!("members/{slot}")).is_none();
            let told = || Some(keys.get("status")?.json()["retain_slots"].as_array()?.contains(&json!(slot)));
            (gone && told()? && has_slot(&self.cluster.nodes[leader], slot)?).then_some(())
        });
    }

    /// Its key had lapsed: before the leader has the new one, it is no candidate.
    fn await_known(&self, member: usize, leader: usize) {
        let name = json!(self.cluster.nodes[member].name);
        eventually(PATIENCE, "the leader knows the member again", || {
            let known = self.cluster.nodes[leader].get("/cluster")?.json();
            known["members"].as_array()?.iter().any(|member| member["name"] == name).then_some(())
        });
    }

    /// Every row that is in the table was seen, in its order.
    fn end(self) -> Cluster {
        let Self { cluster, writer, consumer } = self;
        writer.stop();
        let rows = cluster.nodes[cluster.await_primary()].rows().expect("rows");
        consumer.await_row(*rows.last().expect("rows"));
        let seen: BTreeSet<i64> = consumer.stop().into_iter().collect();
        let missed: Vec<_> = rows.iter().filter(|id| !seen.contains(id)).collect();
        assert_eq!(missed, Vec::<&i64>::new(), "every row was seen");
        cluster
    }
}

#[test]
fn a_logical_consumer_misses_nothing_through_switchovers_and_deaths_and_replicas_are_restarted_once() {
    let (switchovers, deaths) = (times_asked("PGHERD_TEST_SWITCHOVERS", 2), times_asked("PGHERD_TEST_DEATHS", 1));
    let cluster = started(prepared(3));
    rewind_what_diverges(&cluster);
    let leader = cluster.await_primary();
    let marks: Vec<usize> = cluster.nodes.iter().map(Node::log_mark).collect();
    // two at once, and a parameter, which is not lost among what follows from the slots
    let slots = json!({"cdc": logical(), "more": logical(), "backup": {"type": "physical"}});
    configure(&cluster, json!({"slots": slots, "postgresql": {"parameters": {"work_mem": "5MB"}}}));
    for slot in ["cdc", "more", "backup"] {
        await_slot(&cluster, slot, true);
    }
    let restarts = usize::from(!copies_by_itself(&cluster));
    for node in cluster.others(leader) {
        await_safe(&cluster.nodes[node]);
        let (node, mark) = (&cluster.nodes[node], marks[node]);
        // (a copy that cannot be used yet, because WAL is still on its way, restarts nothing)
        assert_eq!(times(node, mark, "begins: copying logical slots") > 0, restarts > 0, "{}", node.name);
        let starts = times(node, mark, "begins: starting as a secondary");
        assert_eq!(starts, restarts, "{} is restarted once for both slots", node.name);
        assert_eq!(node.sql("SHOW hot_standby_feedback"), ["on"]);
        assert_eq!(node.sql("SHOW work_mem"), ["5MB"]);
    }

    let mut story = Story::begin(cluster);
    let rounds = deaths.max(1);
    for round in 0..rounds {
        for _ in switchovers * round / rounds..switchovers * (round + 1) / rounds {
            story.switch_over();
        }
        if round < deaths {
            story.lose_the_leader();
        }
    }
    let cluster = story.end();
    // (the other slot has no consumer: a server may keep no copy of it where it would be too old)
    for node in &cluster.nodes {
        assert_eq!(times(node, 0, "might be unsafe to use after promote: {'cdc'"), 0, "{}", node.name);
    }

    configure(&cluster, json!({"slots": {"more": null, "cdc": null}}));
    for slot in ["cdc", "more"] {
        await_slot(&cluster, slot, false);
    }
    await_slot(&cluster, "backup", true);
}
