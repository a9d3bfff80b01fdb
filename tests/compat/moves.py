"""What steps have in common: moves from one settled cluster to another."""

import datetime
import json

from cluster import SCOPE, eventually
from steps import check


def led_by(c, node):
    """Lets a member lead, by whichever way is shortest."""
    if c.leader() is not node:
        c.ran("patronictl", "switchover", "--force", "--candidate", node.name, says="Successfully switched over")
    return c.settled(node)


def history_agrees(c):
    """Both command lines print the same history, it names the leader last, and every timeline is once in it, in order."""
    def agrees():
        theirs, ours = (c.run(tool, "history", "-f", "json")[1] for tool in ("patronictl", "pgherd"))
        rows, timeline = json.loads(theirs), c.leader().status()["timeline"]
        numbers = [row["TL"] for row in rows]
        return (rows == json.loads(ours) and numbers == sorted(set(numbers)) and numbers[-1] < timeline
                and rows[-1]["New Leader"] == c.leader().name and all(row["Timestamp"] and row["Reason"] for row in rows))
    eventually("history that both command lines print alike", agrees)


def promoted(c, leader, before):
    """What every promotion leaves: a higher timeline, its row in the history, no request, no pending checkpoint."""
    c.settled(leader)
    timeline = leader.status()["timeline"]
    check("the timeline grew", timeline > before, f"{before} to {timeline}")
    eventually("empty failover key", lambda: c.key("failover") in ({}, None))
    eventually("end of the checkpoint after the promotion", lambda: "checkpoint_after_promote" not in c.member(leader))
    history_agrees(c)


def hand_over(c, client, tool, command, candidate, *more):
    """A switchover or failover to a member, under load: no acknowledged row is lost."""
    before = c.leader().status()["timeline"]
    done = {"switchover": "Successfully switched over", "failover": "Successfully failed over"}[command]
    with client:
        c.ran(tool, command, "--force", "--candidate", candidate.name, *more, says=f'{done} to "{candidate.name}"')
        client.goes_on()
    promoted(c, candidate, before)
    client.kept()


def reload(c, node, tool, **tags):
    """Changes a member's tags in its settings; they are in force once the member key has them."""
    node.configure(**tags)
    c.ran(tool, "reload", SCOPE, node.name, "--force", says=f"Reload request received for member {node.name}")
    eventually(f"tags {tags} of {node.name}", lambda: c.member(node).get("tags", {}) == tags)


def started_at(node):
    return node.sql("SELECT pg_postmaster_start_time()")


def in_an_hour():
    return (datetime.datetime.now().astimezone() + datetime.timedelta(hours=1)).isoformat(timespec="seconds")
