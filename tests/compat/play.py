"""The life of a mixed cluster: one pgherd and two Patroni members, both command lines. Each step starts from a settled
cluster, says what it needs, and leaves a settled cluster behind."""

import argparse
import os
import shutil
import signal
import subprocess
import sys
import time

import leaders
import members
from cluster import Client, mixed, servers
from steps import Failed, check

STEPS = [
    members.the_cluster_of_patroni_forms,
    members.pgherd_joins_as_a_clone,
    members.both_command_lines_look_alike,
    leaders.patronictl_switches_over_to_pgherd_and_pgherd_back,
    leaders.failover_with_a_candidate_both_ways,
    leaders.switchover_without_a_candidate,
    leaders.leaders_end_in_good_order,
    leaders.a_patroni_leader_dies_and_pgherd_leads,
    leaders.the_pgherd_leader_dies_and_patroni_leads,
    leaders.a_patroni_leader_dies_and_anybody_leads,
    leaders.reserved_timelines_and_patroni,
    members.restarts,
    members.restarts_are_scheduled_and_taken_back,
    members.replicas_are_copied_anew,
    members.pause_and_resume,
    members.configuration_is_in_force_everywhere,
    members.patronis_minima_apply,
    members.nodes_are_swapped_in_place_and_back,
    leaders.switchovers_are_scheduled_and_taken_back,
    leaders.a_scheduled_switchover_takes_place,
    leaders.failsafe_holds_without_etcd,
]


def logs(c):
    for node in c.nodes:
        path = f"{node.home}/agent.log"
        if os.path.exists(path):
            with open(path, errors="replace") as log:
                print(f"--- {node.name} ({node.product}), end of {path}", "".join(log.readlines()[-25:]), sep="\n", file=sys.stderr)


def main():
    args = argparse.ArgumentParser(description=__doc__)
    args.add_argument("--pgherd", required=True)
    args.add_argument("--patroni", required=True, help="directory with Patroni and what it needs")
    args.add_argument("--only", nargs="*", default=[], help="steps whose names contain one of these, after the first two")
    args.add_argument("--keep-going", action="store_true", help="go on after a step that failed")
    args = args.parse_args()

    # ended from outside, it still ends its servers
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("compat: ended by SIGTERM"))
    check("pgherd is built", os.access(args.pgherd, os.X_OK), args.pgherd)
    version = servers.theirs_version(args.patroni)
    ours = subprocess.run([args.pgherd, "--version"], capture_output=True, text=True, check=True).stdout.strip()
    print(f"{ours} with two members of Patroni {version}; {servers.machine()}", flush=True)
    steps = [s for n, s in enumerate(STEPS) if n < 2 or not args.only or any(part in s.__name__ for part in args.only)]
    failed, client = [], None
    c = mixed(args.pgherd, args.patroni)
    try:
        for step in steps:
            began = time.monotonic()
            try:
                if "client" in step.__code__.co_varnames[:step.__code__.co_argcount]:
                    client = client or Client(c)
                    step(c, client)
                else:
                    step(c)
                print(f"ok      {time.monotonic() - began:6.1f} s  {step.__name__.replace('_', ' ')}", flush=True)
            except Exception as error:  # whatever it was, the step did not hold
                failed.append(step.__name__)
                print(f"FAILED  {time.monotonic() - began:6.1f} s  {step.__name__.replace('_', ' ')}: {error or repr(error)}", flush=True)
                if not args.keep_going:
                    break
    finally:
        if failed:
            logs(c)
        c.end()
        if failed:
            print(f"logs and data are in {c.home}", file=sys.stderr)
        else:
            shutil.rmtree(c.home, ignore_errors=True)
    if failed:
        sys.exit(f"compat: {len(failed)} of {len(steps)} steps failed")
    print(f"compat: {len(steps)} steps ok")


if __name__ == "__main__":
    try:
        main()
    except Failed as failure:
        sys.exit(f"compat: {failure}")
