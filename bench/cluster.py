"""A cluster of three nodes of one product, on one etcd, and how each product's agent is started."""

import atexit
import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time

import psycopg

from servers import Etcd, Node, bin_dir

NODES = 3
PASSWORD = "bench"


class Cluster:
    def __init__(self, product, command, timing, home):
        self.product, self.command, self.timing, self.home = product, command, timing, home
        self.etcd = Etcd(home)
        self.nodes = [Node(self, n) for n in range(1, NODES + 1)]
        self.wait(self.etcd.serves, 30, "etcd serves")

    def yaml(self, node):
        ttl, loop_wait, retry_timeout = self.timing
        return f"""
scope: bench
name: {node.name}
restapi: {{listen: "127.0.0.1:{node.rest}", connect_address: "127.0.0.1:{node.rest}"}}
etcd3: {{hosts: "127.0.0.1:{self.etcd.port}"}}
bootstrap:
  dcs:
    ttl: {ttl}
    loop_wait: {loop_wait}
    retry_timeout: {retry_timeout}
    maximum_lag_on_failover: 1048576
    postgresql: {{use_pg_rewind: true, use_slots: true, parameters: {{wal_keep_size: 512MB}}}}
  initdb: [{{encoding: UTF8}}, data-checksums]
postgresql:
  listen: "127.0.0.1:{node.port}"
  connect_address: "127.0.0.1:{node.port}"
  data_dir: {node.home}/data
  bin_dir: {bin_dir()}
  pgpass: {node.home}/pgpass
  authentication:
    superuser: {{username: postgres, password: {PASSWORD}}}
    replication: {{username: replicator, password: {PASSWORD}}}
  parameters: {{unix_socket_directories: {node.home}}}
  pg_hba:
    - local all all trust
    - host all all 127.0.0.1/32 scram-sha-256
    - host replication replicator 127.0.0.1/32 scram-sha-256
"""

    def start(self):
        for node in self.nodes:
            node.start(self.command)

    def wait(self, condition, seconds, what, step=0.1):
        deadline = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > deadline:
                raise SystemExit(f"{self.product}: no '{what}' after {seconds} s; logs in {self.home}")
            time.sleep(step)

    def complete(self):
        """The agents say that one leads and the others stream."""
        roles = [("p" if n.check("/primary") else "r" if n.check("/replica?replication_state=streaming") else "-") for n in self.nodes]
        return roles.count("p") == 1 and roles.count("r") == NODES - 1

    def settle(self):
        self.wait(self.complete, 120, "cluster complete")

    def primary(self):
        self.wait(lambda: any(n.check("/primary") for n in self.nodes), 120, "a primary")
        return next(n for n in self.nodes if n.check("/primary"))

    def replica(self):
        primary = self.primary()
        return next(n for n in self.nodes if n is not primary)

    def configure(self, change):
        """Changes the dynamic configuration of a running cluster, and lets every agent notice."""
        self.primary().send("PATCH", "/config", change)
        time.sleep(self.timing[1] + 1 if self.product == "Patroni" else 1)

    def connect(self, node):
        return psycopg.connect(host="127.0.0.1", port=node.port, user="postgres", password=PASSWORD, dbname="postgres", autocommit=True, connect_timeout=2)

    def ask(self, node, text):
        """One value from a node's PostgreSQL; None while it does not answer."""
        try:
            with self.connect(node) as connection:
                row = connection.execute(text).fetchone()
                return row and row[0]
        except psycopg.Error:
            return None

    def stop(self):
        for node in self.nodes:
            if node.agent and node.agent.poll() is None:
                node.agent.send_signal(signal.SIGTERM)
        for node in self.nodes:
            if node.agent:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    node.agent.wait(30)
                node.kill()
        self.etcd.stop()


def measured(product, command, timing, measure):
    """Makes a cluster (not started), measures it, and removes it; its logs stay when something could not be measured."""
    home = tempfile.mkdtemp(prefix="pgherd-bench-")
    os.chmod(home, 0o755)
    cluster = Cluster(product, command(home), timing, home)
    try:
        result = measure(cluster)
    finally:
        cluster.stop()
    if not os.environ.get("BENCH_KEEP"):
        give_back_space(home)
        atexit.register(shutil.rmtree, home, ignore_errors=True)
    return result


def give_back_space(home):
    """Empties the files and leaves their names until the end of the run. For a minute after a deletion ext4 does not use
    the inode again, and looks at each such inode whenever it makes a file: what one round deletes slows the next one's
    initdb and pg_basebackup down, by seconds after a few rounds."""
    for place, _, names in os.walk(home):
        for name in names:
            with contextlib.suppress(OSError):
                os.truncate(f"{place}/{name}", 0)


def both(pgherd, patroni):
    """How each product's agent is started, given a directory that the servers' user can read."""

    def ours(home):
        # the checkout may be unreadable for the user that PostgreSQL runs as
        shutil.copy(pgherd, f"{home}/pgherd")
        return [f"{home}/pgherd", "run"]

    def theirs(home):
        # with its compiled files, as where a package installs it
        site = shutil.copytree(patroni, f"{home}/site") if os.geteuid() == 0 else patroni
        return ["env", f"PYTHONPATH={site}", sys.executable, "-m", "patroni"]

    return {"pgherd": ours, "Patroni": theirs}
