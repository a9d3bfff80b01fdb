"""The watchdog on devices that reset a machine. What is shown: an armed device is pinged and fires if agent and guard do
not run any more, before another node could lead; what ends in order, and maintenance mode, disarm it, also one that was left armed; one that
cannot be disarmed is pinged on; a device that is required and missing keeps a node from leading."""

import argparse
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import time

from machine import Machine, eventually
from node import SCOPE, TIMEOUT_S, Etcd, Node, give_to_postgres, servers
from steps import Failed, check

LEADER = f"/service/{SCOPE}/leader"


def a_node_leads_with_a_required_device(node):
    node.device("i6300esb")
    node.start()
    node.await_leads()
    node.await_armed()
    check("it is writable", node.psql("CREATE TABLE ledger (n int)")[0] == 0 and node.write())
    print("    " + node.machine.run("cd /sys/class/watchdog/watchdog0 && grep . identity state timeout | tr '\\n' ' '"))


def pings_keep_it_from_firing(node):
    node.is_quiet()
    node.await_armed()
    check("it is writable", node.write())


def maintenance_mode_disarms_it(node):
    node.command("pause --wait")
    node.await_disarmed()
    node.is_quiet()
    check("it is writable", node.write())
    node.command("resume --wait")
    node.await_armed()


def a_planned_stop_disarms_it(node):
    node.terminate()
    check("the device is disarmed", node.state() == "inactive", node.state())
    node.is_quiet()
    node.start()
    node.await_leads()
    node.await_armed()


def without_etcd_the_fence_comes_first(node):
    """The device is set to fire after the fence, once, and disarmed when the fence has ended PostgreSQL."""
    node.etcd.pause()
    eventually("it is set to fire after the fence", lambda: node.timeout() < TIMEOUT_S)
    node.await_disarmed()
    check("PostgreSQL is not writable", not node.is_writable())
    node.is_quiet()
    node.etcd.go_on()
    node.await_leads()
    node.await_armed()


def an_agent_that_is_killed_and_comes_back_in_time_keeps_it(node):
    node.machine.run(f"kill -KILL {node.pid}")
    node.start()
    node.is_quiet()
    node.await_armed()
    check("it is writable", node.write())


def one_that_was_left_armed_is_disarmed_in_maintenance_mode(node):
    """Agent, guard and PostgreSQL die together, and the mode is on when the agent is back."""
    node.kill_everything()
    node.etcd.pause_the_cluster()
    check("the device is left armed", node.state() == "active", node.state())
    node.start()
    node.await_disarmed()
    node.is_quiet()
    check("PostgreSQL stays stopped", node.psql("SELECT 1")[0] != 0)
    node.command("resume --wait")
    node.await_leads()
    node.await_armed()
    check("every acknowledged row is there", node.has_kept(), node.psql("SELECT count(*) FROM ledger"))


def is_reset_in_time(node, event, harm):
    """The harm leaves PostgreSQL alone; the device resets the machine while nobody else can have the leader key. What was
    acknowledged until then is there after it has started again."""
    watch = servers.KeyWatch(node.etcd, LEADER)
    boots = node.machine.boots
    node.signal(harm)
    check("PostgreSQL goes on without its agent", node.write() and node.write())
    eventually("the machine is reset", node.machine.resets)
    left = node.lease_left()
    fired, what = node.machine.resets()[0]
    check(f"it is by {event}", what == event, what)
    check("the leader key is there", left is not None)
    eventually("the leader key lapses", lambda: watch.removed)
    check("it was there until then", watch.removed[0] > fired)
    print(f"    reset {watch.removed[0] - fired:.1f} s before the leader key lapsed")
    watch.stop()
    node.machine.await_boot(boots + 1)
    node.machine.events.clear()


def leads_again(node, module):
    node.device(module)
    node.start()
    node.await_leads()
    node.await_armed()
    check("every acknowledged row is there", node.has_kept(), node.psql("SELECT count(*) FROM ledger"))


def agent_and_guard_are_killed(node):
    is_reset_in_time(node, "WATCHDOG", "KILL")


def a_required_device_that_is_missing_keeps_the_node_from_leading(node):
    before = node.lines()
    node.start()
    print("    " + node.await_log("the watchdog /dev/watchdog is required and cannot be used: .*there is no such device", since=before))
    print("    " + node.await_log("Watchdog device is not usable", since=before))
    check("the node does not lead", node.lease_left() is None and not node.is_writable())


def it_leads_once_there_is_one(node):
    node.device("i6300esb")
    node.await_leads()
    node.await_armed()
    check("every acknowledged row is there", node.has_kept(), node.psql("SELECT count(*) FROM ledger"))


def agent_and_guard_are_stopped(node):
    is_reset_in_time(node, "WATCHDOG", "STOP")
    leads_again(node, "softdog")


