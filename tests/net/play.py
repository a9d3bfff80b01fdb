"""The network between nodes is cut. What is shown: no write is acknowledged by the old primary after the new one's first,
a new primary serves, and what was cut off rejoins by itself once the network is mended."""

import argparse
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time

import psycopg

from steps import Failed
from world import ETCD_ADDRESS, NODES, Cluster, Network, enter, eventually, patiently

# so many writes of a new primary are waited for
WRITES = 100


def check(what, holds, seen=""):
    if not holds:
        raise Failed(f"not so: {what}; seen: {seen}")


class Writers:
    """A client in each node's own namespace, so that it goes on writing when the node is cut off. Every number is used once, in all steps
    together."""

    tried = 0
    lock = threading.Lock()

    def __init__(self, cluster):
        self.acks, self.failed, self.end = [], [], threading.Event()
        self.threads = [threading.Thread(target=self.write, args=(cluster.network.name(node.place), node)) for node in cluster.nodes]
        for thread in self.threads:
            thread.start()

    def number(self):
        with self.lock:
            Writers.tried += 1
            return Writers.tried

    def write(self, namespace, node):
        enter(namespace)
        connection = None
        while not self.end.is_set():
            try:
                connection = connection or node.connect()
                number = self.number()
                connection.execute("INSERT INTO ledger VALUES (%s)", (number,))
                self.acks.append((time.monotonic(), node, number))
            except psycopg.errors.ReadOnlySqlTransaction:
                pass
            except psycopg.Error as error:
                self.failed.append((node, str(error)))
                connection = None
            time.sleep(0.01)

    def of(self, node, since=0.0):
        return [ack for ack in list(self.acks) if ack[1] is node and ack[0] > since]

    def stop(self):
        self.end.set()
        for thread in self.threads:
            thread.join()
        return self.acks


def written(cluster, step):
    """Runs a step with clients at work on a complete cluster; afterwards everything acknowledged since the last change of
    the primary, and everything acknowledged by the primary, must be on every node."""
    old = eventually("a complete cluster", cluster.complete)
    writers = Writers(cluster)
    try:
        eventually("the primary acknowledges", lambda: len(writers.of(old)) >= WRITES)
        step(cluster, writers, old)
    finally:
        acks = writers.stop()
    primary = eventually("a complete cluster", cluster.complete)
    kept = {number for _, node, number in acks if node is primary}
    for node in cluster.nodes:
        eventually(f"{node.name} has what {primary.name} acknowledged", lambda: kept <= set(node.sql("SELECT id FROM ledger")))


def moves(cluster, writers, old, cut, mend):
    """The primary is cut off: another one serves, only after the old one's last acknowledgement; the old one rejoins."""
    begun = time.monotonic()
    cut()
    new = eventually("another node leads", lambda: (cluster.leader() or old) is not old and cluster.leader())
    eventually("the new primary acknowledges", lambda: len(writers.of(new, begun)) >= WRITES)
    check("it says that it is the primary", new.check("/primary"))
    late, first = writers.of(old, begun), writers.of(new, begun)[0][0]
    check("the old primary went on for a while, with a client beside it", late)
    check("no write of the old primary was acknowledged after the new one's first", late[-1][0] < first, (late[-1][0], first))
    print(f"    {old.name} acknowledged {len(late)} writes while it was cut off, the last {first - late[-1][0]:.3f} s before the first of {new.name}", flush=True)
    mend()
    eventually(f"{old.name} follows {new.name}", lambda: cluster.complete() is new)
    check("the old primary acknowledged nothing more", writers.of(old, begun)[-1] == late[-1])


def the_primarys_node_is_cut_off(cluster, writers, old):
    moves(cluster, writers, old, lambda: cluster.network.cut(old.place), lambda: cluster.network.mend(old.place))


def what_the_primary_sends_to_etcd_gets_lost(cluster, writers, old):
    moves(cluster, writers, old, lambda: cluster.network.cut_way(old.place, ETCD_ADDRESS), lambda: cluster.network.mend_way(old.place, ETCD_ADDRESS))


