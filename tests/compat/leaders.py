"""Steps in which the lead changes, or must not."""

import base64
import datetime
import json
import os
import signal
import time
import urllib.request

from cluster import SCOPE, eventually
from steps import check
from moves import hand_over, in_an_hour, led_by, promoted, reload


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
