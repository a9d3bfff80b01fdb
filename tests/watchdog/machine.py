"""A virtual machine with watchdog devices: QEMU, a kernel and busybox from an unpacked tree of packages, the root of this
machine read-only, and a disk that outlives a reset. Commands go over a serial line, what happens to it comes over QMP."""

import base64
import json
import os
import pathlib
import re
import socket
import subprocess
import threading
import time

from steps import check, waiting

HERE = pathlib.Path(__file__).resolve().parent
# what it needs before it has the other machine's files, dependencies left out
MODULES = ["virtio_pci", "9pnet_virtio", "9p", "virtio_blk", "crc32c_generic", "ext4", "virtio_net"]
# everything is emulated
PATIENCE_S = 240
eventually = waiting(PATIENCE_S, 0.3, (OSError, KeyError, ValueError))


def connect(path):
    """A connection to a socket that QEMU makes when it starts."""
    line = socket.socket(socket.AF_UNIX)
    eventually(f"QEMU listens at {path}", lambda: line.connect_ex(path) == 0, 30)
    return line


def until_its_end(read):
    """Reads from a machine that may end at any time."""
    try:
        read()
    except ConnectionResetError:
        return


class Kernel:
    """The kernel in the tree, and its modules."""

    def __init__(self, tree):
        self.image = next((tree / "boot").glob("vmlinuz-*"))
        self.files = {path.stem.replace("-", "_"): path for path in (tree / "lib/modules").rglob("*.ko")}

    def with_dependencies(self, names):
        """These modules in an order in which they can be loaded."""
        order = {}
        for name in names:
            needed = re.search(rb"\0depends=([^\0]*)\0", b"\0" + self.files[name].read_bytes()).group(1).decode()
            order |= self.with_dependencies(filter(None, needed.replace("-", "_").split(",")))
            order[name] = self.files[name]
        return order


def initial_files(tree, kernel, home):
    """What the kernel starts with: busybox, modules and `init`, as an archive."""
    place = home / "initial"
    for folder in ["bin", "modules"]:
        (place / folder).mkdir(parents=True)
    (place / "bin/busybox").write_bytes((tree / "bin/busybox").read_bytes())
    (place / "init").write_bytes((HERE / "init").read_bytes())
    for program in ["bin/busybox", "init"]:
        (place / program).chmod(0o755)
    modules = kernel.with_dependencies(MODULES)
    for path in modules.values():
        (place / "modules" / path.name).write_bytes(path.read_bytes())
    (place / "modules/order").write_text("".join(f"{path.name}\n" for path in modules.values()))
    names = "".join(f"{path.relative_to(place)}\n" for path in sorted(place.rglob("*")))
    archive = subprocess.run([tree / "bin/busybox", "cpio", "-o", "-H", "newc"], cwd=place, input=names.encode(), capture_output=True, check=True).stdout
    (home / "initial.cpio").write_bytes(archive)
    return home / "initial.cpio"


class Machine:
    def __init__(self, tree, home, accelerator):
        self.tree, self.home, self.kernel = tree, home, Kernel(tree)
        # when what happened, on the monotonic clock
        self.events, self.boots, self.number, self.answers = [], 0, 0, {}
        self.process = subprocess.Popen(self.command(accelerator), env=self.environment(), stdout=open(home / "qemu.log", "w"), stderr=subprocess.STDOUT)
        self.line = connect(f"{home}/line")
        self.monitor = connect(f"{home}/monitor").makefile("rw")
        self.monitor.write('{"execute": "qmp_capabilities"}\n')
        self.monitor.flush()
        for read in [self.read_line, self.read_monitor]:
            threading.Thread(target=until_its_end, args=(read,), daemon=True).start()

    def environment(self):
        libraries = [f"{self.tree}{place}/x86_64-linux-gnu" for place in ["/usr/lib", "/lib"]]
        return os.environ | {"LD_LIBRARY_PATH": ":".join(libraries), "QEMU_MODULE_DIR": f"{libraries[0]}/qemu"}

    def command(self, accelerator):
        share = f"{self.tree}/usr/share"
        return [f"{self.tree}/usr/bin/qemu-system-x86_64", "-L", f"{share}/qemu", "-L", f"{share}/seabios",
                "-nodefaults", "-display", "none", "-accel", accelerator, "-smp", "1", "-m", "1024",
                "-kernel", str(self.kernel.image), "-initrd", str(initial_files(self.tree, self.kernel, self.home)),
                "-append", "console=ttyS0 panic=-1",
                "-serial", f"file:{self.home}/console.log", "-serial", f"unix:{self.home}/line,server=on,wait=off",
                "-qmp", f"unix:{self.home}/monitor,server=on,wait=off",
                "-fsdev", "local,id=root,path=/,security_model=none,readonly=on,multidevs=remap", "-device", "virtio-9p-pci,fsdev=root,mount_tag=machine",
                "-drive", f"file={self.home}/disk,format=raw,if=virtio",
                "-netdev", "user,id=net", "-device", "virtio-net-pci,netdev=net,romfile=",
                "-device", "i6300esb", "-watchdog-action", "reset"]

    def read_line(self):
        for text in self.line.makefile("rb"):
            words = text.decode(errors="replace").split()
            if words == ["ready"]:
                self.boots += 1
            elif len(words) in (2, 3) and words[0].isdigit():
                self.answers[int(words[0])] = int(words[1]), base64.b64decode("".join(words[2:])).decode(errors="replace").strip()

    def read_monitor(self):
        for text in self.monitor:
            said = json.loads(text)
            if "event" in said:
                self.events.append((time.monotonic(), said["event"]))

    def has_ended(self):
        return self.process.poll() is not None

    def await_boot(self, number):
        """Waits until it has started so many times."""
        eventually(f"the machine has booted, see {self.home}/console.log and qemu.log", lambda: self.has_ended() or self.boots >= number)
        check("QEMU runs", not self.has_ended(), (self.home / "qemu.log").read_text())
        check("there was no other boot", self.boots == number, self.boots)

    def attempt(self, command):
        """Runs a command there: its status and output."""
        self.number += 1
        number, boots = self.number, self.boots
        self.line.sendall(f"{number} {command}\n".encode())
        eventually(f"an answer to '{command}'", lambda: number in self.answers or self.boots != boots, 90)
        return self.answers.pop(number, (None, "the machine was reset"))

    def run(self, command):
        status, output = self.attempt(command)
        check(f"'{command}' succeeds", status == 0, output)
        return output

    def read(self, path):
        return self.run(f"cat {path}")

    def load(self, module, parameters=""):
        """Loads a module of the kernel there, unless it is."""
        busybox = f"{self.tree}/bin/busybox"
        for name, path in self.kernel.with_dependencies([module]).items():
            given = parameters if name == module else ""
            self.run(f"test -e /sys/module/{name} || {busybox} insmod {path} {given}")

    def uptime(self):
        return float(self.read("/proc/uptime").split()[0])

    def resets(self):
        """What reset it since, and when."""
        return [(at, event) for at, event in self.events if event in ("WATCHDOG", "RESET", "SHUTDOWN")]

    def stop(self):
        self.process.terminate()
        self.process.wait(30)
