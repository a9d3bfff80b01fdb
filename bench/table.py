"""The page that a measurement prints: one row a measure, medians and the slowest of both products, and what was wanted."""

import datetime
import statistics

from cluster import NODES
from servers import machine


class Measure:
    """One row. `wanted` is a limit in the row's unit; `of_theirs` a limit as a share of Patroni's median, and `more` what
    may be added to it."""

    def __init__(self, key, text, form="{:.2f}", wanted=None, of_theirs=None, more=0.0):
        self.key, self.text, self.form = key, text, form
        self.wanted, self.of_theirs, self.more = wanted, of_theirs, more

    def limit_told(self):
        told = [] if self.wanted is None else [f"≤ {self.wanted:g}"]
        if self.of_theirs is not None:
            share = "Patroni's" if self.of_theirs == 1 else f"{self.of_theirs:g} of Patroni's"
            told.append(f"≤ {share}" + (f" + {self.more:g}" if self.more else ""))
        return ", ".join(told) or "-"

    def missed(self, ours, theirs):
        over = self.wanted is not None and ours > self.wanted
        return over or (self.of_theirs is not None and theirs is not None and ours > theirs * self.of_theirs + self.more)


MEASURES = [
    Measure("switchover", "switchover, idle: longest time without a write, s", wanted=0.5, of_theirs=0.25),
    Measure("loaded", "switchover under pgbench: longest time without a write, s", wanted=0.5, of_theirs=0.25),
    Measure("restart", "restart of the primary by REST: longest time without a write, s"),
    Measure("crash", "postmaster killed: to the first write on the same node, s", wanted=1),
    Measure("crash_move", "the same with primary_start_timeout 0: to the first write on another node, s", wanted=1),
    Measure("sync_switchover", "switchover to the synchronous standby: longest time without a write, s", wanted=0.7),
    Measure("sync_second", "a second synchronous standby comes and goes: longest time without a write, s", wanted=0.3),
    Measure("sync_stall", "death of the synchronous standby, another one healthy: longest time without a write, s", wanted=0.5, of_theirs=1),
    Measure("death", "death of the primary's node: the key's lease has lapsed to the first write, s", "{:.3f}", of_theirs=1, more=0.1),
    Measure("death_total", "the same: death to the first write (ttl 20), s", "{:.1f}"),
    Measure("death_short", "the same with ttl 3, loop_wait 1, retry_timeout 1 (Patroni's minimum is 20), s", wanted=4),
    Measure("death_short_lapsed", "the same: the lease has lapsed to the first write, s", "{:.3f}"),
    Measure("nothing", "three nodes from nothing to two streaming replicas, s", wanted=4),
    Measure("replica_restart", "restart of a replica by REST until it streams again, s", of_theirs=1),
    Measure("replica_new", "start of a node without data until it streams (150 MB to copy), s", of_theirs=1),
    Measure("cpu", "idle CPU, s per minute (highest of three agents)", "{:.3f}", wanted=0.05),
    Measure("memory", "resident memory, MiB (highest of three agents)", "{:.1f}", wanted=15),
    Measure("undisturbed", "longest time between two writes in a quiet second (what the client adds), s", "{:.3f}"),
]


def cell(measure, values):
    if not values:
        return "-"
    middle, slowest = statistics.median(values), max(values)
    text = measure.form.format(middle)
    return text if len(values) == 1 else f"{text} ({measure.form.format(slowest)})"


def page(found, version, rounds, how):
    """The text, and what missed its limit. `found[product][key]` is a list of values."""
    lines = ["# pgherd beside Patroni", "",
             f"{datetime.date.today()}, Patroni {version}, medians of {rounds} rounds (in brackets the slowest). `make bench` repeats it.", "",
             f"Machine: {machine()}. All {NODES} nodes and etcd run on it, so they share its cores and its disk.", "",
             "| measure | pgherd | Patroni | pgherd / Patroni | wanted | |", "| --- | --- | --- | --- | --- | --- |"]
    misses = []
    for measure in MEASURES:
        ours, theirs = (found[product].get(measure.key, []) for product in ("pgherd", "Patroni"))
        if not ours:
            continue
        a, b = statistics.median(ours), statistics.median(theirs) if theirs else None
        ratio = f"{a / b:.2f}" if b else "-"
        missed = measure.missed(a, b)
        verdict = "" if measure.limit_told() == "-" else "missed" if missed else "met"
        lines.append(f"| {measure.text} | {cell(measure, ours)} | {cell(measure, theirs)} | {ratio} | {measure.limit_told()} | {verdict} |")
        if missed:
            misses.append(f"{measure.text}: {measure.form.format(a)}, wanted {measure.limit_told()}")
    return "\n".join([*lines, "", *how, ""]), misses
