"""The life of a mixed cluster: one pgherd and two Patroni members, both command lines. Each step starts from a settled
cluster, says what it needs, and leaves a settled cluster behind."""

import argparse
import base64
import datetime
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time
import urllib.request

from cluster import SCOPE, Client, Failed, bench, check, eventually, mixed


def led_by(c, node):
    """Lets a member lead, by whichever way is shortest."""
    if c.leader() is not node:
        c.ran("patronictl", "switchover", "--force", "--candidate", node.name, says="Successfully switched over")
    return c.settled(node)


def history_agrees(c):
    """Both command lines print the same history, it names the leader last, and every timeline is once in it, in order."""
    def agrees():
        theirs, ours = (c.run(tool, "history", "-f", "json")[1] for tool in ("patronictl", "pgherd"))
        rows, timeline = json.loads(theirs), c.leader().status()["timeline"]
        numbers = [row["TL"] for row in rows]
        return (rows == json.loads(ours) and numbers == sorted(set(numbers)) and numbers[-1] < timeline
                and rows[-1]["New Leader"] == c.leader().name and all(row["Timestamp"] and row["Reason"] for row in rows))
    eventually("history that both command lines print alike", agrees)


def promoted(c, leader, before):
    """What every promotion leaves: a higher timeline, its row in the history, no request, no pending checkpoint."""
    c.settled(leader)
    timeline = leader.status()["timeline"]
    check("the timeline grew", timeline > before, f"{before} to {timeline}")
    eventually("empty failover key", lambda: c.key("failover") in ({}, None))
    eventually("end of the checkpoint after the promotion", lambda: "checkpoint_after_promote" not in c.member(leader))
    history_agrees(c)


def hand_over(c, client, tool, command, candidate, *more):
    """A switchover or failover to a member, under load: no acknowledged row is lost."""
    before = c.leader().status()["timeline"]
    done = {"switchover": "Successfully switched over", "failover": "Successfully failed over"}[command]
    with client:
        c.ran(tool, command, "--force", "--candidate", candidate.name, *more, says=f'{done} to "{candidate.name}"')
        client.goes_on()
    promoted(c, candidate, before)
    client.kept()


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


def patronictl_switches_over_to_pgherd_and_pgherd_back(c, client):
    a, b, ours = c.nodes
    led_by(c, a)
    hand_over(c, client, "patronictl", "switchover", ours)
    hand_over(c, client, "pgherd", "switchover", b)
    hand_over(c, client, "pgherd", "switchover", ours)
    hand_over(c, client, "patronictl", "switchover", a)


def failover_with_a_candidate_both_ways(c, client):
    a, b, ours = c.nodes
    led_by(c, a)
    hand_over(c, client, "patronictl", "failover", ours)
    hand_over(c, client, "patronictl", "failover", b)
    hand_over(c, client, "pgherd", "failover", ours)
    hand_over(c, client, "pgherd", "failover", a)


def switchover_without_a_candidate(c):
    led_by(c, c.nodes[2])
    before = c.nodes[2].status()["timeline"]
    c.ran("patronictl", "switchover", "--force", says="Successfully switched over")
    check("another one leads", c.leader() is not c.nodes[2])
    promoted(c, c.settled(), before)


def reload(c, node, tool, **tags):
    """Changes a member's tags in its settings; they are in force once the member key has them."""
    node.configure(**tags)
    c.ran(tool, "reload", SCOPE, node.name, "--force", says=f"Reload request received for member {node.name}")
    eventually(f"tags {tags} of {node.name}", lambda: c.member(node).get("tags", {}) == tags)


def leader_dies(c, client, heir=None):
    """Kills the leader's whole node; somebody leads. Its data get a row that nobody else has; it returns all the same."""
    dead = c.leader()
    before = dead.status()["timeline"]
    with client:
        pass
    client.kept()
    dead.kill()
    leads = eventually(f"another leader{f', {heir.name}' if heir else ''}",
                       lambda: (n := c.leader()) and n is not dead and (heir in (None, n)) and n.check("/primary") and n)
    with client:
        pass
    dead.diverge()
    said = os.path.getsize(f"{dead.home}/agent.log")
    dead.start()
    promoted(c, leads, before)
    client.kept()
    with open(f"{dead.home}/agent.log") as log:
        log.seek(said)
        check("the returning one was rewound", "running pg_rewind from" in log.read(), f"{dead.home}/agent.log")