def what_etcd_sends_to_the_primary_gets_lost(cluster, writers, old):
    moves(cluster, writers, old, lambda: cluster.network.cut_way("etcd", old.address), lambda: cluster.network.mend_way("etcd", old.address))


def a_replicas_node_is_cut_off(cluster, writers, old):
    replica = cluster.others(old)[0]
    cluster.network.cut(replica.place)
    eventually("its key lapses", lambda: cluster.key(f"members/{replica.name}") is None)
    begun = time.monotonic()
    eventually("the primary goes on", lambda: len(writers.of(old, begun)) >= WRITES)
    check("it leads", cluster.leader() is old)
    cluster.network.mend(replica.place)
    eventually("the replica streams", lambda: cluster.complete() is old)
    check("nobody else acknowledged", {node.name for _, node, _ in writers.acks} == {old.name})


def the_replicas_do_not_reach_the_primary_but_etcd(cluster, writers, old):
    """etcd has the last word: nothing changes while the primary renews its lease."""
    others = cluster.others(old)
    for replica in others:
        cluster.network.cut_way(replica.place, old.address)
    eventually("nobody streams", lambda: not old.sql("SELECT 1 FROM pg_stat_replication WHERE state = 'streaming'"))
    begun = time.monotonic()
    eventually("the primary goes on", lambda: len(writers.of(old, begun)) >= WRITES)
    check("it leads", cluster.leader() is old)
    for replica in others:
        cluster.network.mend_way(replica.place, old.address)
    eventually("the replicas stream", lambda: cluster.complete() is old)


def undisturbed(cluster, writers, old):
    """The primary is the same, and no client of it was ever refused or cut off."""
    check("it leads", cluster.leader() is old, cluster.leader())
    failed = [error for node, error in writers.failed if node is old]
    check("no write failed there", not failed, failed[:1])
    check("nobody else acknowledged", {node.name for _, node, _ in writers.acks} == {old.name})


def renewed(cluster, old):
    """Waits for two renewals of the lease, whatever else goes on."""
    for _ in range(2):
        before = old.lease_left()
        eventually("the lease is renewed", lambda: old.lease_left() > before)


def each_member_of_etcd_is_cut_off_in_turn(cluster, writers, old):
    for place in cluster.members:
        cluster.network.cut(place)
        renewed(cluster, old)
        cluster.network.mend(place)
        patiently(f"etcd is whole after {place} was cut off", cluster.whole)
    undisturbed(cluster, writers, old)


def each_member_of_etcd_is_frozen_in_turn(cluster, writers, old):
    for place, etcd in cluster.etcds.items():
        etcd.send_signal(signal.SIGSTOP)
        renewed(cluster, old)
        etcd.send_signal(signal.SIGCONT)
        patiently(f"etcd is whole after {place} was frozen", cluster.whole)
    undisturbed(cluster, writers, old)


def each_member_of_etcd_is_killed_in_turn(cluster, writers, old):
    for place in cluster.members:
        cluster.kill_etcd(place)
        renewed(cluster, old)
        cluster.etcds[place] = cluster.start_etcd(place)
        patiently(f"etcd is whole after {place} was killed", cluster.whole)
    undisturbed(cluster, writers, old)


def the_primary_reaches_one_member_of_etcd_only(cluster, writers, old):
    """Each of them in turn, while they reach each other: the agent must find the one."""
    for reached in cluster.members:
        others = [address for place, address in cluster.members.items() if place != reached]
        for address in others:
            cluster.network.cut_way(old.place, address)
        renewed(cluster, old)
        for address in others:
            cluster.network.mend_way(old.place, address)
    undisturbed(cluster, writers, old)


