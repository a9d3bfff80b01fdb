"""A cluster of pgherd and Patroni members on one etcd: nodes that can be started, stopped and killed, both command lines,
and waits with deadlines. Servers and agents run as `postgres` when this runs as root."""

import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import urllib.error
import urllib.request

import psycopg
from steps import Failed, check, waiting

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "bench"))
import servers  # noqa: E402

SCOPE = "mixed"
# Patroni's minimum for the ttl; a short loop, so that its members look often
DYNAMIC = {"ttl": 20, "loop_wait": 3, "retry_timeout": 5, "maximum_lag_on_failover": 1048576,
           "postgresql": {"use_pg_rewind": True, "use_slots": True, "parameters": {"wal_keep_size": "256MB"}}}
PASSWORD = "compat"
eventually = waiting(90, 0.2, (OSError, psycopg.Error, KeyError, TypeError, ValueError, subprocess.SubprocessError))


class Node(servers.Node):
    """One member: product, agent, PostgreSQL."""

    def __init__(self, cluster, number, product):
        self.cluster, self.product, self.tags = cluster, product, {}
        super().__init__(cluster, number)

    def configure(self, **tags):
        """Writes the settings again, with these tags."""
        self.tags = tags
        with open(self.config, "w") as f:
            f.write(self.cluster.yaml(self))

    def start(self):
        with open(f"{self.home}/agent.log", "a") as log:
            self.agent = subprocess.Popen(servers.unprivileged([*self.cluster.commands[self.product], self.config]),
                                          stdout=log, stderr=subprocess.STDOUT)

    def terminate(self):
        """An orderly end of the agent, which takes its PostgreSQL along."""
        self.agent.send_signal(signal.SIGTERM)
        self.agent.wait(60)

    def end(self):
        if self.agent and self.agent.poll() is None:
            self.agent.send_signal(signal.SIGTERM)
            try:
                self.agent.wait(30)
            except subprocess.TimeoutExpired:
                pass
        if self.agent:
            self.kill()

    def connect(self, **more):
        where = {"host": "127.0.0.1", "port": self.port, "connect_timeout": 3, **more}
        return psycopg.connect(user="postgres", password=PASSWORD, dbname="postgres", autocommit=True, **where)

    def sql(self, text, **more):
        with self.connect(**more) as connection:
            return connection.execute(text).fetchone()[0]

    def status(self):
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.rest}/patroni", timeout=3) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            return json.load(error)

    def program(self, *arguments):
        """Runs one of PostgreSQL's programs as the user that owns the data."""
        subprocess.run(servers.unprivileged([f"{servers.bin_dir()}/{arguments[0]}", *arguments[1:]]),
                       check=True, capture_output=True, text=True, timeout=90)

    def diverge(self):
        """Starts the dead primary's data alone, reachable by nobody else, and commits a row that no one else has."""
        data, log = f"{self.home}/data", f"{self.home}/diverge.log"
        self.program("pg_ctl", "-D", data, "-l", log, "-w", "-t", "60", "-o",
                     f"-c listen_addresses= -c port={self.port} -c archive_mode=off -c synchronous_standby_names=", "start")
        try:
            check("the dead primary's data are a primary's", self.sql("SELECT NOT pg_is_in_recovery()", host=self.home))
            self.sql("INSERT INTO lost VALUES (1) RETURNING n", host=self.home)
        finally:
            self.program("pg_ctl", "-D", data, "-m", "immediate", "-w", "stop")


