"""One node in the virtual machine, and an etcd outside of it: what it says, and how it is started and hurt."""

import base64
import json
import os
import pathlib
import pwd
import signal
import sys
import urllib.request

from machine import eventually
from steps import check

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "bench"))
import servers  # noqa: E402

SCOPE, NAME = "watchdog", "n1"
TTL_S, MARGIN_S = 20, 5
TIMEOUT_S = TTL_S - MARGIN_S
DYNAMIC = {"ttl": TTL_S, "loop_wait": 2, "retry_timeout": 5}
# the first device
SYSFS = "/sys/class/watchdog/watchdog0"
# this machine, as the virtual one sees it
OUTSIDE = "10.0.2.2"


class Etcd(servers.Etcd):
    """It goes on when the virtual machine is reset, as the rest of a cluster would."""

    def ask(self, path, body):
        with urllib.request.urlopen(f"{self.url}/v3/{path}", json.dumps(body).encode(), timeout=2) as answer:
            return json.load(answer)

    def lease_left(self, key):
        """Seconds that the key still has; `None` if it is not there."""
        kvs = self.ask("kv/range", {"key": base64.b64encode(key.encode()).decode()}).get("kvs")
        return int(self.ask("lease/timetolive", {"ID": kvs[0]["lease"]}).get("TTL", 0)) if kvs else None

    def pause_the_cluster(self):
        """Maintenance mode, as another member would switch it on."""
        key = base64.b64encode(f"/service/{SCOPE}/config".encode()).decode()
        config = json.loads(base64.b64decode(self.ask("kv/range", {"key": key})["kvs"][0]["value"]))
        paused = json.dumps(config | {"pause": True}).encode()
        self.ask("kv/put", {"key": key, "value": base64.b64encode(paused).decode()})

    def pause(self):
        os.kill(self.process.pid, signal.SIGSTOP)

    def go_on(self):
        os.kill(self.process.pid, signal.SIGCONT)


class Node:
    def __init__(self, machine, etcd, home, program):
        self.machine, self.etcd, self.home, self.program = machine, etcd, home, program
        self.pid, self.rows = None, 0
        for mode in ["required", "automatic"]:
            (home / f"{mode}.yml").write_text(self.yaml(mode))
        self.busybox = f"{machine.tree}/bin/busybox"

    def yaml(self, mode):
        return f"""
scope: {SCOPE}
name: {NAME}
restapi: {{listen: "127.0.0.1:8008", connect_address: "127.0.0.1:8008"}}
etcd3: {{hosts: "{OUTSIDE}:{self.etcd.port}"}}
watchdog: {{mode: {mode}, device: /dev/watchdog, safety_margin: {MARGIN_S}}}
bootstrap:
  dcs: {json.dumps(DYNAMIC)}
  initdb: [{{encoding: UTF8}}, data-checksums]
postgresql:
  listen: 127.0.0.1:5432
  connect_address: 127.0.0.1:5432
  data_dir: /mnt/data
  bin_dir: {servers.bin_dir()}
  pgpass: /mnt/pgpass
  authentication:
    superuser: {{username: postgres, password: watchdog}}
    replication: {{username: replicator, password: watchdog}}
  parameters: {{unix_socket_directories: /mnt, shared_buffers: 16MB}}
  pg_hba:
    - local all all trust
    - host all all 127.0.0.1/32 scram-sha-256
    - host replication replicator 127.0.0.1/32 scram-sha-256
"""

    def device(self, module, parameters=""):
        """The device of this kind, for the agent's user."""
        self.machine.load(module, parameters)
        self.machine.run("chown postgres /dev/watchdog")

    def start(self, mode="required"):
        as_postgres = "setpriv --reuid=postgres --regid=postgres --init-groups env HOME=/mnt"
        self.pid = self.machine.run(f"cd /mnt; {as_postgres} {self.program} run {self.home}/{mode}.yml >>/mnt/agent.log 2>&1 & echo $!")

    def command(self, words):
        return self.machine.run(f"{self.program} -c {self.home}/required.yml {words}")

    def lines(self):
        """So many lines the agents have said."""
        return int(self.machine.run("wc -l </mnt/agent.log"))

    def await_log(self, text, since=0):
        def said():
            # a reset may leave bytes in it that are no text
            status, line = self.machine.attempt(f"tail -n +{since + 1} /mnt/agent.log | grep -a -m 1 \"{text}\"")
            return line if status == 0 else None
        return eventually(f"the agent says '{text}'", said)

    def lease_left(self):
        return self.etcd.lease_left(f"/service/{SCOPE}/leader")

    def psql(self, sql):
        return self.machine.attempt(f"{servers.bin_dir()}/psql -XAtq -h /mnt -U postgres -c '{sql}'")

    def write(self):
        """A commit that counts."""
        status, output = self.psql(f"INSERT INTO ledger VALUES ({self.rows + 1})")
        if status == 0:
            self.rows += 1
        return status == 0 or print(f"    {output}")

    def leads(self):
        return self.lease_left() and self.is_writable()

    def is_writable(self):
        return self.psql("SELECT pg_is_in_recovery()") == (0, "f")

    def await_leads(self):
        eventually("the node leads", self.leads)

    def has_kept(self):
        return self.psql("SELECT count(*) FROM ledger") == (0, str(self.rows))

    def state(self):
        return self.machine.read(f"{SYSFS}/state")

    def timeout(self):
        return int(self.machine.read(f"{SYSFS}/timeout"))

    def await_armed(self):
        eventually("the device is armed", lambda: self.state() == "active" and self.timeout() == TIMEOUT_S)

    def await_disarmed(self):
        eventually("the device is disarmed", lambda: self.state() == "inactive")

    def signal(self, name):
        """To agent and guard."""
        self.machine.run(f"{self.busybox} killall -{name} pgherd")

    def kill_everything(self):
        self.machine.run(f"{self.busybox} killall -KILL pgherd postgres")

    def pgherds(self):
        return self.machine.attempt(f"{self.busybox} pidof pgherd")[1].split()

    def terminate(self):
        self.machine.run(f"kill -TERM {self.pid}")
        eventually("agent and guard have ended", lambda: not self.pgherds())

    def is_quiet(self, seconds=TIMEOUT_S + 5):
        """So much time passes in the machine, longer than the timeout, and nothing resets it."""
        until = self.machine.uptime() + seconds
        eventually(f"{seconds} s pass", lambda: self.machine.uptime() >= until, every=1)
        check("nothing reset it", not self.machine.resets(), self.machine.resets())


def give_to_postgres():
    """The option that makes a file system the servers' user's."""
    user = pwd.getpwnam("postgres")
    return f"root_owner={user.pw_uid}:{user.pw_gid}"
