"""The servers of a measurement: etcd, and nodes with an agent and its PostgreSQL. They run as `postgres` when this runs as root."""

import base64
import http.client
import json
import os
import platform
import pwd
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request

TICKS = os.sysconf("SC_CLK_TCK")
# below the ports that the system gives to outgoing connections: a server that is started again finds its port free
PORTS = iter(range(30000, 32700))


def free_port():
    for port in PORTS:
        with socket.socket() as s:
            try:
                s.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise SystemExit("bench: no free port between 30000 and 32700")


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
    def __init__(self, home, name="bench", port=None, peer=None, peers=None):
        self.port, peer = port or free_port(), peer or free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        own = f"http://127.0.0.1:{peer}"
        self.command = ["etcd", "--data-dir", f"{home}/etcd", "--name", name, "--listen-client-urls", self.url, "--advertise-client-urls", self.url,
                        "--listen-peer-urls", own, "--initial-advertise-peer-urls", own, "--initial-cluster", peers or f"{name}={own}"]
        self.log = f"{home}/etcd.log"
        self.start()

    def start(self):
        with open(self.log, "a") as log:
            self.process = subprocess.Popen(self.command, stdout=log, stderr=subprocess.STDOUT)

    def leads(self):
        with urllib.request.urlopen(f"{self.url}/v3/maintenance/status", b"{}", timeout=2) as answer:
            status = json.load(answer)
        return status["leader"] == status["header"]["member_id"]

    def kill(self):
        self.process.kill()
        self.process.wait()

    def get(self, key):
        body = json.dumps({"key": base64.b64encode(key.encode()).decode()}).encode()
        with urllib.request.urlopen(f"{self.url}/v3/kv/range", body, timeout=2) as answer:
            kvs = json.load(answer).get("kvs")
        return base64.b64decode(kvs[0]["value"]).decode() if kvs else None

    def serves(self):
        try:
            return self.get("x") is None
        except OSError:
            return False

    def stop(self):
        self.process.terminate()
        self.process.wait()


class KeyWatch:
    """Remembers when a key was removed, on the monotonic clock: etcd tells it as it happens."""

    def __init__(self, etcd, key):
        self.removed = []
        self.connection = http.client.HTTPConnection("127.0.0.1", etcd.port, timeout=120)
        body = json.dumps({"create_request": {"key": base64.b64encode(key.encode()).decode()}})
        self.connection.request("POST", "/v3/watch", body)
        self.answer = self.connection.getresponse()
        if not json.loads(self.answer.readline())["result"].get("created"):
            raise SystemExit("bench: etcd does not let a key be watched")
        threading.Thread(target=self.read, daemon=True).start()

    def read(self):
        try:
            while line := self.answer.readline():
                at = time.monotonic()
                events = json.loads(line)["result"].get("events", [])
                self.removed += [at for event in events if event.get("type") == "DELETE"]
        except (OSError, ValueError, http.client.HTTPException):
            # stopped
            return

    def stop(self):
        self.connection.sock.shutdown(socket.SHUT_RDWR)


class Node:
    address = "127.0.0.1"

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
        with open(f"{self.home}/agent.log", "a") as log:
            self.agent = subprocess.Popen(unprivileged([*command, self.config]), stdout=log, stderr=subprocess.STDOUT)

    def check(self, path):
        try:
            with urllib.request.urlopen(f"http://{self.address}:{self.rest}{path}", timeout=2) as answer:
                return answer.status == 200
        except OSError:
            return False

    def send(self, method, path, body):
        request = urllib.request.Request(f"http://{self.address}:{self.rest}{path}", json.dumps(body).encode(), method=method)
        try:
            with urllib.request.urlopen(request, timeout=120) as answer:
                return answer.status
        except urllib.error.HTTPError as error:
            raise SystemExit(f"bench: {self.name}: {method} {path}: {error.code} {error.read().decode()}") from error

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

    def kill_postmaster(self):
        with open(f"{self.home}/data/postmaster.pid") as f:
            os.kill(int(f.readline()), signal.SIGKILL)

    def kill(self):
        """The death of the node: agent, guard and every process of PostgreSQL, at once."""
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


def machine():
    with open("/proc/cpuinfo") as f:
        model = next((line.split(":")[1].strip() for line in f if line.startswith("model name")), "unknown")
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return f"{os.cpu_count()} cores ({model}), {memory:.0f} GiB, Linux {platform.release()}, PostgreSQL {bin_dir().split('/')[-2]}, " + \
        subprocess.run(["etcd", "--version"], capture_output=True, text=True).stdout.splitlines()[0]


def theirs_version(site):
    command = ["env", f"PYTHONPATH={site}", sys.executable, "-m", "patroni", "--version"]
    return subprocess.run(command, capture_output=True, text=True).stdout.split()[-1]
