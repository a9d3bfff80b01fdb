"""What tests that are played step by step wait with."""

import time


class Failed(Exception):
    """A step did not see what it waited for."""


def check(what, holds, seen=""):
    if not holds:
        raise Failed(f"not so: {what}; seen: {seen}")


def waiting(patience, pause, errors):
    """`eventually` for a place where waiting takes so long, and where these errors mean: not yet."""

    def eventually(what, condition, seconds=patience, every=pause):
        """Waits until `condition` gives something true, and gives it; names what it saw last otherwise."""
        deadline = time.monotonic() + seconds
        while True:
            try:
                seen = condition()
                if seen:
                    return seen
            except errors as error:
                seen = error
            if time.monotonic() > deadline:
                raise Failed(f"no '{what}' after {seconds} s; last seen: {seen!r}")
            time.sleep(every)

    return eventually
