"""Footprint and failover of pgherd beside Patroni: same machine, same run, same configuration file, alternating.

Footprint: resident memory and CPU time of the three agents of an idle cluster at default settings (ttl 30, loop_wait 10).
Failover: agent and PostgreSQL of the primary are killed; measured from the moment the leader key disappears from etcd to
the first acknowledged write on the new primary (ttl 20, Patroni's minimum, loop_wait 10).
"""

import argparse
import base64
import datetime
import json
import os
import platform
import pwd
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request

import psycopg

TICKS = os.sysconf("SC_CLK_TCK")
NODES = 3


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def unprivileged(command):
    if os.geteuid() != 0:
        return command
    return ["setpriv", "--reuid=postgres", "--regid=postgres", "--init-groups", "env", "HOME=/tmp", *command]


def give(path):
    if os.geteuid() == 0:
        user = pwd.getpwnam("postgres")
        os.chown(path, user.pw_uid, user.pw_gid)


def bin_dir():
    root = "/usr/lib/postgresql"
    newest = max((d for d in os.listdir(root) if os.path.exists(f"{root}/{d}/bin/postgres")), key=int)
    return f"{root}/{newest}/bin"


class Etcd:
    def __init__(self, home):
        self.port, peer = free_port(), free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        peers = f"http://127.0.0.1:{peer}"
        self.process = subprocess.Popen(
            ["etcd", "--data-dir", f"{home}/etcd", "--name", "bench", "--listen-client-urls", self.url, "--advertise-client-urls", self.url,
             "--listen-peer-urls", peers, "--initial-advertise-peer-urls", peers, "--initial-cluster", f"bench={peers}"],
            stdout=open(f"{home}/etcd.log", "w"), stderr=subprocess.STDOUT)

    def get(self, key):
        body = json.dumps({"key": base64.b64encode(key.encode()).decode()}).encode()
        with urllib.request.urlopen(f"{self.url}/v3/kv/range", body, timeout=2) as answer:
            kvs = json.load(answer).get("kvs")
        return base64.b64decode(kvs[0]["value"]).decode() if kvs else None

    def stop(self):
        self.process.terminate()
        self.process.wait()


class Node:
    def __init__(self, cluster, number):
        self.name = f"n{number}"
        self.home = f"{cluster.home}/{self.name}"
        os.mkdir(self.home)
        give(self.home)
        self.port, self.rest = free_port(), free_port()
        self.config = f"{self.home}/node.yml"
        with open(self.config, "w") as f:
            f.write(cluster.yaml(self))
        give(self.config)
        self.agent = None

    def start(self, command):
        self.agent = subprocess.Popen(unprivileged([*command, self.config]), stdout=open(f"{self.home}/agent.log", "w"), stderr=subprocess.STDOUT)

    def check(self, path):
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.rest}{path}", timeout=2) as answer:
                return answer.status == 200
        except OSError:
            return False

    def postgres_pids(self):
        found = []
        for pid in filter(str.isdigit, os.listdir("/proc")):
            try:
                if os.path.realpath(f"/proc/{pid}/cwd").startswith(f"{self.home}/data") and os.readlink(f"/proc/{pid}/exe").endswith("postgres"):
                    found.append(int(pid))
            except OSError:
                continue
        return found

    def guard_pids(self):
        """pgherd's guard process belongs to the node: it dies with it."""
        found = []
        for pid in filter(str.isdigit, os.listdir("/proc")):
            try:
                with open(f"/proc/{pid}/cmdline", "rb") as f:
                    words = f.read().decode().split("\0")
            except OSError:
                continue
            if "guard" in words and f"{self.home}/data" in words:
                found.append(int(pid))
        return found

    def kill(self):
        pids = self.guard_pids() + self.postgres_pids()
        for pid in [self.agent.pid, *pids]:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        self.agent.wait()

    def usage(self):
        with open(f"/proc/{self.agent.pid}/stat") as f:
            fields = f.read().rsplit(")", 1)[1].split()
        with open(f"/proc/{self.agent.pid}/status") as f:
            rss = next(int(line.split()[1]) for line in f if line.startswith("VmRSS"))
        return (int(fields[11]) + int(fields[12])) / TICKS, rss / 1024


