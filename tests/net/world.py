"""Three nodes and one member of etcd or three, each in a network namespace of its own, joined by a bridge in a fifth. What is cut vanishes: a
frame that was sent arrives nowhere, and nobody is told. Root makes the namespaces; servers and agents run as `postgres`.

The driver runs in the namespace of the bridge; a thread that shall see the network as a node does enters the node's."""

import base64
import ctypes
import json
import os
import pathlib
import signal
import subprocess
import sys
import urllib.request

import psycopg
from steps import waiting

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "bench"))
import servers  # noqa: E402

NODES = 3
SCOPE = "net"
PASSWORD = "net"
BRIDGE = "br0"
NETWORK = "10.77.0"
ETCD_ADDRESS = f"{NETWORK}.100"
# the places of its members, and where each is
ETCDS = {"etcd": ETCD_ADDRESS, "etcd2": f"{NETWORK}.101", "etcd3": f"{NETWORK}.102"}
# nobody has it: frames to it are delivered to nobody
NOWHERE = "02:00:00:00:00:ff"
CLONE_NEWNET = 0x40000000
DYNAMIC = {"ttl": 8, "loop_wait": 2, "retry_timeout": 2, "maximum_lag_on_failover": 1048576,
           "postgresql": {"use_pg_rewind": True, "use_slots": True, "parameters": {"wal_keep_size": "256MB", "wal_sender_timeout": "5s"}}}
EXPECTED = (OSError, psycopg.Error, KeyError, TypeError, ValueError)
eventually = waiting(90, 0.1, EXPECTED)
# TCP may wait two minutes before it tries again to send what got lost
patiently = waiting(300, 0.1, EXPECTED)


def ip(*arguments):
    subprocess.run(["ip", *arguments], check=True)


def enter(namespace):
    """Lets this thread make its connections in that namespace."""
    libc = ctypes.CDLL(None, use_errno=True)
    with open(f"/run/netns/{namespace}") as f:
        if libc.setns(f.fileno(), CLONE_NEWNET) != 0:
            raise OSError(ctypes.get_errno(), f"enter the namespace {namespace}")


class Network:
    """The namespaces; their names carry the number of the driver's process, so that runs do not meet."""

    def __init__(self, tag):
        self.tag, self.made = tag, []

    def name(self, what):
        return f"pgherd-{self.tag}-{what}"

    def make_hub(self):
        self.add("hub")
        ip("-n", self.name("hub"), "link", "add", BRIDGE, "type", "bridge")
        ip("-n", self.name("hub"), "addr", "add", f"{NETWORK}.254/24", "dev", BRIDGE)
        ip("-n", self.name("hub"), "link", "set", BRIDGE, "up")

    def add(self, what):
        ip("netns", "add", self.name(what))
        self.made.append(what)
        ip("-n", self.name(what), "link", "set", "lo", "up")

    def join(self, what, address):
        """One more namespace, on the bridge."""
        self.add(what)
        ip("-n", self.name("hub"), "link", "add", what, "type", "veth", "peer", "name", "eth0", "netns", self.name(what))
        ip("-n", self.name("hub"), "link", "set", what, "master", BRIDGE, "up")
        ip("-n", self.name(what), "addr", "add", f"{address}/24", "dev", "eth0")
        ip("-n", self.name(what), "link", "set", "eth0", "up")

    def cut(self, what):
        """Takes the cable out of the switch; its other end sees nothing of that."""
        ip("-n", self.name("hub"), "link", "set", what, "nomaster")

    def mend(self, what):
        ip("-n", self.name("hub"), "link", "set", what, "master", BRIDGE)

    def cut_way(self, what, address):
        """Whatever that namespace sends there gets lost; the other way stays open."""
        ip("-n", self.name(what), "neigh", "replace", address, "lladdr", NOWHERE, "nud", "permanent", "dev", "eth0")

    def mend_way(self, what, address):
        ip("-n", self.name(what), "neigh", "del", address, "dev", "eth0")

    def within(self, what, command):
        return ["ip", "netns", "exec", self.name(what), *command]

    def remove(self):
        for what in reversed(self.made):
            subprocess.run(["ip", "netns", "del", self.name(what)], check=False)
        self.made = []


class Node(servers.Node):
    def __init__(self, cluster, number):
        self.cluster, self.address, self.place = cluster, f"{NETWORK}.{number}", f"n{number}"
        super().__init__(cluster, number)

    def start(self):
        command = self.cluster.network.within(self.place, servers.unprivileged([self.cluster.program, "run", self.config]))
        with open(f"{self.home}/agent.log", "a") as log:
            self.agent = subprocess.Popen(command, stdout=log, stderr=log)

    def connect(self, user="postgres"):
        return psycopg.connect(host=self.address, port=self.port, user=user, password=PASSWORD, dbname="postgres", autocommit=True,
                               connect_timeout=2, options="-c statement_timeout=2000", tcp_user_timeout=2000)

    def lease_left(self):
        with urllib.request.urlopen(f"http://{self.address}:{self.rest}/metrics", timeout=2) as answer:
            lines = answer.read().decode().splitlines()
        return float(next(line for line in lines if line.startswith("pgherd_lease_remaining_seconds{")).split()[-1])

    def sql(self, text):
        with self.connect() as connection:
            return [row[0] for row in connection.execute(text).fetchall()]

    def end(self):
        if self.agent and self.agent.poll() is None:
            self.agent.terminate()
            try:
                self.agent.wait(30)
            except subprocess.TimeoutExpired:
                pass
        if self.agent:
            self.kill()


