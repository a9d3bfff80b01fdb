"""Steps in which members join, restart, are copied, paused, configured and swapped."""

import base64
import json
import os
import pathlib
import urllib.request

from cluster import SCOPE, eventually
from steps import Failed, check
from moves import hand_over, in_an_hour, led_by, started_at


def the_cluster_of_patroni_forms(c):
    c.nodes[0].start()
    eventually("a first leader", lambda: c.leader() is c.nodes[0] and c.nodes[0].check("/primary"))
    c.nodes[1].start()
    eventually("its replica", lambda: c.nodes[1].check("/replica?replication_state=streaming"))


def pgherd_joins_as_a_clone(c):
    c.nodes[2].start()
    c.settled(c.nodes[0])
    fields = {"conn_url", "api_url", "state", "role", "version", "xlog_location", "timeline", "replication_state"}
    eventually("Patroni's fields in pgherd's member key", lambda: fields <= set(c.member(c.nodes[2])))
    check("the slot of the member", c.nodes[0].sql(f"SELECT active FROM pg_replication_slots WHERE slot_name = '{c.nodes[2].name}'"))
    _, text = c.run("patronictl", "version", SCOPE)
    check("`patronictl version` has all three", text.count("PostgreSQL") == 3, text)
    _, tree = c.run("patronictl", "topology")
    check("`patronictl topology` has all three", all(n.name in tree for n in c.nodes), tree)


def alike(c, command):
    """Waits until both command lines print the same, an empty last line aside."""
    printed = {}

    def same():
        for tool in c.tools:
            code, text = c.run(tool, *command)
            printed[tool] = (code, text.rstrip("\n"))
        return printed["patronictl"] == printed["pgherd"]
    try:
        eventually(f"the same from both command lines for {command}", same, 30)
    except Failed as failed:
        raise Failed(f"{failed}\n{printed['patronictl'][1]}\n{printed['pgherd'][1]}") from None


def both_command_lines_look_alike(c):
    for leader in (c.nodes[0], c.nodes[2]):
        led_by(c, leader)
        for command in (["list", "-f", "json"], ["list", "-f", "tsv"], ["list", "-e"], ["topology"], ["show-config"],
                        ["history", "-f", "json"], ["dsn"], ["dsn", "-m", c.nodes[2].name]):
            alike(c, command)


def restarts(c):
    a, b, ours = c.nodes
    for leader in (a, ours):
        led_by(c, leader)
        timeline = leader.status()["timeline"]
        for tool, node in (("patronictl", ours), ("pgherd", ours), ("pgherd", a), ("pgherd", b)):
            before = started_at(node)
            c.ran(tool, "restart", SCOPE, node.name, "--force", says=f"Success: restart on member {node.name}")
            eventually(f"a later start of {node.name}", lambda: started_at(node) > before)
            c.settled(leader)
        check("no promotion by a restart", leader.status()["timeline"] == timeline)


def restarts_are_scheduled_and_taken_back(c):
    for node in c.nodes[1:]:
        for tool, other in (("patronictl", "pgherd"), ("pgherd", "patronictl")):
            c.ran(tool, "restart", SCOPE, node.name, "--scheduled", in_an_hour(), "--force", says=f"Success: restart scheduled on member {node.name}")
            eventually("scheduled restart in the member key", lambda: "schedule" in c.member(node).get("scheduled_restart", {}))
            c.ran(other, "flush", SCOPE, node.name, "restart", "--force", says=f"Success: flush scheduled restart for member {node.name}")
            eventually("no scheduled restart in the member key", lambda: "scheduled_restart" not in c.member(node))


def replicas_are_copied_anew(c, client):
    a, b, ours = c.nodes
    for leader, replica, tool, *more in ((a, ours, "patronictl"), (b, ours, "patronictl", "--from-leader"), (a, ours, "pgherd"),
                                         (ours, b, "pgherd"), (ours, a, "patronictl")):
        led_by(c, leader)
        marker = f"{replica.home}/data/compat.marker"
        pathlib.Path(marker).touch()
        text = c.ran(tool, "reinit", SCOPE, replica.name, "--force", "--wait", *more, says=f"Success: reinitialize for member {replica.name}")
        check("the wait saw the end", f"Reinitialize is completed on: {replica.name}" in text, text)
        eventually("a new data directory", lambda: not os.path.exists(marker))
        c.settled(leader)
    client.kept()


def pause_and_resume(c):
    a, _, ours = c.nodes
    for leader in (a, ours):
        led_by(c, leader)
        for tool, other in (("patronictl", "pgherd"), ("pgherd", "patronictl")):
            c.ran(tool, "pause", "--wait", says="Success: cluster management is paused")
            check("every member has seen the pause", all(c.member(n).get("pause") is True for n in c.nodes), [c.member(n) for n in c.nodes])
            c.ran(other, "list", says="Maintenance mode: on")
            check("every member says so", all(n.status().get("pause") is True for n in c.nodes))
            c.ran(other, "resume", "--wait", says="Success: cluster management is resumed")
            check("every member has seen the end of the pause", not any(c.member(n).get("pause") for n in c.nodes))
        c.settled(leader)