def a_patroni_leader_dies_and_pgherd_leads(c, client):
    a, b, ours = c.nodes
    led_by(c, a)
    reload(c, b, "patronictl", nofailover=True)
    leader_dies(c, client, heir=ours)
    reload(c, b, "pgherd")


def the_pgherd_leader_dies_and_patroni_leads(c, client):
    led_by(c, c.nodes[2])
    leader_dies(c, client)


def a_patroni_leader_dies_and_anybody_leads(c, client):
    led_by(c, c.nodes[1])
    leader_dies(c, client)


def leaders_end_in_good_order(c, client):
    a, b, ours = c.nodes
    led_by(c, ours)
    for node in (ours, c.nodes[0]):
        led_by(c, node)
        if node is not ours:
            reload(c, b, "patronictl", nofailover=True)
        before = node.status()["timeline"]
        with client:
            node.terminate()
            leads = eventually("a successor", lambda: (n := c.leader()) and n is not node and n)
            client.goes_on()
        check("pgherd leads when it alone may", node is ours or leads is ours, leads.name)
        node.start()
        promoted(c, leads, before)
        client.kept()
    reload(c, b, "patronictl")


def started_at(node):
    return node.sql("SELECT pg_postmaster_start_time()")


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


def in_an_hour():
    return (datetime.datetime.now().astimezone() + datetime.timedelta(hours=1)).isoformat(timespec="seconds")


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


def switchovers_are_scheduled_and_taken_back(c):
    a, _, ours = c.nodes
    for leader, candidate in ((ours, a), (a, ours)):
        led_by(c, leader)
        for tool, other in (("patronictl", "pgherd"), ("pgherd", "patronictl")):
            c.ran(tool, "switchover", "--force", "--leader", leader.name, "--candidate", candidate.name, "--scheduled", in_an_hour(),
                  says="Switchover scheduled")
            c.ran(other, "list", says="Switchover scheduled at")
            check("the request", c.key("failover").get("member") == candidate.name, c.key("failover"))
            c.ran(other, "flush", SCOPE, "switchover", "--force", says="scheduled switchover deleted")
            check("no request any more", c.key("failover") == {}, c.key("failover"))
        c.settled(leader)


def a_scheduled_switchover_takes_place(c, client):
    a, _, ours = c.nodes
    for leader, candidate, tool in ((ours, a, "patronictl"), (a, ours, "pgherd")):
        led_by(c, leader)
        before = leader.status()["timeline"]
        soon = (datetime.datetime.now().astimezone() + datetime.timedelta(seconds=8)).isoformat(timespec="seconds")
        with client:
            c.ran(tool, "switchover", "--force", "--leader", leader.name, "--candidate", candidate.name, "--scheduled", soon, says="Switchover scheduled")
            eventually("the candidate leads", lambda: c.leader() is candidate and candidate.check("/primary"))
            client.goes_on()
        promoted(c, candidate, before)
        client.kept()


def failsafe_holds_without_etcd(c):
    """etcd stands still: the leader goes on, because the members of both products agree that it leads."""
    a, _, ours = c.nodes
    c.ran("patronictl", "edit-config", "--force", "-s", "failsafe_mode=true", says="Configuration changed")
    for leader in (a, ours):
        led_by(c, leader)
        timeline = leader.status()["timeline"]
        eventually("all members in the failsafe key", lambda: set(c.key("failsafe") or {}) == {n.name for n in c.nodes})
        os.kill(c.etcd.process.pid, signal.SIGSTOP)
        try:
            eventually("failsafe mode of the leader", lambda: leader.status().get("failsafe_mode_is_active"), 60)
            # long after the lease would have ended
            eventually("an outage of twice the ttl", lambda: leader.check("/primary") and time.time() - leader.status()["dcs_last_seen"] > 40)
            leader.sql("SELECT pg_create_restore_point('in the outage')")
            check("nobody else leads", not any(n.check("/primary") for n in c.nodes if n is not leader))
        finally:
            os.kill(c.etcd.process.pid, signal.SIGCONT)
        c.settled(leader)
        check("no promotion in an outage", leader.status()["timeline"] == timeline)
    c.ran("pgherd", "edit-config", "--force", "-s", "failsafe_mode=null", says="Configuration changed")


def put(c, key, value):
    text = {"key": f"/service/{SCOPE}/{key}", "value": value}
    body = json.dumps({name: base64.b64encode(v.encode()).decode() for name, v in text.items()}).encode()
    with urllib.request.urlopen(f"{c.etcd.url}/v3/kv/put", body, timeout=2):
        pass


