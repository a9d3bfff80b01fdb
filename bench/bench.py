"""pgherd beside Patroni: same machine, same run, same settings file, in turns. Writes a page to standard output.

Each round makes a new cluster of each product and takes it through all events in the same order; the death of the node is
the last. `--only` takes a comma-separated choice of: idle, short (ttl 3, pgherd alone), and the names in CYCLE.
"""

import argparse
import math
import sys
import time

import events
import table
from client import Client
from cluster import both, measured
from servers import theirs_version

# ttl (Patroni's minimum), loop_wait (the default), retry_timeout (what fits)
TIMING = (20, 10, 5)
SHORT = (3, 1, 1)
DEFAULTS = (30, 10, 10)

CYCLE = {
    "undisturbed": events.undisturbed,
    "switchover": events.switchover,
    "loaded": events.switchover_under_load,
    "restart": events.restart_of_primary,
    "crash": events.crash_and_start_again,
    "replica_restart": events.restart_of_replica,
    "replica_new": events.new_replica,
    "sync_switchover": events.synchronous_switchover,
    "sync_second": events.second_synchronous_standby,
    "sync_stall": events.death_of_synchronous_standby,
    "crash_move": events.crash_and_move,
    "death": events.death,
}

HOW = [
    "- ttl 20, loop_wait 10, retry_timeout 5 except where the row says otherwise; idle CPU and memory at the defaults (30, 10, 10). "
    "pg_rewind allowed, data checksums on, everything else as PostgreSQL and the products have it.",
    "- A client of each node writes one row after the other, 2 ms after each acknowledgement; it asks a standby every 4 ms whether it still is one, and connects "
    "again 8 ms after each failure. "
    "`pgbench -c 4` (scale 10) keeps both cores busy where the row says so.",
    "- Synchronous: `synchronous_mode: true`, one synchronous standby and one other replica.",
    "- All times are read from one monotonic clock. That the leader key has gone is told by a watch of etcd.",
    "- Death: agent, guard and PostgreSQL get SIGKILL at once. etcd is a single one, and does not die with the node.",
]


def say(text):
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


def whole(cluster, chosen, note):
    """One round of one product."""
    note("nothing", events.from_nothing(cluster))
    cluster.settle()
    names = [name for name in CYCLE if name in chosen]
    client = Client(cluster)
    try:
        for name in names:
            try:
                value = CYCLE[name](cluster, client)
            except events.Wrong as wrong:
                say(f"{cluster.product}: {name}: {wrong}")
                value = (math.inf,) * 3 if name == "death" else math.inf
            if name == "death":
                note("death", value[1])
                note("death_total", value[2])
            else:
                note(name, value)
                cluster.settle()
    finally:
        client.stop()


def short(cluster, note):
    """The death of a node at the smallest times, which only pgherd takes."""
    cluster.start()
    cluster.settle()
    client = Client(cluster)
    try:
        time.sleep(1)
        _, lapsed, total = events.death(cluster, client)
        note("death_short", total)
        note("death_short_lapsed", lapsed)
    finally:
        client.stop()


def quiet(cluster, arguments, note):
    cluster.start()
    cluster.settle()
    cpu, memory = events.idle(cluster, arguments.settle_seconds, arguments.idle_seconds)
    note("cpu", cpu)
    note("memory", memory)


def run(arguments, products, chosen):
    found = {product: {} for product in products}

    def noting(product):
        def note(key, value):
            say(f"{product}: {key} {value:.3f}")
            found[product].setdefault(key, []).append(value)
        return note

    if "idle" in chosen:
        for product, command in products.items():
            measured(product, command, DEFAULTS, lambda cluster: quiet(cluster, arguments, noting(cluster.product)))
    for n in range(arguments.rounds):
        say(f"round {n + 1} of {arguments.rounds}")
        if chosen & {"nothing", *CYCLE}:
            for product, command in products.items():
                measured(product, command, TIMING, lambda cluster: whole(cluster, chosen, noting(cluster.product)))
        if "short" in chosen:
            measured("pgherd", products["pgherd"], SHORT, lambda cluster: short(cluster, noting("pgherd")))
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pgherd", required=True)
    parser.add_argument("--patroni", required=True, help="directory with Patroni and what it needs")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--settle-seconds", type=int, default=15)
    parser.add_argument("--idle-seconds", type=int, default=60)
    parser.add_argument("--only", default="")
    parser.add_argument("--alone", action="store_true", help="without Patroni, to look for where the time goes")
    parser.add_argument("--save", action="store_true", help="write bench/RESULTS.md")
    arguments = parser.parse_args()

    known = {"idle", "short", "nothing", *CYCLE}
    chosen = set(filter(None, arguments.only.split(","))) or known
    if chosen - known:
        parser.error(f"--only: unknown {', '.join(sorted(chosen - known))}; known are {', '.join(sorted(known))}")
    products = both(arguments.pgherd, arguments.patroni)
    if arguments.alone:
        del products["Patroni"]
    begun = time.monotonic()
    found = run(arguments, products, chosen)
    found.setdefault("Patroni", {})
    took = f"- The run took {(time.monotonic() - begun) / 60:.0f} minutes."
    text, misses = table.page(found, theirs_version(arguments.patroni), arguments.rounds, [*HOW, took])
    print(text)
    if arguments.save:
        with open("bench/RESULTS.md", "w") as f:
            f.write(text)
    if misses:
        sys.exit("\n".join(["missed:", *misses]))


if __name__ == "__main__":
    main()
