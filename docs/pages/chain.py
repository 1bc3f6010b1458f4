"""Reference page of the interceptor chain, from the server's CHAIN."""

from __future__ import annotations

from docs.pages.markdown import code, head, table
from storekeep.server.interceptors import CHAIN, Part

THREADS = {
    Part.LOG: "both",
    Part.ERRORS: "both",
    Part.EARLY: "polling",
    Part.CHECK: "checks",
    Part.SERVE: "execution",
}
INTRODUCTION = """
Every call of Storekeep's own services passes these steps, outermost first. For a write, a separate thread runs the
checks and the writer thread runs the rest. For a read, one thread runs all of them.
"""


def build_page() -> str:
    """Return the page."""
    rows = [
        (
            str(number),
            code(entry.name),
            THREADS[entry.part],
            f"{entry.reason}{f'. Only if {entry.present_when}' if entry.present_when else ''}.",
        )
        for number, entry in enumerate(CHAIN, start=1)
    ]
    source = "CHAIN in server/storekeep/server/interceptors"
    return (
        f"{head('The chain', source=source)}{INTRODUCTION}\n{table(('', 'Step', 'Thread', 'Reason and place'), rows)}"
    )