def agent_and_guard_are_killed_with_softdog(node):
    print(f"    {node.machine.read('/sys/class/watchdog/watchdog0/identity')}")
    is_reset_in_time(node, "RESET", "KILL")


def an_automatic_one_that_is_missing_is_logged(node):
    before = node.lines()
    node.start("automatic")
    node.await_leads()
    print("    " + node.await_log("the watchdog /dev/watchdog is not used: .*there is no such device", since=before))
    check("it is writable", node.write())
    check("every acknowledged row is there", node.has_kept())


def one_with_nowayout_is_armed_and_the_log_says_what_that_means(node):
    before = node.lines()
    node.device("softdog", "nowayout=1")
    node.await_armed()
    print("    " + node.await_log("driver was loaded with nowayout: it resets this machine after a planned stop", since=before))


def in_maintenance_mode_it_is_pinged_on(node):
    before = node.lines()
    node.command("pause --wait")
    print("    " + node.await_log("the watchdog cannot be stopped: its driver was loaded with nowayout", since=before))
    node.is_quiet()
    check("it runs", node.state() == "active", node.state())
    check("it is writable", node.write())
    node.command("resume --wait")
    node.await_armed()


def an_agent_started_in_time_after_a_planned_stop_takes_it_over(node):
    node.terminate()
    before = node.lines()
    node.start("automatic")
    print("    " + node.await_log("was left armed", since=before))
    node.is_quiet()
    node.await_leads()
    check("it is writable", node.write())


def after_a_planned_stop_it_resets_the_machine_and_the_log_says_so(node):
    before, boots = node.lines(), node.machine.boots
    node.terminate()
    print("    " + node.await_log("cannot be stopped: it resets this machine in", since=before))
    eventually("the machine is reset", node.machine.resets)
    node.machine.await_boot(boots + 1)


STEPS = [
    a_node_leads_with_a_required_device,
    pings_keep_it_from_firing,
    agent_and_guard_are_killed,
    a_required_device_that_is_missing_keeps_the_node_from_leading,
    it_leads_once_there_is_one,
    a_planned_stop_disarms_it,
    maintenance_mode_disarms_it,
    without_etcd_the_fence_comes_first,
    an_agent_that_is_killed_and_comes_back_in_time_keeps_it,
    one_that_was_left_armed_is_disarmed_in_maintenance_mode,
    agent_and_guard_are_stopped,
    agent_and_guard_are_killed_with_softdog,
    an_automatic_one_that_is_missing_is_logged,
    one_with_nowayout_is_armed_and_the_log_says_what_that_means,
    in_maintenance_mode_it_is_pinged_on,
    an_agent_started_in_time_after_a_planned_stop_takes_it_over,
    after_a_planned_stop_it_resets_the_machine_and_the_log_says_so,
]


def play(tree, program, accelerator, steps):
    home = pathlib.Path(tempfile.mkdtemp(prefix="pgherd-watchdog-", dir="/var/tmp"))
    home.chmod(0o755)
    # the checkout may be unreadable for the user that the agent runs as
    shutil.copy(program, home / "pgherd")
    with open(home / "disk", "wb") as disk:
        disk.truncate(2 << 30)
    subprocess.run(["/usr/sbin/mkfs.ext4", "-q", "-E", give_to_postgres(), home / "disk"], check=True)
    etcd = machine = node = failed = None
    try:
        etcd = Etcd(home)
        eventually("etcd serves", etcd.serves, 30)
        machine = Machine(tree, home, accelerator)
        node = Node(machine, etcd, home, home / "pgherd")
        begun = time.monotonic()
        machine.await_boot(1)
        print(f"  {machine.run('uname -sr')} with {accelerator}, {time.monotonic() - begun:.0f} s", flush=True)
        for step in steps:
            begun = time.monotonic()
            print(f"  {step.__name__.replace('_', ' ')} ...", flush=True)
            step(node)
            print(f"    seen, {time.monotonic() - begun:.0f} s", flush=True)
    except Failed as error:
        failed = error
        if node and not machine.has_ended():
            (home / "agent.log").write_text(machine.attempt("tail -n 200 /mnt/agent.log; dmesg | tail -n 20")[1])
    finally:
        if machine:
            machine.stop()
        if etcd:
            etcd.go_on()
            etcd.stop()
    if failed:
        sys.exit(f"test-watchdog: {failed}; logs in {home}")
    shutil.rmtree(home)
    print(f"test-watchdog: {len(steps)} passed, 0 failed")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--program", required=True)
    parser.add_argument("--tree", required=True, type=pathlib.Path, help="where the packages are unpacked")
    parser.add_argument("--accelerator", default="tcg", help="QEMU's; kvm is faster where it works, tcg always does")
    arguments = parser.parse_args()
    # ended from outside, it still ends its machine
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("test-watchdog: ended from outside"))
    play(arguments.tree, arguments.program, arguments.accelerator, STEPS)


if __name__ == "__main__":
    main()
