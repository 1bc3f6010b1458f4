"""What a server did under load for some seconds."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from typing import Self

LINES = 3
"""Lines of every order that is placed, each of another SKU."""
SAMPLE_EVERY = 16
"""One answer of so many is parsed and checked."""


class LoadFailed(Exception):
    """An answer was wrong, so what was measured means nothing."""


@dataclass(frozen=True)
class Load:
    """One round of load.

    Attributes:
        answered: calls with a good answer.
        seconds: how long it went on.
        server_cpu_s: processor time that the server used for it.
        client_cpu_s: processor time that the load itself used.
        database_cpu_s: processor time that a database server used besides.
        commit_s: time that commits took, of a floor that measures it.
    """

    answered: int
    seconds: float
    server_cpu_s: float
    client_cpu_s: float
    database_cpu_s: float = 0.0
    commit_s: float = 0.0

    @property
    def per_s(self) -> float:
        """Good answers per second."""
        return self.answered / self.seconds


class Tally:
    """What a load process counts: good answers, and as a context the seconds and processor time they took."""

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
        """For the process that started the load."""
        return json.dumps({"answered": self.answered, "seconds": self.seconds, "cpu_s": self.cpu_s})
