"""Interruptions of writes, of pgherd beside Patroni: same machine, same run, same configuration, alternating.

A client writes to whichever node takes it. Measured is the longest time between two acknowledged writes around the event:
a switchover asked for by REST, the death of the postmaster of the primary (started again on the same node), and a restart
of the primary's PostgreSQL asked for by REST. ttl 20 (Patroni's minimum), loop_wait 10.
"""

import argparse
import datetime
import json
import os
import signal
import statistics
import threading
import time
import urllib.request

import psycopg

from bench import NODES, both, machine, measured, theirs_version


class Client:
    """Writes all the time; remembers when each write was acknowledged, and by which node."""

    def __init__(self, cluster):
        self.cluster, self.acks, self.end = cluster, [], threading.Event()
        self.threads = [threading.Thread(target=self.write, args=(node,)) for node in cluster.nodes]
        for thread in self.threads:
            thread.start()

    def write(self, node):
        connection = None
        while not self.end.is_set():
            try:
                connection = connection or self.cluster.connect(node)
                connection.execute("INSERT INTO bench DEFAULT VALUES")
                self.acks.append((time.monotonic(), node.name))
                time.sleep(0.002)
            except psycopg.errors.ReadOnlySqlTransaction:
                time.sleep(0.005)
            except psycopg.Error:
                connection = None
                time.sleep(0.005)

    def stop(self):
        self.end.set()
        for thread in self.threads:
            thread.join()

    def gap_since(self, begun):
        """The longest time without an acknowledged write from just before `begun` on."""
        times = sorted(at for at, _ in list(self.acks) if at >= begun - 0.5)
        return max(b - a for a, b in zip(times, times[1:]))

    def wait_for_writes(self, after, seconds, by=None):
        deadline = time.monotonic() + seconds
        while not any(at > after and by in (None, name) for at, name in list(self.acks)[-50:]):
            if time.monotonic() > deadline:
                raise SystemExit(f"{self.cluster.product}: no write within {seconds} s; logs in {self.cluster.home}")
            time.sleep(0.01)


def primary_of(cluster):
    return next(node for node in cluster.nodes if node.check("/primary"))


def post(node, path, body):
    request = urllib.request.Request(f"http://127.0.0.1:{node.rest}{path}", json.dumps(body).encode(), method="POST")
    with urllib.request.urlopen(request, timeout=120) as answer:
        return answer.status


def switchover(cluster):
    old = primary_of(cluster)
    new = next(node for node in cluster.nodes if node is not old)
    post(old, "/switchover", {"leader": old.name, "candidate": new.name})
    return new.name


def kill_postmaster(cluster):
    node = primary_of(cluster)
    with open(f"{node.home}/data/postmaster.pid") as f:
        os.kill(int(f.readline()), signal.SIGKILL)
    return None


def restart(cluster):
    post(primary_of(cluster), "/restart", {})
    return None


EVENTS = {"switchover": switchover, "postmaster killed": kill_postmaster, "restart of the primary": restart}


def gaps(cluster, rounds):
    with cluster.connect(primary_of(cluster)) as connection:
        connection.execute("CREATE TABLE IF NOT EXISTS bench (at timestamptz DEFAULT now())")
    client = Client(cluster)
    found = {event: [] for event in EVENTS}
    try:
        for _ in range(rounds):
            for event, cause in EVENTS.items():
                client.wait_for_writes(time.monotonic(), 60)
                time.sleep(1)
                begun = time.monotonic()
                by = cause(cluster)
                client.wait_for_writes(begun + 0.5, 60, by)
                # whoever serves first may still be interrupted
                time.sleep(3)
                found[event].append(client.gap_since(begun))
                cluster.wait(cluster.complete, 120, f"cluster complete after {event}")
    finally:
        client.stop()
    return found


def main():
    args = argparse.ArgumentParser(description=__doc__)
    args.add_argument("--pgherd", required=True)
    args.add_argument("--patroni", required=True)
    args.add_argument("--rounds", type=int, default=5)
    args.add_argument("--save", action="store_true")
    args = args.parse_args()

    all_gaps = {}
    for name, command in both(args.pgherd, args.patroni).items():
        all_gaps[name] = measured(name, command, 20, lambda cluster: gaps(cluster, args.rounds))
    out = [f"# {datetime.date.today()}: interruptions of writes, pgherd beside Patroni {theirs_version(args.patroni)}", "",
           f"Machine: {machine()}; {NODES} nodes on it.", "",
           f"| longest time without a write, s (median of {args.rounds}; slowest) | pgherd | Patroni | pgherd / Patroni |",
           "| --- | --- | --- | --- |"]
    for event in EVENTS:
        a, b = all_gaps["pgherd"][event], all_gaps["Patroni"][event]
        form = lambda values: f"{statistics.median(values):.2f}; {max(values):.2f}"
        out.append(f"| {event} | {form(a)} | {form(b)} | {statistics.median(a) / statistics.median(b):.2f} |")
    out += ["", "ttl 20, loop_wait 10; a client of each node writes as fast as it is answered. `make bench-handover` repeats it."]
    text = "\n".join(out) + "\n"
    print(text)
    if args.save:
        os.makedirs("bench/results", exist_ok=True)
        with open(f"bench/results/{datetime.date.today()}-handover.md", "w") as f:
            f.write(text)


if __name__ == "__main__":
    main()