class Cluster:
    def __init__(self, product, command, ttl, home):
        self.product, self.command, self.ttl, self.home = product, command, ttl, home
        self.etcd = Etcd(home)
        self.nodes = [Node(self, n) for n in range(1, NODES + 1)]
        for node in self.nodes:
            node.start(command)
        self.wait(lambda: self.complete(), 120, "cluster complete")

    def yaml(self, node):
        return f"""
scope: bench
name: {node.name}
restapi: {{listen: "127.0.0.1:{node.rest}", connect_address: "127.0.0.1:{node.rest}"}}
etcd3: {{hosts: "127.0.0.1:{self.etcd.port}"}}
bootstrap:
  dcs: {{ttl: {self.ttl}, loop_wait: 10, retry_timeout: {5 if self.ttl < 30 else 10}, maximum_lag_on_failover: 1048576}}
  initdb: [{{encoding: UTF8}}, data-checksums]
postgresql:
  listen: "127.0.0.1:{node.port}"
  connect_address: "127.0.0.1:{node.port}"
  data_dir: {node.home}/data
  bin_dir: {bin_dir()}
  pgpass: {node.home}/pgpass
  authentication:
    superuser: {{username: postgres, password: bench}}
    replication: {{username: replicator, password: bench}}
  parameters: {{unix_socket_directories: {node.home}, shared_buffers: 16MB}}
  pg_hba:
    - local all all trust
    - host all all 127.0.0.1/32 scram-sha-256
    - host replication replicator 127.0.0.1/32 scram-sha-256
"""

    def wait(self, condition, seconds, what):
        deadline = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > deadline:
                raise SystemExit(f"{self.product}: no '{what}' after {seconds} s; logs in {self.home}")
            time.sleep(0.1)

    def complete(self):
        roles = [("p" if n.check("/primary") else "r" if n.check("/replica?replication_state=streaming") else "-") for n in self.nodes]
        return roles.count("p") == 1 and roles.count("r") == NODES - 1

    def idle(self, seconds):
        before = [n.usage()[0] for n in self.nodes]
        time.sleep(seconds)
        after = [n.usage() for n in self.nodes]
        cpu = [(a[0] - b) * 60 / seconds for a, b in zip(after, before)]
        return max(cpu), max(a[1] for a in after)

    def failover(self):
        primary = next(n for n in self.nodes if n.check("/primary"))
        others = [n for n in self.nodes if n is not primary]
        first, stop = [], threading.Event()
        with self.connect(primary) as connection:
            connection.execute("CREATE TABLE IF NOT EXISTS bench (at timestamptz DEFAULT now())")
        time.sleep(1)
        primary.kill()
        threads = [threading.Thread(target=self.write_to, args=(n, first, stop)) for n in others]
        for thread in threads:
            thread.start()
        gone = None
        deadline = time.monotonic() + self.ttl + 60
        while not first and time.monotonic() < deadline:
            # the key may be back (a new leader) before this sees it gone
            if gone is None and self.etcd.get("/service/bench/leader") != primary.name:
                gone = time.monotonic()
            time.sleep(0.002)
        stop.set()
        for thread in threads:
            thread.join()
        if not first or gone is None:
            print(f"{self.product}: no new primary {self.ttl + 60} s after the death of the old one", file=sys.stderr)
            return float("inf")
        return min(first) - gone

    def write_to(self, node, first, stop):
        connection = None
        while not stop.is_set() and not first:
            try:
                connection = connection or self.connect(node)
                connection.execute("INSERT INTO bench DEFAULT VALUES")
                first.append(time.monotonic())
            except psycopg.errors.ReadOnlySqlTransaction:
                time.sleep(0.005)
            except psycopg.Error:
                connection = None
                time.sleep(0.005)

    def connect(self, node):
        return psycopg.connect(host="127.0.0.1", port=node.port, user="postgres", password="bench", dbname="postgres", autocommit=True, connect_timeout=2)

    def stop(self):
        for node in self.nodes:
            if node.agent.poll() is None:
                node.agent.send_signal(signal.SIGTERM)
        for node in self.nodes:
            try:
                node.agent.wait(30)
            except subprocess.TimeoutExpired:
                pass
            node.kill()
        self.etcd.stop()


