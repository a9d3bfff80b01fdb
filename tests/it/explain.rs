//! What a node says would happen, and what happens.

use crate::support::*;
use serde_json::Value;

fn member<'a>(document: &'a Value, name: &str) -> &'a Value {
    let members = document["members"].as_array().expect("members");
    members.iter().find(|member| member["name"] == name).unwrap_or(&Value::Null)
}

fn verdict(document: &Value, name: &str) -> (bool, String) {
    let member = member(document, name);
    (member["could_lead"] == true, member["reason"]["id"].as_str().unwrap_or_default().to_owned())
}

#[test]
fn the_explained_successor_leads_and_the_others_are_told_why_not() {
    let mut cluster = Cluster::prepare(3, options());
    cluster.nodes[2].add_section("tags: {nofailover: true}\n");
    (0..2).for_each(|node| cluster.nodes[node].start());
    let primary = eventually(PATIENCE, "one of the two leads", || cluster.primary());
    cluster.nodes[2].start();
    cluster.await_complete();
    let (successor, barred) = (1 - primary, 2);
    let name = |node: usize| cluster.nodes[node].name.clone();
    let ask = |node: usize, path: &str| cluster.nodes[node].get(path).expect("an answer").json();

    for node in 0..3 {
        let document = eventually(PATIENCE, "both verdicts are as expected", || {
            let document = ask(node, "/explain");
            let expected = (true, "Acquiring".to_owned()) == verdict(&document, &name(successor))
                && (false, "NotAllowedToPromote".to_owned()) == verdict(&document, &name(barred));
            expected.then_some(document)
        });
        assert_eq!(member(&document, &name(primary))["leads"], true, "{document}");
        let reason = &document["decision"]["reason"]["id"];
        assert_eq!(reason, if node == primary { "LeaderWithLock" } else { "Following" }, "{document}");
        let facts = document["facts"].as_array().expect("facts");
        let cluster_fact = facts.iter().find(|fact| fact["name"] == "cluster").expect("the cluster");
        assert_eq!(cluster_fact["value"]["leader"], name(primary).as_str());
        assert!(cluster_fact["age_ms"].is_u64(), "{document}");
    }
    let lost = ask(barred, "/explain?if=leader-lost");
    assert_eq!(lost["next_leader"], serde_json::json!([name(successor)]), "{lost}");
    assert_eq!(lost["decision"]["reason"]["id"], "NotAllowedToPromote", "{lost}");
    assert_eq!(ask(primary, "/explain?if=leader-lost")["decision"], Value::Null, "the lost one decides nothing");
    assert_eq!(cluster.nodes[0].check("/explain?if=rain"), Some(400));
    let said = cluster.run(barred, &["explain", "--if", "leader-lost"]);
    assert!(said.contains(&format!("{} would lead", name(successor))), "{said}");
    assert!(said.contains("NotAllowedToPromote"), "{said}");

    let leader_before = leader_key(&cluster);
    assert_eq!(leader_before.text(), name(primary), "asking has changed nothing");
    cluster.nodes[primary].kill_node();
    eventually(PATIENCE, "the explained successor leads", || (cluster.primary()? == successor).then_some(()));
}
