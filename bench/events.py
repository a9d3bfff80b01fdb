"""What is measured, one function an event: each is given a complete cluster (or, for the first, one that was not started)
and gives seconds. Waits between the events are not part of them."""

import os
import shutil
import signal
import threading
import time

from client import Client, Load
from servers import KeyWatch

# as long a primary that serves again is watched for a second interruption
AFTERMATH_S = 2
LOAD_CLIENTS = 4
LOAD_S = 3


class Wrong(Exception):
    """Something else happened than what was to be measured."""


def from_nothing(cluster):
    """Start of the agents of three empty nodes to two streaming replicas, as PostgreSQL says it. What was written before
    is flushed first: the new data are flushed with all that waits on their file system."""
    os.sync()
    begun = time.monotonic()
    cluster.start()
    streams = "SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming' AND application_name LIKE 'n_'"
    cluster.wait(lambda: any(cluster.ask(node, streams) == 2 for node in cluster.nodes), 180, "two replicas", step=0.02)
    return time.monotonic() - begun


def interruption(cluster, client, cause):
    """The longest time without an acknowledged write around an event, from the event on if nothing stood still before."""
    client.wait_for_write(time.monotonic(), 60)
    time.sleep(1)
    begun = time.monotonic()
    by = cause()
    client.wait_for_write(time.monotonic(), 90, by)
    time.sleep(AFTERMATH_S)
    return (begun, *client.longest_gap(begun - 0.5))


def switch(cluster, new):
    """Asks for a switchover; the successor's name."""
    old = cluster.primary()
    old.send("POST", "/switchover", {"leader": old.name, "candidate": new.name})
    return {new.name}


def longest_pause(cluster, client, cause):
    _, before, after, _ = interruption(cluster, client, cause)
    return after - before


def switchover(cluster, client):
    return longest_pause(cluster, client, lambda: switch(cluster, cluster.replica()))


def switchover_under_load(cluster, client):
    load = Load(cluster, cluster.primary(), LOAD_CLIENTS)
    try:
        time.sleep(LOAD_S)
        return switchover(cluster, client)
    finally:
        load.stop()


def synchronous_standby(cluster):
    """The node that says it is one, once the cluster replicates synchronously."""
    cluster.wait(lambda: any(n.check("/sync") for n in cluster.nodes), 60, "a synchronous standby")
    return next(n for n in cluster.nodes if n.check("/sync"))


def synchronous_switchover(cluster, client):
    """The cluster stays synchronous: the death of the synchronous standby comes after this."""
    cluster.configure({"synchronous_mode": True})
    new = synchronous_standby(cluster)
    return longest_pause(cluster, client, lambda: switch(cluster, new))


def second_synchronous_standby(cluster, client):
    """It is added and taken out again: the longest time without a write."""
    cluster.configure({"synchronous_mode": True})
    synchronous_standby(cluster)
    primary = cluster.primary()

    def cause():
        for wanted in (2, 1):
            cluster.configure({"synchronous_node_count": wanted})
            counted = lambda: sum(n.check("/sync") for n in cluster.nodes) == wanted
            cluster.wait(counted, 60, f"{wanted} synchronous standbys")
        return {primary.name}

    return longest_pause(cluster, client, cause)


def death_of_synchronous_standby(cluster, client):
    """SIGKILL for everything on its node while another healthy replica streams: the longest time without a write."""
    cluster.configure({"synchronous_mode": True})
    primary, standby = cluster.primary(), synchronous_standby(cluster)

    def cause():
        standby.kill()
        return {primary.name}

    try:
        return longest_pause(cluster, client, cause)
    finally:
        standby.start(cluster.command)
        cluster.configure({"synchronous_mode": None})


def restart_of_primary(cluster, client):
    def cause():
        primary = cluster.primary()
        primary.send("POST", "/restart", {})
        return {primary.name}

    return longest_pause(cluster, client, cause)


