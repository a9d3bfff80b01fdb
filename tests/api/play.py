"""Two single nodes, one whose API asks for a login and one whose API does not, and everything that schemathesis does to them."""

import argparse
import json
import os
import subprocess
import sys
import urllib.error
import urllib.request

import cluster as nodes
from cluster import measured
from with_login import LOGIN, WithLogin

TIMING = (20, 2, 5)
CHECKS = "status_code_conformance,content_type_conformance,response_schema_conformance,no_crash"


def say(text):
    print(f"test-api: {text}", flush=True)


def schemathesis(node, examples, *more):
    """True if it found nothing."""
    base = f"http://{node.address}:{node.rest}"
    command = [sys.executable, "-m", "schemathesis.cli", "run", f"{base}/openapi.json", "--url", base, "--checks", CHECKS,
               "--phases", "examples,coverage,fuzzing", "--max-examples", str(examples), "--request-timeout", "60",
               "--suppress-health-check", "all", "--generation-deterministic", "--continue-on-failure", *more]
    say(" ".join(command[3:]).replace(LOGIN[1], "***"))
    # it leaves files where it runs: there, where all of it is removed
    place = os.path.dirname(node.home)
    path = os.pathsep.join(os.path.abspath(directory) for directory in sys.path if directory)
    environment = {**os.environ, "SCHEMATHESIS_HOOKS": "checks", "PYTHONPATH": path}
    return subprocess.run(command, env=environment, cwd=place, check=False).returncode == 0


def status(node, method, path):
    request = urllib.request.Request(f"http://{node.address}:{node.rest}{path}", method=method)
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code


def lives(cluster):
    """The node went through all of it: the agent was never restarted, and it comes to rest as what it was."""
    node = cluster.nodes[0]
    # whatever configuration was written last, it leads
    node.send("PUT", "/config", {"ttl": TIMING[0], "loop_wait": TIMING[1], "retry_timeout": TIMING[2]})
    cluster.wait(lambda: node.agent.poll() is not None or node.check("/primary"), 60, "the node still leads")
    if node.agent.poll() is not None:
        raise SystemExit(f"test-api: the agent ended with {node.agent.returncode}; its log is in {node.home}")
    with open(f"{node.home}/agent.log") as log:
        panics = [line for line in log if "panicked" in line]
    if panics:
        raise SystemExit(f"test-api: {panics[0]}")


def document(cluster):
    with urllib.request.urlopen(f"http://127.0.0.1:{cluster.nodes[0].rest}/openapi.json", timeout=10) as answer:
        paths = json.load(answer)["paths"]
    return [(method.upper(), path) for path, item in paths.items() for method in item]


def open_node(cluster, examples):
    cluster.start()
    cluster.wait(lambda: cluster.nodes[0].check("/primary"), 60, "a primary")
    found_nothing = schemathesis(cluster.nodes[0], examples)
    lives(cluster)
    return found_nothing


def guarded_node(cluster, examples):
    cluster.start()
    node = cluster.nodes[0]
    cluster.wait(lambda: node.check("/primary"), 60, "a primary")
    changes = [(method, path) for method, path in document(cluster) if method not in ("GET", "HEAD", "OPTIONS")]
    wrong = [(method, path, code) for method, path in changes if (code := status(node, method, path)) != 401]
    if wrong or not changes:
        raise SystemExit(f"test-api: without a login not 401: {wrong}")
    say(f"{len(changes)} kinds of changes are refused without a login")
    return schemathesis(node, examples) and schemathesis(node, examples, "--auth", ":".join(LOGIN))


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pgherd", default=f"{os.environ.get('CARGO_TARGET_DIR', 'target')}/release/pgherd")
    parser.add_argument("--examples", type=int, default=25)
    arguments = parser.parse_args()
    nodes.NODES = 1
    command = nodes.both(arguments.pgherd, None)["pgherd"]
    good = measured("pgherd", command, TIMING, lambda cluster: open_node(cluster, arguments.examples))
    # `measured` makes a `Cluster`: from here on one of this kind
    nodes.Cluster = WithLogin
    good &= measured("pgherd", command, TIMING, lambda cluster: guarded_node(cluster, arguments.examples))
    if not good:
        sys.exit("test-api: the document and the server differ, see above")
    say("nothing that the document does not name, and no crash")


if __name__ == "__main__":
    main()