def two_members_of_etcd_do_not_reach_each_other(cluster, writers, old):
    """The third one reaches both: whoever leads etcd then, one of the two may be left without a leader."""
    one, other = list(cluster.members)[:2]
    cluster.network.cut_way(one, cluster.members[other])
    cluster.network.cut_way(other, cluster.members[one])
    renewed(cluster, old)
    cluster.network.mend_way(one, cluster.members[other])
    cluster.network.mend_way(other, cluster.members[one])
    patiently("etcd is whole", cluster.whole)
    undisturbed(cluster, writers, old)


def what_one_member_of_etcd_sends_to_another_gets_lost(cluster, writers, old):
    """Each way in turn: the other one stays open."""
    one, other = list(cluster.members)[:2]
    for sender, receiver in ((one, other), (other, one)):
        cluster.network.cut_way(sender, cluster.members[receiver])
        renewed(cluster, old)
        cluster.network.mend_way(sender, cluster.members[receiver])
        patiently("etcd is whole", cluster.whole)
    undisturbed(cluster, writers, old)


def etcd_loses_its_majority_and_gets_it_back(cluster, writers, old):
    lost = list(cluster.members)[:2]
    for place in lost:
        cluster.network.cut(place)
    eventually("the old primary is read-only", lambda: old.sql("SELECT pg_is_in_recovery()") == [True])
    begun = time.monotonic()
    check("nobody acknowledges", not [ack for ack in writers.acks if ack[0] > begun])
    for place in lost:
        cluster.network.mend(place)
    new = eventually("a node leads", cluster.complete)
    eventually("it acknowledges", lambda: len(writers.of(new, begun)) >= WRITES)


ETCD_STEPS = [
    each_member_of_etcd_is_frozen_in_turn,
    each_member_of_etcd_is_killed_in_turn,
    each_member_of_etcd_is_cut_off_in_turn,
    the_primary_reaches_one_member_of_etcd_only,
    two_members_of_etcd_do_not_reach_each_other,
    what_one_member_of_etcd_sends_to_another_gets_lost,
    etcd_loses_its_majority_and_gets_it_back,
]

STEPS = [
    a_replicas_node_is_cut_off,
    the_primarys_node_is_cut_off,
    what_the_primary_sends_to_etcd_gets_lost,
    what_etcd_sends_to_the_primary_gets_lost,
    the_replicas_do_not_reach_the_primary_but_etcd,
]


def play(program):
    home = tempfile.mkdtemp(prefix="pgherd-net-")
    os.chmod(home, 0o755)
    # the checkout may be unreadable for the user that the agent runs as
    shutil.copy(program, f"{home}/pgherd")
    for members, steps in ((1, STEPS), (3, ETCD_STEPS)):
        print(f"{members} of etcd, {NODES} nodes", flush=True)
        play_with(home, members, steps)
    shutil.rmtree(home)
    print(f"test-net: {len(STEPS) + len(ETCD_STEPS)} passed, 0 failed")


def play_with(home, members, steps):
    network, cluster, failed = Network(f"{os.getpid()}-{members}"), None, []
    try:
        network.make_hub()
        enter(network.name("hub"))
        cluster = Cluster(f"{home}/{members}", f"{home}/pgherd", network, members)
        for node in cluster.nodes:
            node.start()
        primary = eventually("a complete cluster", cluster.complete)
        with primary.connect() as connection:
            connection.execute("CREATE TABLE ledger (id bigint PRIMARY KEY)")
        for step in steps:
            begun = time.monotonic()
            print(f"  {step.__name__.replace('_', ' ')} ...", flush=True)
            written(cluster, step)
            print(f"    seen, {time.monotonic() - begun:.0f} s", flush=True)
    except Failed as error:
        failed.append(error)
    finally:
        if cluster:
            cluster.stop()
        network.remove()
    if failed:
        sys.exit(f"test-net: {failed[0]}; logs in {home}")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--program", required=True)
    arguments = parser.parse_args()
    if os.geteuid() != 0 or not shutil.which("ip"):
        sys.exit("test-net: needs root and `ip` (package iproute2): it makes network namespaces")
    # ended from outside, it still ends its servers
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("test-net: ended from outside"))
    play(arguments.program)


if __name__ == "__main__":
    main()
