"""Requests to an agent's REST API, made by `ab` (of Apache: it takes an answer that ends with its connection for one, as Patroni's do),
and those who follow its events."""

import math
import re
import selectors
import socket
import subprocess
import tempfile
import time

# more than are answered in the time that a measurement takes; `ab` keeps notes of each
REQUESTS_MAX = 1_000_000
# who has not answered by then is given up
ANSWER_S = 10


def ask(node, path, connections, seconds, new):
    """Requests per second, p50 and p99 in ms (with the time it takes to connect), CPU of the agent per request in µs, and failures:
    what was not answered, or with another status than 200. `new`: a connection for each request."""
    with tempfile.TemporaryDirectory() as place:
        csv = f"{place}/percentiles.csv"
        # -l: each answer may have another length; -n must follow -t
        command = ["ab", "-q", "-l", "-r", "-d", "-s", str(ANSWER_S), "-t", str(seconds), "-n", str(REQUESTS_MAX), "-c", str(connections),
                   "-e", csv, *([] if new else ["-k"]), f"http://127.0.0.1:{node.rest}{path}"]
        before = node.usage()[0]
        run = subprocess.run(command, capture_output=True, text=True, timeout=seconds + 2 * ANSWER_S)
        cpu = node.usage()[0] - before

        def said(pattern, otherwise):
            found = re.search(pattern, run.stdout)
            return float(found[1]) if found else otherwise
        done = said(r"Complete requests:\s+(\d+)", 0)
        failed = said(r"Failed requests:\s+(\d+)", 0) + said(r"Non-2xx responses:\s+(\d+)", 0)
        if not done:
            return {"rps": 0, "p50": math.inf, "p99": math.inf, "cpu": math.inf, "failed": 0}
        with open(csv) as f:
            percentiles = dict(line.strip().split(",") for line in f)
    return {"rps": done / said(r"Time taken for tests:\s+([\d.]+)", seconds), "p50": float(percentiles["50"]), "p99": float(percentiles["99"]),
            "cpu": cpu / done * 1e6, "failed": failed}


class Followers:
    """So many connections that follow the events of a kind, looked at by one thread."""

    def __init__(self, node, count, kind):
        self.selector, self.sockets = selectors.DefaultSelector(), []
        for _ in range(count):
            s = socket.create_connection(("127.0.0.1", node.rest), timeout=30)
            s.sendall(f"GET /events?type={kind} HTTP/1.1\r\nHost: x\r\nAccept: text/event-stream\r\n\r\n".encode())
            self.sockets.append(s)
        for s in self.sockets:
            head = b""
            while b"\r\n\r\n" not in head:
                received = s.recv(4096)
                if not received:
                    raise SystemExit(f"bench: a connection to follow events was closed after {head!r}")
                head += received
            if b" 200 " not in head.splitlines()[0]:
                raise SystemExit(f"bench: {head!r}")
            s.setblocking(False)
            self.selector.register(s, selectors.EVENT_READ)

    def until_all_have(self, word, seconds):
        """When the last of them had it, by the monotonic clock."""
        left, deadline = set(self.sockets), time.monotonic() + seconds
        while left and time.monotonic() < deadline:
            for key, _ in self.selector.select(1):
                received = key.fileobj.recv(1 << 16)
                if not received:
                    raise SystemExit("bench: a connection that followed events was closed")
                if word in received:
                    left.discard(key.fileobj)
        if left:
            raise SystemExit(f"bench: {len(left)} of {len(self.sockets)} had no event after {seconds} s")
        return time.monotonic()

    def close(self):
        self.selector.close()
        for s in self.sockets:
            s.close()
