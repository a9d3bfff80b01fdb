"""The clients of a measurement: one that writes to whichever node takes it and remembers every acknowledgement, and pgbench."""

import os
import signal
import subprocess
import threading
import time

import psycopg

from cluster import PASSWORD
from servers import bin_dir

# pauses: after an acknowledgement, after a look at a standby, after a connection that was refused or broke
AFTER_ACK_S = 0.002
AFTER_LOOK_S = 0.004
AFTER_FAILURE_S = 0.008


class Client:
    """Writes all the time; remembers when each write was acknowledged, on the monotonic clock, and by which node. A standby is
    only asked whether it is one: a refused write would be logged, and hundreds a second disturb what is measured."""

    def __init__(self, cluster):
        self.cluster, self.acks, self.end = cluster, [], threading.Event()
        with cluster.connect(cluster.primary()) as connection:
            connection.execute("CREATE TABLE IF NOT EXISTS bench (at timestamptz DEFAULT now())")
        self.threads = [threading.Thread(target=self.write, args=(node,)) for node in cluster.nodes]
        for thread in self.threads:
            thread.start()

    def write(self, node):
        connection, standby = None, True
        while not self.end.is_set():
            try:
                connection = connection or self.cluster.connect(node)
                standby = standby and connection.execute("SELECT pg_is_in_recovery()").fetchone()[0]
                if not standby:
                    connection.execute("INSERT INTO bench DEFAULT VALUES")
                    self.acks.append((time.monotonic(), node.name))
                time.sleep(AFTER_LOOK_S if standby else AFTER_ACK_S)
            except psycopg.Error:
                connection, standby = None, True
                time.sleep(AFTER_FAILURE_S)

    def stop(self):
        self.end.set()
        for thread in self.threads:
            thread.join()

    def longest_gap(self, since, until=float("inf")):
        """The longest time without an acknowledged write: its begin, its end, and who ended it."""
        acks = sorted(ack for ack in list(self.acks) if since <= ack[0] <= until)
        pairs = [(before, after, by) for (before, _), (after, by) in zip(acks, acks[1:])]
        return max(pairs, key=lambda pair: pair[1] - pair[0])

    def wait_for_write(self, after, seconds, by=None):
        """The first acknowledgement after that time, by one of these nodes if they are named."""
        deadline = time.monotonic() + seconds
        while True:
            found = [at for at, name in self.acks[-1000:] if at > after and (by is None or name in by)]
            if found:
                return min(found)
            if time.monotonic() > deadline:
                raise SystemExit(f"{self.cluster.product}: no write within {seconds} s; logs in {self.cluster.home}")
            time.sleep(0.01)


class Load:
    """pgbench on the primary, as fast as it can; it ends with the primary."""

    def __init__(self, cluster, node, clients):
        self.environment = {**os.environ, "PGPASSWORD": PASSWORD}
        self.where = ["-h", "127.0.0.1", "-p", str(node.port), "-U", "postgres", "postgres"]
        self.log = open(f"{cluster.home}/pgbench.log", "a")
        if cluster.ask(node, "SELECT to_regclass('pgbench_accounts')") is None:
            self.pgbench("-i", "-q", "-s", "10").wait()
        self.process = self.pgbench("-n", "-c", str(clients), "-j", "1", "-T", "600")

    def pgbench(self, *arguments):
        return subprocess.Popen([f"{bin_dir()}/pgbench", *arguments, *self.where], env=self.environment, stdout=self.log, stderr=self.log)

    def stop(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
        self.process.wait()
        self.log.close()