def measured(product, command, ttl, measure):
    home = tempfile.mkdtemp(prefix="pgherd-bench-")
    os.chmod(home, 0o755)
    cluster = Cluster(product, command(home), ttl, home)
    try:
        return measure(cluster)
    finally:
        cluster.stop()
        shutil.rmtree(home, ignore_errors=True)


def machine():
    with open("/proc/cpuinfo") as f:
        model = next((line.split(":")[1].strip() for line in f if line.startswith("model name")), "unknown")
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return f"{os.cpu_count()} cores ({model}), {memory:.0f} GiB, Linux {platform.release()}, PostgreSQL {bin_dir().split('/')[-2]}, " + \
        subprocess.run(["etcd", "--version"], capture_output=True, text=True).stdout.splitlines()[0]


def theirs_version(site):
    command = ["env", f"PYTHONPATH={site}", sys.executable, "-m", "patroni", "--version"]
    return subprocess.run(command, capture_output=True, text=True).stdout.split()[-1]


def both(pgherd, patroni):
    """How each product's agent is started, given a directory that the servers' user can read."""

    def ours(home):
        # the checkout may be unreadable for the user that PostgreSQL runs as
        shutil.copy(pgherd, f"{home}/pgherd")
        return [f"{home}/pgherd", "run"]

    def theirs(home):
        site = shutil.copytree(patroni, f"{home}/site") if os.geteuid() == 0 else patroni
        return ["env", f"PYTHONPATH={site}", sys.executable, "-m", "patroni"]

    return {"pgherd": ours, "Patroni": theirs}


def main():
    args = argparse.ArgumentParser(description=__doc__)
    args.add_argument("--pgherd", required=True)
    args.add_argument("--patroni", required=True, help="directory with Patroni and what it needs")
    args.add_argument("--rounds", type=int, default=3)
    args.add_argument("--idle-seconds", type=int, default=120)
    args.add_argument("--save", action="store_true")
    args = args.parse_args()

    products = both(args.pgherd, args.patroni)
    idle = {name: measured(name, command, 30, lambda c: (time.sleep(30), c.idle(args.idle_seconds))[1]) for name, command in products.items()}
    failover = {name: [] for name in products}
    for _ in range(args.rounds):
        for name, command in products.items():
            failover[name].append(measured(name, command, 20, Cluster.failover))
    version = theirs_version(args.patroni)
    rows = [
        ("idle CPU, s per minute (highest of three agents)", *(idle[n][0] for n in products), "{:.3f}"),
        ("resident memory, MiB (highest of three agents)", *(idle[n][1] for n in products), "{:.1f}"),
        (f"leader key gone to first write, s (median of {args.rounds})", *(statistics.median(failover[n]) for n in products), "{:.3f}"),
        ("the same, slowest", *(max(failover[n]) for n in products), "{:.3f}"),
    ]
    out = [f"# {datetime.date.today()}: pgherd beside Patroni {version}", "", f"Machine: {machine()}", "",
           "| measure | pgherd | Patroni | pgherd / Patroni |", "| --- | --- | --- | --- |"]
    for what, a, b, form in rows:
        ratio = f"{a / b:.2f}" if b else "-"
        out.append(f"| {what} | {form.format(a)} | {form.format(b)} | {ratio} |")
    out += ["", f"Idle over {args.idle_seconds} s at ttl 30, loop_wait 10; failover at ttl 20, loop_wait 10. `make bench` repeats it."]
    text = "\n".join(out) + "\n"
    print(text)
    if args.save:
        os.makedirs("bench/results", exist_ok=True)
        with open(f"bench/results/{datetime.date.today()}.md", "w") as f:
            f.write(text)
    limits = [("idle CPU", idle["pgherd"][0], 0.05), ("memory", idle["pgherd"][1], 15), ("failover", statistics.median(failover["pgherd"]), 1)]
    broken = [f"{what}: {value:.3f} is over the limit of {limit}" for what, value, limit in limits if value > limit]
    if broken:
        sys.exit("\n".join(broken))


if __name__ == "__main__":
    main()