class Cluster:
    def __init__(self, home, program, network, members=1):
        self.home, self.program, self.network = home, program, network
        os.makedirs(home, exist_ok=True)
        self.members = dict(list(ETCDS.items())[:members])
        for place, address in self.members.items():
            network.join(place, address)
        self.etcds = {place: self.start_etcd(place) for place in self.members}
        self.nodes = []
        for number in range(1, NODES + 1):
            network.join(f"n{number}", f"{NETWORK}.{number}")
            self.nodes.append(Node(self, number))

    def start_etcd(self, place):
        url, peer = f"http://{self.members[place]}:2379", f"http://{self.members[place]}:2380"
        peers = ",".join(f"{name}=http://{address}:2380" for name, address in self.members.items())
        command = ["etcd", "--data-dir", f"{self.home}/{place}", "--name", place, "--listen-client-urls", url, "--advertise-client-urls", url,
                   "--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer, "--initial-cluster", peers]
        with open(f"{self.home}/{place}.log", "a") as log:
            return subprocess.Popen(self.network.within(place, command), stdout=log, stderr=log)

    def kill_etcd(self, place):
        self.etcds[place].kill()
        self.etcds[place].wait()

    def whole(self):
        """Could any member of etcd be lost now, and the others go on? Each serves, knows the others for reachable, and has nothing on
        its way to them that had to be sent again: what was lost while a cable was out takes TCP seconds to make good."""
        return all(self.serves(place) and self.reaches_all(place) for place in self.members)

    def serves(self, place):
        return json.loads(self.ask_etcd(place, "health"))["health"] == "true"

    def reaches_all(self, place):
        lines = self.ask_etcd(place, "metrics").splitlines()
        active = [line for line in lines if line.startswith("etcd_network_active_peers{") and line.endswith(" 1")]
        sockets = subprocess.run(self.network.within(place, ["ss", "-Htni", "state", "established"]), check=True, capture_output=True, text=True)
        return len(active) == len(self.members) - 1 and "backoff:" not in sockets.stdout

    def ask_etcd(self, place, path):
        with urllib.request.urlopen(f"http://{self.members[place]}:2379/{path}", timeout=2) as answer:
            return answer.read().decode()

    def yaml(self, node):
        hosts = ",".join(f"{address}:2379" for address in self.members.values())
        return f"""
scope: {SCOPE}
name: {node.name}
restapi: {{listen: "{node.address}:{node.rest}", connect_address: "{node.address}:{node.rest}"}}
etcd3: {{hosts: "{hosts}"}}
bootstrap:
  dcs: {json.dumps(DYNAMIC)}
  initdb: [{{encoding: UTF8}}, data-checksums]
postgresql:
  listen: "{node.address}:{node.port}"
  connect_address: "{node.address}:{node.port}"
  data_dir: {node.home}/data
  bin_dir: {servers.bin_dir()}
  pgpass: {node.home}/pgpass
  authentication:
    superuser: {{username: postgres, password: {PASSWORD}}}
    replication: {{username: replicator, password: {PASSWORD}}}
  parameters: {{unix_socket_directories: {node.home}, shared_buffers: 16MB}}
  pg_hba:
    - local all all trust
    - host all all {NETWORK}.0/24 scram-sha-256
    - host replication replicator {NETWORK}.0/24 scram-sha-256
"""

    def key(self, name):
        body = json.dumps({"key": base64.b64encode(f"/service/{SCOPE}/{name}".encode()).decode()}).encode()
        failed = None
        for address in self.members.values():
            try:
                with urllib.request.urlopen(f"http://{address}:2379/v3/kv/range", body, timeout=2) as answer:
                    kvs = json.load(answer).get("kvs")
                return base64.b64decode(kvs[0]["value"]).decode() if kvs else None
            except OSError as error:
                failed = error
        raise failed

    def leader(self):
        return next((node for node in self.nodes if node.name == self.key("leader")), None)

    def others(self, *nodes):
        return [node for node in self.nodes if node not in nodes]

    def streams_from(self, primary, nodes):
        names = set(primary.sql("SELECT application_name::text FROM pg_stat_replication WHERE state = 'streaming'"))
        return names >= {node.name for node in nodes}

    def complete(self):
        """The leader, once it is the primary and all others stream from it."""
        leader = self.leader()
        return leader if leader and leader.check("/primary") and self.streams_from(leader, self.others(leader)) else None

    def stop(self):
        for node in self.nodes:
            node.end()
        for etcd in self.etcds.values():
            etcd.send_signal(signal.SIGCONT)
            etcd.terminate()
        for etcd in self.etcds.values():
            etcd.wait()
