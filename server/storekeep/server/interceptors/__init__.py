"""What happens around every call: CHAIN lists the steps in their order, outermost first, each with its reason.

The chain is wrapped once for each method, at start; see `chain`. Checks can run in another thread than what is inside
of them: what they refuse never reaches the writer. Invariant: a server that lacks a step of CHAIN does not start.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Part(Enum):
    """What a step is to a call that is checked in one thread and served in another."""

    LOG = "log"
    """It makes the `Rpc`, and sees both threads as one call."""
    ERRORS = "errors"
    """It runs in both threads."""
    EARLY = "early"
    """It runs in the polling thread, before a call is queued; after errors where gRPC serves calls in its own way."""
    CHECK = "check"
    """It runs before the call is handed to the thread that serves it."""
    SERVE = "serve"
    """It runs in the thread that serves the call, around the servicer."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One step of the chain.

    Attributes:
        name: of the step.
        module: the file of this folder that defines it.
        part: see `Part`.
        reason: why it is there, and why at this place.
        only_where: which servers have it; empty when all do.
    """

    name: str
    module: str
    part: Part
    reason: str
    only_where: str = ""


CHAIN: tuple[Entry, ...] = (
    Entry(
        "request_log",
        "request_log",
        Part.LOG,
        "counts each call and writes its log line; outermost, so that it sees the final code of everything",
    ),
    Entry(
        "errors",
        "errors",
        Part.ERRORS,
        "turns whatever is raised inside of it into a status; the only one that aborts, so all that raise are inside",
    ),
    Entry(
        "early_limits",
        "early_limits",
        Part.EARLY,
        "refuses addresses and failed credentials over their rate; before the queue, where a flood takes no place",
    ),
    Entry(
        "credentials",
        "credentials",
        Part.CHECK,
        "records credentials that were wrong; outside of forwarding and auth, so that it sees what either answers",
    ),
    Entry(
        "certificates",
        "certificates",
        Part.CHECK,
        "refuses revoked client certificates; before forwarding, as the client's TLS ends in this worker",
        only_where="lists of revoked certificates are given",
    ),
    Entry(
        "forwarding",
        "forwarding",
        Part.CHECK,
        "forwards writes to the worker that writes; before auth, as that worker knows first who may do what",
        only_where="one of several workers writes",
    ),
    Entry(
        "auth",
        "auth",
        Part.CHECK,
        "authenticates the caller and checks its permission; before any byte of the request is parsed",
    ),
    Entry(
        "caller_limits",
        "rate_limits",
        Part.CHECK,
        "limits the calls of an API key and an account; right after auth, which says whose call it is",
    ),
    Entry(
        "validation",
        "validation",
        Part.CHECK,
        "refuses by size, then parses, then holds the request to the contract; the last check, as it costs the most",
    ),
    Entry(
        "freshness",
        "freshness",
        Part.SERVE,
        "reads how old the answer may be; after validation, as `max_staleness` is in the parsed request",
        only_where="the database can have replicas",
    ),
)
"""The steps of every call of Storekeep's own services."""
