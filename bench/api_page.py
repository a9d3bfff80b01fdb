"""The page that the measurement of the REST API prints: medians of all rounds, their ratios, and what was wanted."""

import datetime
import math
import statistics

from servers import machine

NUMBERS = (("rps", "{:.0f}"), ("p50", "{:.2f}"), ("p99", "{:.2f}"), ("cpu", "{:.0f}"))


def row(cells):
    return "| " + " | ".join(cells) + " |"


def head(cells):
    return [row(cells), row(["---"] * len(cells))]


def median_of(rounds):
    """Of one number, or of each of a measurement of requests, whose failures are added up."""
    if not isinstance(rounds[0], dict):
        return statistics.median(rounds)
    middle = {key: statistics.median(one[key] for one in rounds) for key in rounds[0]}
    return {**middle, "failed": sum(one["failed"] for one in rounds)}


def told(value, form):
    return "no answer" if math.isinf(value) else form.format(value)


class Page:
    def __init__(self, found):
        self.ours, self.theirs = ({key: median_of(rounds) for key, rounds in found.get(product, {}).items()}
                                  for product in ("pgherd", "Patroni"))
        self.lines, self.misses = [], []

    def judged(self, what, value, wanted, form, least=False):
        good = value >= wanted if least else value <= wanted
        told = f"{'≥' if least else '≤'} {form.format(wanted)}"
        if not good:
            self.misses.append(f"{what}: {form.format(value)}, wanted {told}")
        return f"{told}: {form.format(value)}, {'met' if good else 'missed'}"

    def failures(self, key):
        told = [f"{who}: {each[key]['failed']:.0f} failed" for who, each in (("pgherd", self.ours), ("Patroni", self.theirs))
                if key in each and each[key]["failed"]]
        if self.ours[key]["failed"]:
            self.misses.append(f"{key}: {told[0]}")
        return told

    def pair(self, key, number, form):
        return [told(each[key][number], form) if key in each else "-" for each in (self.ours, self.theirs)]

    def put_requests(self):
        self.lines += head(["request", "connections", "requests/s", "Patroni", "p50, ms", "Patroni", "p99, ms", "Patroni",
                            "CPU of the agent, µs each", "Patroni", "share of Patroni's"])
        for key in (key for key in self.ours if len(key) == 3 and isinstance(key, tuple)):
            path, new, connections = key
            numbers = [text for number, form in NUMBERS for text in self.pair(key, number, form)]
            name = f"{path}, {'new' if new else 'kept'}"
            wanted = self.wanted(f"{name}, {connections}", key) if key in self.theirs else []
            self.lines.append(row([name, str(connections), *numbers, "; ".join(wanted + self.failures(key)) or "-"]))

    def wanted(self, name, key):
        (_, new, connections), a, b = key, self.ours[key], self.theirs[key]
        told = [self.judged(f"{name}: CPU", a["cpu"] / b["cpu"], 0.15 if new else 0.10, "{:.2f}")]
        told[0] = f"CPU {told[0]}"
        if new and connections == 64:
            told.append("p99 " + self.judged(f"{name}: p99", a["p99"] / b["p99"], 0.5, "{:.2f}"))
        if not new:
            told.append("requests/s " + self.judged(f"{name}: requests/s", a["rps"] / b["rps"], 15, "{:.0f}", least=True))
        return told

    def put_frozen(self):
        keys = [key for key in self.ours if key[0] == "frozen"]
        if not keys:
            return
        self.lines += ["", "While PostgreSQL of the leader and etcd are frozen (SIGSTOP), 16 connections, a new one for each request:", "",
                       *head(["request", "p99, ms", "Patroni", "requests/s", "Patroni", "wanted"])]
        for key in keys:
            numbers = self.pair(key, "p99", "{:.2f}") + self.pair(key, "rps", "{:.0f}")
            wanted = self.judged(f"frozen, {key[1]}: p99", self.ours[key]["p99"], 5, "{:.2f} ms")
            self.lines.append(row([key[1], *numbers, "; ".join([wanted, *self.failures(key)])]))

    def put_followers(self):
        if "memory" not in self.ours:
            return
        own = self.ours
        rows = [("more memory with them, after 20 events, MiB", "memory", 30, "{:.1f}"),
                ("from the request that is told of until all have its event, ms (median)", "all_have_it", 100, "{:.0f}"),
                ("the same, ms (the slowest of 20)", "all_have_it_max", None, "{:.0f}"),
                ("so much later the leader renews its lease, s", "lease_lost", 0.5, "{:.2f}"),
                ("p99 of /primary beside them, one connection, ms", "check_beside", None, "{:.2f}")]
        self.lines += ["", "1,000 who follow the events of one node (pgherd alone; Patroni has no such thing):", "",
                       *head(["measure", "value", "wanted"])]
        for text, key, wanted, form in rows:
            verdict = self.judged(text, own[key], wanted, form) if wanted else "-"
            self.lines.append(row([text, form.format(own[key]), verdict]))


def page(found, version, arguments, minutes):
    """The text, and what missed its limit."""
    made = Page(found)
    made.lines = [
        "# The REST API beside Patroni's", "",
        f"{datetime.date.today()}, Patroni {version}, medians of {arguments.rounds} rounds. `make bench-api` repeats it.", "",
        f"Machine: {machine()}. The nodes, etcd and the client (`ab`, one thread) share its cores.", "",
        f"The leader of three nodes is asked for {arguments.seconds} s in each row, by so many connections without a pause. CPU is the "
        "agent's own, from /proc; what PostgreSQL does for Patroni's answers is not in it. *New*: a connection for each request, as load "
        "balancers ask; *kept*: HTTP keep-alive is offered, which Patroni closes after each answer.", ""]
    made.put_requests()
    made.put_frozen()
    made.put_followers()
    made.lines += ["", f"The time until all have an event includes the client, one Python thread that reads all of them. The run took {minutes:.0f} minutes.", ""]
    return "\n".join(made.lines), made.misses