class Mixed:
    """Two Patroni members and one of pgherd."""

    def __init__(self, home, pgherd, site):
        self.home, self.etcd = home, servers.Etcd(home)
        self.commands = {"pgherd": [pgherd, "run"], "Patroni": ["env", f"PYTHONPATH={site}", sys.executable, "-m", "patroni"]}
        self.tools = {"pgherd": [pgherd], "patronictl": ["env", f"PYTHONPATH={site}", sys.executable, f"{site}/bin/patronictl"]}
        self.nodes = [Node(self, 1, "Patroni"), Node(self, 2, "Patroni"), Node(self, 3, "pgherd")]

    def yaml(self, node):
        tags = json.dumps(node.tags)
        return f"""
scope: {SCOPE}
name: {node.name}
restapi:
  listen: "127.0.0.1:{node.rest}"
  connect_address: "127.0.0.1:{node.rest}"
  authentication: {{username: operator, password: {PASSWORD}}}
etcd3: {{hosts: "127.0.0.1:{self.etcd.port}"}}
bootstrap:
  dcs: {json.dumps(DYNAMIC)}
  initdb: [{{encoding: UTF8}}, data-checksums]
postgresql:
  listen: "127.0.0.1:{node.port}"
  connect_address: "127.0.0.1:{node.port}"
  data_dir: {node.home}/data
  bin_dir: {servers.bin_dir()}
  pgpass: {node.home}/pgpass
  authentication:
    superuser: {{username: postgres, password: {PASSWORD}}}
    replication: {{username: replicator, password: {PASSWORD}}}
  parameters: {{unix_socket_directories: {node.home}, shared_buffers: 16MB}}
  pg_hba:
    - local all all trust
    - host all all 127.0.0.1/32 scram-sha-256
    - host replication replicator 127.0.0.1/32 scram-sha-256
tags: {tags}
"""

    def key(self, name):
        """A key's value: JSON where it is JSON, None without the key."""
        text = self.etcd.get(f"/service/{SCOPE}/{name}")
        try:
            return json.loads(text)
        except (TypeError, ValueError):
            return text

    def member(self, node):
        return self.key(f"members/{node.name}") or {}

    def leader(self):
        return next((n for n in self.nodes if n.name == self.key("leader")), None)

    def run(self, tool, *arguments, seconds=150):
        """Runs a command of one of the two command lines; gives its exit code and all it printed."""
        # both take the cluster and the DCS from a member's own file
        done = subprocess.run([*self.tools[tool], "-c", self.nodes[0].config, *arguments],
                              capture_output=True, text=True, timeout=seconds, stdin=subprocess.DEVNULL)
        return done.returncode, done.stdout + done.stderr

    def ran(self, tool, *arguments, says, seconds=150):
        """The same, for a command that must succeed and print something."""
        code, text = self.run(tool, *arguments, seconds=seconds)
        check(f"`{tool} {' '.join(arguments)}` ends with 0 and says '{says}'", code == 0 and says in text, f"{code}: {text}")
        return text

    def listed(self, tool):
        code, text = self.run(tool, "list", "-f", "json")
        check(f"`{tool} list -f json` ends with 0", code == 0, text)
        return {row["Member"]: row for row in json.loads(text)}

    def settled(self, leader=None, seconds=120):
        """Waits until one member leads (that one, if given), the others stream from it, and both command lines, the health
        checks and the keys agree about it. Gives the leader."""
        last = {}

        def agreed():
            now = self.leader()
            if now is None or (leader and now is not leader):
                last["why"] = f"leader key: {now and now.name}"
                return None
            for tool in self.tools:
                rows = self.listed(tool)
                last["why"] = f"{tool}: {rows}"
                for node in self.nodes:
                    row = rows[node.name]
                    shape = (row["Role"], row["State"], row["TL"])
                    wanted = ("Leader", "running", rows[now.name]["TL"]) if node is now else ("Replica", "streaming", rows[now.name]["TL"])
                    if shape != wanted or (node is not now and (row.get("Replay Lag"), row.get("Receive Lag")) != (0, 0)):
                        return None
            for node in self.nodes:
                last["why"] = f"health checks of {node.name}"
                if node.check("/primary") != (node is now) or node.check("/replica?lag=16MB") == (node is now):
                    return None
                last["why"] = f"recovery and timeline of {node.name}"
                if node.sql("SELECT pg_is_in_recovery()") == (node is now):
                    return None
            last["why"] = "streams at the leader"
            streaming = {"SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming'": len(self.nodes) - 1}
            return now if all(now.sql(text) == count for text, count in streaming.items()) else None

        try:
            return eventually("settled cluster" + (f" with {leader.name} leading" if leader else ""), agreed, seconds)
        except Failed as failed:
            raise Failed(f"{failed}; {last.get('why')}") from None

    def end(self):
        for node in self.nodes:
            node.end()
        self.etcd.stop()


class Client:
    """Writes numbered rows through whoever is primary, on its own thread, and remembers which were acknowledged."""

    def __init__(self, cluster):
        self.cluster, self.acknowledged, self.next = cluster, [], 1
        with cluster.leader().connect() as connection:
            connection.execute("CREATE TABLE IF NOT EXISTS ledger (n int PRIMARY KEY)")
            connection.execute("CREATE TABLE IF NOT EXISTS lost (n int)")

    def __enter__(self):
        self.stop = threading.Event()
        self.thread = threading.Thread(target=self.write, daemon=True)
        self.thread.start()
        start = len(self.acknowledged)
        eventually("first acknowledged rows", lambda: len(self.acknowledged) > start + 10)
        return self

    def __exit__(self, *_):
        self.stop.set()
        self.thread.join(30)

    def write(self):
        ports = ",".join(str(n.port) for n in self.cluster.nodes)
        hosts = ",".join("127.0.0.1" for _ in self.cluster.nodes)
        while not self.stop.is_set():
            try:
                with psycopg.connect(host=hosts, port=ports, user="postgres", password=PASSWORD, dbname="postgres", autocommit=True,
                                     target_session_attrs="read-write", connect_timeout=3) as connection:
                    while not self.stop.wait(0.01):
                        number, self.next = self.next, self.next + 1
                        connection.execute("INSERT INTO ledger VALUES (%s)", [number])
                        self.acknowledged.append(number)
            except psycopg.Error:
                self.stop.wait(0.1)

    def goes_on(self):
        """The writer gets through again."""
        start = len(self.acknowledged)
        eventually("rows acknowledged by the new primary", lambda: len(self.acknowledged) > start + 10)

    def kept(self):
        """Every acknowledged row is on every member, and none has a row of the diverged data."""
        for node in self.cluster.nodes:
            def all_there():
                with node.connect() as connection:
                    rows = {n for (n,) in connection.execute("SELECT n FROM ledger")}
                missing = set(self.acknowledged) - rows
                return not missing and node.sql("SELECT count(*) FROM lost") == 0
            eventually(f"all acknowledged rows on {node.name}, and none of the diverged", all_there)


def mixed(pgherd, site):
    """A new cluster in a directory of its own, with copies of both products where the servers' user can read them."""
    home = tempfile.mkdtemp(prefix="pgherd-compat-")
    os.chmod(home, 0o755)
    shutil.copy(pgherd, f"{home}/pgherd")
    if os.geteuid() == 0:
        site = shutil.copytree(site, f"{home}/site")
    return Mixed(home, f"{home}/pgherd", site)
