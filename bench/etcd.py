"""What three nodes at rest cost etcd, how quick renewals are while one of three members of etcd is frozen, and how long writes stop
when a member is lost together with the primary's node; pgherd beside Patroni where that can be measured. `make bench-etcd` writes a page to standard output.

Requests are counted by etcd itself (its series grpc_server_handled_total: the gateway passes every request on by gRPC), as are
the proposals of its raft log, which are what a disk is written for. Renewals are timed by the agent (pgherd_dcs_seconds).
"""

import argparse
import os
import pathlib
import re
import shutil
import signal
import statistics
import sys
import tempfile
import time
import urllib.request

import cluster as clusters
from client import Client
from cluster import Cluster, both
from events import longest_pause
from servers import Etcd, free_port, machine, theirs_version

DEFAULTS = (30, 10, 10)
QUICK = (5, 1, 1)
KINDS = {
    "LeaseKeepAlive": "keepalives",
    "Range": "ranges",
    "Txn": "transactions",
    "Put": "puts",
    "Watch": "watches begun",
    "Authenticate": "logins",
    "MemberList": "lists of members",
    "Status": "looks at the status",
}


def say(text):
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


def series(url):
    """The series of a server, by name and labels."""
    found = {}
    with urllib.request.urlopen(f"{url}/metrics", timeout=5) as answer:
        for line in answer.read().decode().splitlines():
            if not line.startswith("#"):
                name, value = line.rsplit(" ", 1)
                found[name] = float(value)
    return found


def counted(before, after, name):
    return after.get(name, 0) - before.get(name, 0)


def handled(before, after, method):
    started = [key for key in after if key.startswith("grpc_server_started_total") and f'grpc_method="{method}"' in key]
    return sum(counted(before, after, key) for key in started)


def at_rest(cluster, settle_s, seconds):
    cluster.start()
    cluster.settle()
    time.sleep(settle_s)
    before = series(cluster.etcd.url)
    time.sleep(seconds)
    after = series(cluster.etcd.url)
    minutes = seconds / 60
    rows = {text: handled(before, after, method) / minutes for method, text in KINDS.items()}
    rows["proposals of the raft log"] = counted(before, after, "etcd_server_proposals_applied_total") / minutes
    kib = [counted(before, after, f"etcd_network_client_grpc_{way}_bytes_total") / minutes / 1024 for way in ("received", "sent")]
    rows["KiB received"], rows["KiB sent"] = kib
    return rows


class Three:
    """Three members of etcd in the place of one."""

    def __init__(self, home):
        self.members = []
        names = [(f"m{n}", free_port(), free_port()) for n in range(3)]
        peers = ",".join(f"{name}=http://127.0.0.1:{peer}" for name, _, peer in names)
        for name, port, peer in names:
            os.mkdir(f"{home}/{name}")
            self.members.append(Etcd(f"{home}/{name}", name, port, peer, peers))
        self.port = ",127.0.0.1:".join(str(member.port) for member in self.members)
        self.url = self.members[0].url

    def serves(self):
        return all(member.serves() for member in self.members)

    def stop(self):
        for member in self.members:
            member.process.send_signal(signal.SIGCONT)
            member.stop()


def renewals(node):
    """The times of renewals so far: how many took no longer than each bound."""
    found = {}
    for name, value in series(f"http://127.0.0.1:{node.rest}").items():
        if name.startswith("pgherd_dcs_seconds_bucket") and 'request="renew"' in name:
            found[float(re.search(r'le="([^"]+)"', name).group(1).replace("+Inf", "inf"))] = value
    return found


def frozen(cluster, seconds):
    """The bound that 99 of 100 renewals of the primary kept to, while each member of etcd in turn is frozen."""
    cluster.start()
    cluster.settle()
    primary = cluster.primary()
    before = renewals(primary)
    for member in cluster.etcd.members:
        member.process.send_signal(signal.SIGSTOP)
        time.sleep(seconds)
        member.process.send_signal(signal.SIGCONT)
        time.sleep(3)
    if not primary.check("/primary"):
        raise SystemExit("bench: the primary was demoted")
    after = renewals(primary)
    took = {bound: after[bound] - before.get(bound, 0) for bound in after}
    number = took[float("inf")]
    return number, min(bound for bound, count in took.items() if count >= 0.99 * number), took


