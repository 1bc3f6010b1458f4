"""The page of the chain: the steps that every call passes, from the server's CHAIN."""

from __future__ import annotations

from docs.pages.markdown import code, head, table
from storekeep.server.interceptors import CHAIN, Part

THREADS = {
    Part.LOG: "both",
    Part.ERRORS: "both",
    Part.EARLY: "polling",
    Part.CHECK: "checks",
    Part.SERVE: "serves",
}
INTRODUCTION = """
Every call of Storekeep's own services passes these steps, outermost first. A write passes the checks in a thread of
its own; the writer runs the rest. A read passes all of them in one thread.
"""


def page() -> str:
    """The whole page."""
    rows = [
        (
            str(number),
            code(entry.name),
            THREADS[entry.part],
            f"{entry.reason}{f'. Only where {entry.only_where}' if entry.only_where else ''}.",
        )
        for number, entry in enumerate(CHAIN, start=1)
    ]
    source = "CHAIN in server/storekeep/server/interceptors"
    return (
        f"{head('The chain', source=source)}{INTRODUCTION}\n{table(('', 'Step', 'Thread', 'Why, and why here'), rows)}"
    )
