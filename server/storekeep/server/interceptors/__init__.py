"""The interceptor chain: CHAIN lists the steps around every call, outermost first, each with its reason.

`chain` wraps the steps around each method once, at startup. Checks may run in a different thread from the servicer,
so a call that they reject never reaches the writer. Invariant: a server that lacks a step of CHAIN does not start.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Part(Enum):
    """The role of a step in a call that is checked in one thread and served in another."""

    LOG = "log"
    """Creates the `Rpc` and covers both threads as one call."""
    ERRORS = "errors"
    """Runs in both threads."""
    EARLY = "early"
    """Runs in the polling thread before a call is queued; inside `errors` if gRPC serves the call itself."""
    CHECK = "check"
    """Runs before the call is handed to the thread that serves it."""
    SERVE = "serve"
    """Runs around the servicer, in the thread that serves the call."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One step of the chain.

    Attributes:
        name: Name of the step.
        module: Module of this package that defines the step.
        part: Role of the step; see `Part`.
        reason: Why the step exists and why it has this position.
        present_when: Condition under which a server has the step; empty if every server has it.
    """

    name: str
    module: str
    part: Part
    reason: str
    present_when: str = ""


CHAIN: tuple[Entry, ...] = (
    Entry(
        "request_log",
        "request_log",
        Part.LOG,
        "counts each call and writes its log line; outermost, so that it sees the final status of every call",
    ),
    Entry(
        "errors",
        "errors",
        Part.ERRORS,
        "maps every exception to a status; the only step that aborts a call, so every step that raises is inside it; "
        "sends the trailing metadata that they collect",
    ),
    Entry(
        "early_limits",
        "early_limits",
        Part.EARLY,
        "enforces the limits of addresses and failed credentials; before the queue, so that a flood does not fill it",
    ),
    Entry(
        "credentials",
        "credentials",
        Part.CHECK,
        "records failed credentials; outside forwarding and auth, so that it sees the result of both",
    ),
    Entry(
        "certificates",
        "certificates",
        Part.CHECK,
        "rejects revoked client certificates; before forwarding, because TLS terminates in this worker",
        present_when="certificate revocation lists are configured",
    ),
    Entry(
        "forwarding",
        "forwarding",
        Part.CHECK,
        "forwards writes to the leader; before auth, because the leader has the latest permissions",
        present_when="one of several workers is the leader",
    ),
    Entry(
        "auth",
        "auth",
        Part.CHECK,
        "authenticates the caller and checks its permission; before the request is parsed",
    ),
    Entry(
        "caller_limits",
        "rate_limits",
        Part.CHECK,
        "limits the calls of an API key and an account; directly after auth, which identifies the caller",
    ),
    Entry(
        "validation",
        "validation",
        Part.CHECK,
        "checks the size, parses the request and validates it against the contract; last, because it costs the most",
    ),
    Entry(
        "freshness",
        "freshness",
        Part.SERVE,
        "applies `max_staleness` and consistency tokens; after validation, because it needs the parsed request",
        present_when="the database can have replicas",
    ),
    Entry(
        "read_masks",
        "read_masks",
        Part.SERVE,
        "removes the fields that `read_mask` does not name; around languages, which needs the translations",
    ),
    Entry(
        "personal_data",
        "personal_data",
        Part.SERVE,
        "masks personal data for callers that may not read it; inside read_masks, which may remove what it needs",
    ),
    Entry(
        "languages",
        "languages",
        Part.SERVE,
        "returns texts in the language of `accept-language`; innermost, because it changes the servicer's reply",
    ),
)
"""The steps of every call to Storekeep's own services."""