def configuration_is_in_force_everywhere(c):
    a, _, ours = c.nodes
    for leader, tool, value in ((a, "patronictl", "7MB"), (ours, "patronictl", "9MB"), (ours, "pgherd", "11MB"), (a, "pgherd", "13MB")):
        led_by(c, leader)
        c.ran(tool, "edit-config", "--force", "-p", f"work_mem={value}", says="Configuration changed")
        for node in c.nodes:
            eventually(f"work_mem {value} on {node.name}", lambda: node.sql("SHOW work_mem") == value)
    # one that needs a restart: replicas first, because they may not have fewer than the primary
    c.ran("patronictl", "edit-config", "--force", "-p", "max_connections=120", says="Configuration changed")
    eventually("pending restart everywhere", lambda: all(c.member(n).get("pending_restart") for n in c.nodes))
    reason = {n.name: c.member(n).get("pending_restart_reason") for n in c.nodes}
    check("all name the same reason", all(r == {"max_connections": {"old_value": "100", "new_value": "120"}} for r in reason.values()), reason)
    c.ran("patronictl", "restart", SCOPE, "--role", "replica", "--pending", "--force", says="Success: restart on member")
    c.settled()
    c.ran("pgherd", "restart", SCOPE, "--role", "leader", "--pending", "--force", says="Success: restart on member")
    c.settled()
    for node in c.nodes:
        eventually(f"max_connections on {node.name}", lambda: node.sql("SHOW max_connections") == "120" and not c.member(node).get("pending_restart"))


def swapped(c, node, product, leader):
    """Another product takes a node over, with the same settings and the same data."""
    marker = pathlib.Path(f"{node.home}/data/compat.marker")
    marker.touch()
    node.terminate()
    node.product = product
    node.start()
    c.settled(leader)
    check("the data are the same", marker.exists())
    marker.unlink()


def swapped_under_a_running_server(c, node, product):
    """The same in maintenance mode, where PostgreSQL runs on meanwhile; the node may lead."""
    leader = c.leader()
    c.ran("patronictl", "pause", "--wait", says="Success: cluster management is paused")
    before, timeline = started_at(node), leader.status()["timeline"]
    node.terminate()
    check("PostgreSQL runs on", started_at(node) == before)
    node.product = product
    node.start()
    eventually(f"{node.name} is looked after again", lambda: node.status()["state"] == "running" and c.member(node).get("pause") is True)
    eventually("the leader's health check", lambda: c.leader() is leader and leader.check("/primary"))
    c.ran("patronictl", "resume", "--wait", says="Success: cluster management is resumed")
    c.settled(leader)
    check("no restart and no promotion", (started_at(node), leader.status()["timeline"]) == (before, timeline))


def nodes_are_swapped_in_place_and_back(c, client):
    a, b, ours = c.nodes
    led_by(c, a)
    swapped(c, b, "pgherd", a)
    hand_over(c, client, "patronictl", "switchover", b)
    swapped(c, a, "pgherd", b)
    hand_over(c, client, "patronictl", "switchover", a)
    swapped_under_a_running_server(c, a, "Patroni")
    swapped(c, b, "Patroni", a)
    hand_over(c, client, "pgherd", "switchover", ours)
    hand_over(c, client, "pgherd", "switchover", a)
    swapped_under_a_running_server(c, a, "pgherd")
    swapped_under_a_running_server(c, b, "pgherd")
    swapped_under_a_running_server(c, b, "Patroni")
    hand_over(c, client, "patronictl", "switchover", ours)
    swapped(c, a, "Patroni", ours)


def lease_ttl(c, key):
    """The TTL that etcd granted to the lease of a key."""
    def post(path, body):
        with urllib.request.urlopen(f"{c.etcd.url}/v3/{path}", json.dumps(body).encode(), timeout=2) as answer:
            return json.load(answer)
    kvs = post("kv/range", {"key": base64.b64encode(f"/service/{SCOPE}/{key}".encode()).decode()})["kvs"]
    return int(post("lease/timetolive", {"ID": kvs[0]["lease"]})["grantedTTL"])


def patronis_minima_apply(c):
    """A lease gets a new ttl at once where it does not carry the leader key, and for that key when another one leads."""
    a, _, ours = c.nodes
    led_by(c, a)
    for ttl, granted in ((25, 25), (5, 20)):
        c.ran("pgherd", "edit-config", "--force", "-s", f"ttl={ttl}", says="Configuration changed")
        eventually(f"a lease of {granted} s", lambda: lease_ttl(c, f"members/{ours.name}") == granted)
    led_by(c, ours)
    check("the leader's lease", lease_ttl(c, "leader") == 20)
    c.ran("patronictl", "edit-config", "--force", "-s", "ttl=20", says="Configuration changed")
    c.settled(ours)
