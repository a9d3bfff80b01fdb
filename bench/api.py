"""The REST API of pgherd beside Patroni's: GET /primary and GET /patroni of a leader, with a connection for each request (as load
balancers ask) and with connections that stay; the same while PostgreSQL and etcd are frozen; and 1,000 who follow the events. Writes a
page to standard output, and with --save to bench/RESULTS-api.md. Needs `wrk`. Takes about six minutes on two cores."""

import argparse
import contextlib
import datetime
import json
import os
import re
import resource
import selectors
import signal
import socket
import statistics
import subprocess
import sys
import time
import urllib.request

from cluster import both, measured
from servers import machine, theirs_version

# leases long enough that the leader leads while etcd is frozen
TIMING = (60, 10, 10)
PATHS = ("/primary", "/patroni")
CONNECTIONS = (1, 16, 64)
FOLLOWERS = 1000
UNITS = {"us": 0.001, "ms": 1.0, "s": 1000.0, "m": 60000.0}


def say(text):
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


def wrk(node, path, connections, seconds, new, more=()):
    """Requests per second, p50 and p99 in ms, CPU of the agent per request in µs, and failures. A failed request is one that was not
    answered in time, or with another status than 200."""
    headers = ["-H", "Connection: close"] if new else []
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--latency", "--timeout", "10s", *headers, *more,
               f"http://127.0.0.1:{node.rest}{path}"]
    before, begun = node.usage()[0], time.monotonic()
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    cpu, took = node.usage()[0] - before, time.monotonic() - begun
    done = int(re.search(r"(\d+) requests in", text)[1])
    failed = sum(int(n) for n in re.findall(r"(?:connect|read|write|timeout) (\d+)", text))
    failed += sum(int(n) for n in re.findall(r"Non-2xx or 3xx responses: (\d+)", text))

    def percentile(percent):
        found = re.search(rf"\s{percent}%\s+([\d.]+)(us|ms|s|m)\b", text)
        return float(found[1]) * UNITS[found[2]]
    return {"rps": done / took, "p50": percentile(50), "p99": percentile(99), "cpu": cpu / max(done, 1) * 1e6, "failed": failed}


def load(c, seconds, note):
    node = c.primary()
    for path in PATHS:
        for new in (True, False):
            for connections in CONNECTIONS:
                found = wrk(node, path, connections, seconds, new)
                note((path, new, connections), found)


def tell(pids, number):
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def frozen(c, seconds, note):
    """PostgreSQL of the leader and etcd stand still; the leader's claim is still good."""
    node = c.primary()
    pids = [c.etcd.process.pid, *node.postgres_pids()]
    tell(pids, signal.SIGSTOP)
    try:
        for path in PATHS:
            # Patroni waits for PostgreSQL in each of them, two seconds and more
            note(("frozen", path), wrk(node, path, 16, seconds, new=True))
    finally:
        tell(pids, signal.SIGCONT)


def metric(node, name):
    with urllib.request.urlopen(f"http://127.0.0.1:{node.rest}/metrics", timeout=5) as answer:
        line = next(line for line in answer.read().decode().splitlines() if line.startswith(name + "{"))
    return float(line.rsplit(" ", 1)[1])


class Followers:
    """So many connections that follow the events, looked at by one thread."""

    def __init__(self, node, count):
        self.selector, self.sockets = selectors.DefaultSelector(), []
        for _ in range(count):
            s = socket.create_connection(("127.0.0.1", node.rest), timeout=30)
            s.sendall(b"GET /events?type=request HTTP/1.1\r\nHost: x\r\nAccept: text/event-stream\r\n\r\n")
            self.sockets.append(s)
        for s in self.sockets:
            head = b""
            while b"\r\n\r\n" not in head:
                head += s.recv(4096)
            if b" 200 " not in head.splitlines()[0]:
                raise SystemExit(f"bench: {head!r}")
            s.setblocking(False)
            self.selector.register(s, selectors.EVENT_READ)

    def until_all_have(self, word, seconds):
        """When the last of them had it, by the monotonic clock."""
        left, deadline = set(self.sockets), time.monotonic() + seconds
        while left and time.monotonic() < deadline:
            for key, _ in self.selector.select(1):
                if word in key.fileobj.recv(1 << 16):
                    left.discard(key.fileobj)
        if left:
            raise SystemExit(f"bench: {len(left)} of {len(self.sockets)} had no event after {seconds} s")
        return time.monotonic()

    def close(self):
        self.selector.close()
        for s in self.sockets:
            s.close()


def followers(c, note):
    node = c.primary()
    # memory that the requests before have left is there already
    time.sleep(2)
    before = node.usage()[1]
    all_of_them = Followers(node, FOLLOWERS)
    try:
        time.sleep(1)
        note("memory", node.usage()[1] - before)
        times, lease = [], []
        for _ in range(20):
            begun = time.monotonic()
            node.send("POST", "/sigterm", {})
            times.append((all_of_them.until_all_have(b"sigterm", 30) - begun) * 1000)
            lease.append(metric(node, "pgherd_lease_remaining_seconds"))
            time.sleep(1)
        note("all_have_it", statistics.median(times))
        note("all_have_it_max", max(times))
        note("lease", min(lease))
        note("memory_after", node.usage()[1] - before)
        found = wrk(node, "/primary", 1, 5, new=True)
        note("check_beside", found["p99"])
    finally:
        all_of_them.close()


def whole(c, seconds, note):
    c.start()
    c.settle()
    load(c, seconds, note)
    frozen(c, seconds, note)
    c.settle()
    if c.product == "pgherd":
        followers(c, note)