def crash(cluster, client, here):
    """SIGKILL for the postmaster to the first write after the interruption: orphaned backends may acknowledge for a while."""
    primary = cluster.primary()
    since = cluster.ask(primary, "SELECT clock_timestamp()")
    again = f"SELECT 1 WHERE pg_postmaster_start_time() > '{since}' AND NOT pg_is_in_recovery()"

    def cause():
        primary.kill_postmaster()
        if here:
            # a write of the orphans is not one of the restarted server
            cluster.wait(lambda: cluster.ask(primary, again) == 1, 90, "PostgreSQL runs again", step=0.05)
        return {primary.name} if here else {n.name for n in cluster.nodes if n is not primary}

    begun, _, after, by = interruption(cluster, client, cause)
    if (by == primary.name) != here:
        raise Wrong(f"{by} served after the postmaster of {primary.name} was killed")
    return after - begun


def crash_and_start_again(cluster, client):
    return crash(cluster, client, True)


def crash_and_move(cluster, client):
    """The configuration stays as it is then: the death of a node, which comes after this, does not depend on it."""
    cluster.configure({"primary_start_timeout": 0})
    return crash(cluster, client, False)


def time_to_stream(cluster, node, since):
    """Waits until that node's PostgreSQL, started after `since` (a time of its own clock), receives WAL."""
    text = f"SELECT 1 FROM pg_stat_wal_receiver WHERE status = 'streaming' AND pg_postmaster_start_time() > '{since}'"
    cluster.wait(lambda: cluster.ask(node, text) == 1, 180, f"{node.name} streams", step=0.01)
    return time.monotonic()


def restart_of_replica(cluster, client):
    node = cluster.replica()
    since = cluster.ask(node, "SELECT clock_timestamp()")
    begun = time.monotonic()
    request = threading.Thread(target=node.send, args=("POST", "/restart", {}))
    request.start()
    try:
        return time_to_stream(cluster, node, since) - begun
    finally:
        request.join()


def new_replica(cluster, client):
    """A node without data: start of its agent to its first streaming."""
    node = cluster.replica()
    node.agent.send_signal(signal.SIGTERM)
    node.agent.wait(60)
    for name in os.listdir(node.home):
        if name.startswith("data"):
            shutil.rmtree(f"{node.home}/{name}")
    since = cluster.ask(cluster.primary(), "SELECT clock_timestamp()")
    begun = time.monotonic()
    node.start(cluster.command)
    return time_to_stream(cluster, node, since) - begun


def death(cluster, client):
    """SIGKILL for everything on the primary's node: when the key had gone, and when the first write was acknowledged."""
    primary = cluster.primary()
    others = {n.name for n in cluster.nodes if n is not primary}
    watch = KeyWatch(cluster.etcd, "/service/bench/leader")
    begun = time.monotonic()
    primary.kill()
    first = client.wait_for_write(begun, cluster.timing[0] + 90, others)
    watch.stop()
    gone = [at for at in watch.removed if at > begun]
    if not gone or gone[0] > first:
        raise Wrong(f"a write {first - begun:.3f} s after the death, the leader key went {gone} (begun {begun:.3f})")
    return gone[0] - begun, first - gone[0], first - begun


def idle(cluster, settle_s, seconds):
    """CPU seconds per minute and resident MiB: each the highest of the three agents."""
    time.sleep(settle_s)
    before, begun = [n.usage()[0] for n in cluster.nodes], time.monotonic()
    time.sleep(seconds)
    after, passed = [n.usage() for n in cluster.nodes], time.monotonic() - begun
    cpu = [(a[0] - b) * 60 / passed for a, b in zip(after, before)]
    return max(cpu), max(a[1] for a in after)


def undisturbed(cluster, client):
    """The longest gap of a quiet second: what the client itself adds to an interruption."""
    client.wait_for_write(time.monotonic(), 60)
    begun = time.monotonic()
    time.sleep(1)
    before, after = client.longest_gap(begun)[:2]
    return after - before