def lost_together(cluster, rounds):
    """The primary's node dies at the same time as a member of etcd that follows, and as the one that leads: how long writes stopped."""
    cluster.start()
    cluster.settle()
    client, stopped = Client(cluster), {False: [], True: []}
    try:
        for number in range(2 * rounds):
            leads = number % 2 == 1
            primary, member = cluster.primary(), next(m for m in cluster.etcd.members if m.leads() == leads)

            def cause():
                primary.kill()
                member.kill()
                return {node.name for node in cluster.nodes if node is not primary}

            stopped[leads].append(longest_pause(cluster, client, cause))
            say(f"{cluster.product}: with etcd's {'leader' if leads else 'follower'}: {stopped[leads][-1]:.2f} s")
            member.start()
            cluster.wait(cluster.etcd.serves, 60, "etcd serves")
            primary.start(cluster.command)
            cluster.settle()
    finally:
        client.stop()
    return stopped


def made(product, command, timing, etcd, measure):
    home = tempfile.mkdtemp(prefix="pgherd-bench-")
    os.chmod(home, 0o755)
    clusters.Etcd = etcd
    cluster = Cluster(product, command(home), timing, home)
    try:
        return measure(cluster)
    finally:
        cluster.stop()
        shutil.rmtree(home, ignore_errors=True)


def page(arguments, rest, renewals_while_frozen, together):
    number, bound, took = renewals_while_frozen
    lines = []
    version = f" {theirs_version(arguments.patroni)}" if arguments.patroni else ""
    heads = " | ".join(p + (version if p == "Patroni" else "") for p in rest)
    lines.append(f"# What etcd has to do\n\nMachine: {machine()}.\n")
    lines.append("## At rest\n\nThree nodes, ttl 30, loop_wait 10, nobody writes; per minute, counted by etcd.\n")
    lines.append(f"| | {heads} |\n| --- |" + " --- |" * len(rest))
    for text in next(iter(rest.values())):
        lines.append(f"| {text} | " + " | ".join(f"{rows[text]:.1f}" for rows in rest.values()) + " |")
    lines.append(f"\n## One of three members frozen\n\nttl 5, loop_wait 1, retry_timeout 1; each member in turn is frozen for {arguments.frozen_seconds:g} s, etcd's leader included. "
          f"Of the primary's {number:.0f} renewals in that time 99 of 100 took no longer than {bound:g} s, and it stayed the primary.\n")
    lines.append("| took at most, s | renewals |\n| --- | --- |")
    lines += [f"| {limit:g} | {count:.0f} |" for limit, count in sorted(took.items()) if count]
    lines.append(f"\n## A member of etcd lost with the primary's node\n\nThree members of etcd, ttl 5, loop_wait 1, retry_timeout 1; {arguments.rounds} rounds each. The longest time without an "
          "acknowledged write, in seconds: median (all). A new leader of etcd gives every lease its whole time again.\n")
    lines.append(f"| lost with the node | {heads} |\n| --- |" + " --- |" * len(rest))
    for leads, text in ((False, "a follower"), (True, "etcd's leader")):
        cells = [f"{statistics.median(stopped[leads]):.2f} ({', '.join(f'{s:.2f}' for s in stopped[leads])})" for stopped in together.values()]
        lines.append(f"| {text} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--pgherd", required=True)
    parser.add_argument("--patroni")
    parser.add_argument("--settle-seconds", type=float, default=30)
    parser.add_argument("--idle-seconds", type=float, default=120)
    parser.add_argument("--save", action="store_true", help="write bench/RESULTS-etcd.md too")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--frozen-seconds", type=float, default=20)
    arguments = parser.parse_args()
    products = both(arguments.pgherd, arguments.patroni)
    if not arguments.patroni:
        del products["Patroni"]
    rest = {}
    for product, command in products.items():
        say(f"{product}: at rest")
        rest[product] = made(product, command, DEFAULTS, Etcd, lambda c: at_rest(c, arguments.settle_seconds, arguments.idle_seconds))
    say("pgherd: one of three members of etcd frozen")
    at_frozen = made("pgherd", products["pgherd"], QUICK, Three, lambda c: frozen(c, arguments.frozen_seconds))

    together = {}
    for product, command in products.items():
        say(f"{product}: a member of etcd is lost with the primary's node")
        together[product] = made(product, command, QUICK, Three, lambda c: lost_together(c, arguments.rounds))

    text = page(arguments, rest, at_frozen, together)
    print(text)
    if arguments.save:
        (pathlib.Path(__file__).parent / "RESULTS-etcd.md").write_text(text)


if __name__ == "__main__":
    main()