def row(cells):
    return "| " + " | ".join(cells) + " |"


def judged(value, wanted, form, least=False):
    good = value >= wanted if least else value <= wanted
    return f"{form.format(wanted)}: {'met' if good else 'missed'}"


def page(found, version, seconds):
    ours, theirs = found["pgherd"], found.get("Patroni", {})
    lines = ["# The REST API beside Patroni's", "",
             f"{datetime.date.today()}, Patroni {version}. `make bench-api` repeats it.", "",
             f"Machine: {machine()}. The nodes, etcd and the client (`wrk`, one thread) share its cores.", "",
             f"The leader of three nodes is asked for {seconds} s in each row. CPU is the agent's, from /proc. *New*: a connection for each "
             "request, as load balancers ask; *kept*: HTTP keep-alive, which Patroni does not offer: it closes after each answer.", "",
             row(["request", "connections", "requests/s", "Patroni", "p50, ms", "Patroni", "p99, ms", "Patroni", "CPU, µs each", "Patroni",
                  "CPU / Patroni's", "wanted"]), row(["---"] * 12)]
    for path in PATHS:
        for new in (True, False):
            for n in CONNECTIONS:
                a, b = ours[(path, new, n)], theirs.get((path, new, n))
                both_of = [text for key, form in (("rps", "{:.0f}"), ("p50", "{:.2f}"), ("p99", "{:.2f}"), ("cpu", "{:.1f}"))
                           for text in (form.format(a[key]), form.format(b[key]) if b else "-")]
                wanted = []
                if b:
                    share = a["cpu"] / b["cpu"]
                    wanted.append(judged(share, 0.15 if new else 0.10, "CPU ≤ {:.2f}"))
                    if new and n == 64:
                        wanted.append(judged(a["p99"] / b["p99"], 0.5, "p99 ≤ {:.1f} of Patroni's"))
                    if not new:
                        wanted.append(judged(a["rps"] / b["rps"], 15, "requests/s ≥ {:.0f} x", least=True))
                failed = "".join(f"; {who}: {x['failed']} failed" for who, x in (("pgherd", a), ("Patroni", b)) if x and x["failed"])
                share = f"{a['cpu'] / b['cpu']:.3f}" if b else "-"
                lines.append(row([f"{path}, {'new' if new else 'kept'}", str(n), *both_of, share, ", ".join(wanted) + failed]))
    lines += ["", "While PostgreSQL of the leader and etcd are frozen (SIGSTOP), 16 connections, a new one for each request:", "",
              row(["request", "p99, ms", "Patroni", "requests/s", "Patroni", "wanted"]), row(["---"] * 6)]
    for path in PATHS:
        a, b = ours[("frozen", path)], theirs.get(("frozen", path))
        told = [f"{a['p99']:.2f}", f"{b['p99']:.0f}" if b else "-", f"{a['rps']:.0f}", f"{b['rps']:.0f}" if b else "-"]
        failed = "".join(f"; {who}: {x['failed']} failed" for who, x in (("pgherd", a), ("Patroni", b)) if x and x["failed"])
        lines.append(row([path, *told, judged(a["p99"], 5, "≤ {:.0f} ms") + failed]))
    lines += ["", f"{FOLLOWERS} who follow the events of one node (pgherd alone; Patroni has no such thing):", "",
              row(["measure", "value", "wanted"]), row(["---"] * 3),
              row(["more memory with them, MiB", f"{ours['memory']:.1f}", judged(ours["memory"], 30, "≤ {:.0f}")]),
              row(["the same after 20 events, MiB", f"{ours['memory_after']:.1f}", judged(ours["memory_after"], 30, "≤ {:.0f}")]),
              row(["from the request until all have its event, ms: median of 20 (the slowest)",
                   f"{ours['all_have_it']:.0f} ({ours['all_have_it_max']:.0f})", judged(ours["all_have_it"], 100, "≤ {:.0f}")]),
              row([f"the shortest that the lease was still good for, s (ttl {TIMING[0]}, loop_wait {TIMING[1]})", f"{ours['lease']:.1f}",
                   judged(ours["lease"], TIMING[0] * 0.9 - TIMING[1] - 2, "≥ {:.0f}", least=True)]),
              row(["p99 of /primary beside them, ms", f"{ours['check_beside']:.2f}", "-"]), "",
              "The time until all have an event includes the client, one Python thread that reads all of them.", ""]
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pgherd", required=True)
    parser.add_argument("--patroni", required=True)
    parser.add_argument("--seconds", type=int, default=8)
    parser.add_argument("--alone", action="store_true", help="without Patroni")
    parser.add_argument("--save", action="store_true", help="write bench/RESULTS-api.md")
    arguments = parser.parse_args()
    wanted = FOLLOWERS + 200
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    # the agent inherits it: each who follows needs a descriptor on both sides
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(4 * wanted, hard)), hard))
    products = both(arguments.pgherd, arguments.patroni)
    if arguments.alone:
        del products["Patroni"]
    found = {}
    for product, command in products.items():
        values = found.setdefault(product, {})

        def note(key, value, product=product, values=values):
            values[key] = value
            say(f"{product}: {key} {json.dumps(value) if isinstance(value, dict) else round(value, 2)}")
        measured(product, command, TIMING, lambda c, note=note: whole(c, arguments.seconds, note))
    version = "left out" if arguments.alone else theirs_version(arguments.patroni)
    text = page(found, version, arguments.seconds)
    print(text)
    if arguments.save:
        with open("bench/RESULTS-api.md", "w") as f:
            f.write(text)


if __name__ == "__main__":
    main()
