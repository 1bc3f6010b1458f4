"""The result of one load on a server."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from typing import Self

LINES = 3
"""Lines in every placed order, each with a different SKU."""
SAMPLE_EVERY = 16
"""One in this many replies is parsed and checked."""


class LoadFailed(Exception):
    """A reply was wrong, so the measurement is invalid."""


@dataclass(frozen=True)
class Load:
    """One round of load.

    Attributes:
        answered: calls with a good reply.
        seconds: duration.
        server_cpu_s: processor time of the server.
        client_cpu_s: processor time of the load.
        database_cpu_s: processor time of the database server, if any.
        commit_s: time spent in commits, if the floor measures it.
    """

    answered: int
    seconds: float
    server_cpu_s: float
    client_cpu_s: float
    database_cpu_s: float = 0.0
    commit_s: float = 0.0

    @property
    def per_s(self) -> float:
        """Good replies per second."""
        return self.answered / self.seconds


class Tally:
    """Counter of a load process: good replies, and as a context manager their seconds and processor time."""

    def __init__(self) -> None:
        self.answered = 0
        self.seconds = 0.0
        self.cpu_s = 0.0

    def __enter__(self) -> Self:
        self._began, self._cpu_began = time.monotonic(), time.process_time()
        return self

    def __exit__(self, *_: object) -> None:
        self.seconds = time.monotonic() - self._began
        self.cpu_s = time.process_time() - self._cpu_began

    def to_json(self) -> str:
        """Return the counts as JSON, for the process that started the load."""
        return json.dumps({"answered": self.answered, "seconds": self.seconds, "cpu_s": self.cpu_s})