def reserved_timelines_and_patroni(c, client):
    """A pgherd that reserved a number and died: Patroni, which does not know the key, takes that very number; pgherd goes past
    it. A number reserved far ahead leaves a gap, which Patroni follows."""
    a, b, ours = c.nodes
    led_by(c, a)
    now = a.status()["timeline"]
    put(c, "timeline", str(now + 1))
    hand_over(c, client, "patronictl", "switchover", b)
    check("Patroni took the number", b.status()["timeline"] == now + 1)
    hand_over(c, client, "patronictl", "switchover", ours)
    check("pgherd took the next", ours.status()["timeline"] == now + 2, ours.status()["timeline"])
    put(c, "timeline", str(now + 5))
    hand_over(c, client, "patronictl", "switchover", a)
    hand_over(c, client, "patronictl", "switchover", ours)
    check("pgherd left out what was reserved", ours.status()["timeline"] == now + 6, ours.status()["timeline"])
    hand_over(c, client, "patronictl", "switchover", b)


STEPS = [the_cluster_of_patroni_forms, pgherd_joins_as_a_clone, both_command_lines_look_alike,
         patronictl_switches_over_to_pgherd_and_pgherd_back, failover_with_a_candidate_both_ways, switchover_without_a_candidate,
         leaders_end_in_good_order, a_patroni_leader_dies_and_pgherd_leads, the_pgherd_leader_dies_and_patroni_leads,
         a_patroni_leader_dies_and_anybody_leads, reserved_timelines_and_patroni, restarts, restarts_are_scheduled_and_taken_back,
         replicas_are_copied_anew, pause_and_resume, configuration_is_in_force_everywhere, patronis_minima_apply,
         nodes_are_swapped_in_place_and_back, switchovers_are_scheduled_and_taken_back, a_scheduled_switchover_takes_place, failsafe_holds_without_etcd]


def logs(c):
    for node in c.nodes:
        path = f"{node.home}/agent.log"
        if os.path.exists(path):
            with open(path, errors="replace") as log:
                print(f"--- {node.name} ({node.product}), end of {path}", "".join(log.readlines()[-25:]), sep="\n", file=sys.stderr)


def main():
    args = argparse.ArgumentParser(description=__doc__)
    args.add_argument("--pgherd", required=True)
    args.add_argument("--patroni", required=True, help="directory with Patroni and what it needs")
    args.add_argument("--only", nargs="*", default=[], help="steps whose names contain one of these, after the first two")
    args.add_argument("--keep-going", action="store_true", help="go on after a step that failed")
    args = args.parse_args()

    check("pgherd is built", os.access(args.pgherd, os.X_OK), args.pgherd)
    version = subprocess.run(bench.theirs_version(args.patroni), capture_output=True, text=True).stdout.split()
    check("Patroni can be run", version)
    ours = subprocess.run([args.pgherd, "--version"], capture_output=True, text=True, check=True).stdout.strip()
    print(f"{ours} with two members of Patroni {version[-1]}; {bench.machine()}", flush=True)
    steps = [s for n, s in enumerate(STEPS) if n < 2 or not args.only or any(part in s.__name__ for part in args.only)]
    failed, client = [], None
    c = mixed(args.pgherd, args.patroni)
    try:
        for step in steps:
            began = time.monotonic()
            try:
                if "client" in step.__code__.co_varnames[:step.__code__.co_argcount]:
                    client = client or Client(c)
                    step(c, client)
                else:
                    step(c)
                print(f"ok      {time.monotonic() - began:6.1f} s  {step.__name__.replace('_', ' ')}", flush=True)
            except Exception as error:  # whatever it was, the step did not hold
                failed.append(step.__name__)
                print(f"FAILED  {time.monotonic() - began:6.1f} s  {step.__name__.replace('_', ' ')}: {error or repr(error)}", flush=True)
                if not args.keep_going:
                    break
    finally:
        if failed:
            logs(c)
        c.end()
        if failed:
            print(f"logs and data are in {c.home}", file=sys.stderr)
        else:
            shutil.rmtree(c.home, ignore_errors=True)
    if failed:
        sys.exit(f"compat: {len(failed)} of {len(steps)} steps failed")
    print(f"compat: {len(steps)} steps ok")


if __name__ == "__main__":
    try:
        main()
    except Failed as failure:
        sys.exit(f"compat: {failure}")
