"""The REST API of pgherd beside Patroni's: GET /primary and GET /patroni of a leader, with a connection for each request (as load
balancers ask) and with connections that stay; the same while PostgreSQL and etcd are frozen; and 1,000 who follow the events. Each
round makes a new cluster of each product, in turns. Writes a page to standard output; needs `ab`."""

import argparse
import contextlib
import json
import os
import resource
import signal
import statistics
import sys
import time
import urllib.request

import api_page
from cluster import both, measured
from load import Followers, ask
from servers import theirs_version

# leases long enough that the leader leads while etcd is frozen
TIMING = (60, 10, 10)
PATHS = ("/primary", "/patroni")
CONNECTIONS = (1, 16, 64)
FROZEN_CONNECTIONS = 16
FROZEN_S = 4
FOLLOWERS = 1000
EVENTS = 20
# a renewal falls into it
LEASE_S = TIMING[1] + 2


def say(text):
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


def load(c, seconds, note):
    node = c.primary()
    # the first seconds of a process are not its usual ones
    ask(node, PATHS[0], CONNECTIONS[-1], 1, new=True)
    for path in PATHS:
        for new in (True, False):
            for connections in CONNECTIONS:
                note((path, new, connections), ask(node, path, connections, seconds, new))


def tell(pids, number):
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def frozen(c, note):
    """PostgreSQL of the leader and etcd stand still; the leader's claim is still good."""
    node = c.primary()
    pids = [c.etcd.process.pid, *node.postgres_pids()]
    tell(pids, signal.SIGSTOP)
    try:
        for path in PATHS:
            note(("frozen", path), ask(node, path, FROZEN_CONNECTIONS, FROZEN_S, new=True))
    finally:
        tell(pids, signal.SIGCONT)


def lease_left(node):
    with urllib.request.urlopen(f"http://127.0.0.1:{node.rest}/metrics", timeout=5) as answer:
        line = next(line for line in answer.read().decode().splitlines() if line.startswith("pgherd_lease_remaining_seconds{"))
    return float(line.rsplit(" ", 1)[1])


def shortest_lease(node, seconds):
    """A renewal that comes late leaves less of the one before."""
    deadline, left = time.monotonic() + seconds, []
    while time.monotonic() < deadline:
        left.append(lease_left(node))
        time.sleep(0.1)
    return min(left)


def followers(c, note):
    node = c.primary()
    undisturbed = shortest_lease(node, LEASE_S)
    # memory that the requests before have left is there already
    before = node.usage()[1]
    all_of_them = Followers(node, FOLLOWERS, "request")
    try:
        times, lease = [], []
        for _ in range(EVENTS):
            begun = time.monotonic()
            node.send("POST", "/sigterm", {})
            times.append((all_of_them.until_all_have(b"sigterm", 30) - begun) * 1000)
            lease.append(shortest_lease(node, LEASE_S / EVENTS))
        note("all_have_it", statistics.median(times))
        note("all_have_it_max", max(times))
        note("lease_lost", undisturbed - min(lease))
        note("memory", node.usage()[1] - before)
        note("check_beside", ask(node, "/primary", 1, 3, new=True)["p99"])
    finally:
        all_of_them.close()


def whole(c, seconds, chosen, note):
    c.start()
    c.settle()
    if "load" in chosen:
        load(c, seconds, note)
    if "followers" in chosen and c.product == "pgherd":
        followers(c, note)
    if "frozen" in chosen:
        frozen(c, note)


def run(arguments, products):
    found = {product: {} for product in products}
    for number in range(arguments.rounds):
        for product, command in products.items():
            def note(key, value, product=product):
                found[product].setdefault(key, []).append(value)
                say(f"round {number + 1}, {product}: {key} {json.dumps(value) if isinstance(value, dict) else round(value, 2)}")
            measured(product, command, TIMING, lambda c, note=note: whole(c, arguments.seconds, arguments.only.split(","), note))
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pgherd", required=True)
    parser.add_argument("--patroni", required=True)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=2, help="of each measurement of requests")
    parser.add_argument("--only", default="load,frozen,followers")
    parser.add_argument("--alone", action="store_true", help="without Patroni")
    parser.add_argument("--save", action="store_true", help="write bench/RESULTS-api.md")
    arguments = parser.parse_args()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    # the agent inherits it: each who follows needs a descriptor on both sides
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(4 * FOLLOWERS, hard)), hard))
    products = both(arguments.pgherd, arguments.patroni)
    if arguments.alone:
        del products["Patroni"]
    begun = time.monotonic()
    found = run(arguments, products)
    took = (time.monotonic() - begun) / 60
    text, misses = api_page.page(found, theirs_version(arguments.patroni), arguments, took)
    print(text)
    if arguments.save:
        with open("bench/RESULTS-api.md", "w") as f:
            f.write(text)
    if misses:
        sys.exit("\n".join(["missed:", *misses]))


if __name__ == "__main__":
    main()
