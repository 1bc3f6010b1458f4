"""Personal reads: how many resources with personal data each caller got from this process.

The counts wait here until a job records them in the audit log. Invariant: what was taken is recorded or returned.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterable

import msgspec

CALLERS_MAX = 10_000
"""Maximum number of counts. If there are more, all are due, so that memory stays bounded."""


class PersonalReader(msgspec.Struct, frozen=True):
    """One caller of one method.

    Attributes:
        subject: resource name of the account.
        api_key: resource name of the API key.
        session_id: the session of the token.
        method: the RPC, such as `storekeep.v1.CustomerService/ListCustomers`.
    """

    subject: str
    api_key: str
    session_id: str
    method: str


class PersonalRead(msgspec.Struct, frozen=True):
    """The resources with personal data that one caller got from one method."""

    reader: PersonalReader
    resources: int


class PersonalReads:
    """The counts of one process. Counting costs one lock per reply.

    Args:
        resources_min: An account is due when it got this many resources since its last record, with all its keys and
            sessions and from all methods together. Otherwise a new session for each page would leave no record.
    """

    def __init__(self, *, resources_min: int) -> None:
        self._resources_min = resources_min
        self._lock = threading.Lock()
        self._counts: dict[PersonalReader, int] = {}

    def add(self, reader: PersonalReader, resources: int) -> None:
        """Count the resources of one reply."""
        with self._lock:
            self._counts[reader] = self._counts.get(reader, 0) + resources

    def take(self) -> list[PersonalRead]:
        """Return the counts that are due, and forget them."""
        with self._lock:
            is_full = len(self._counts) > CALLERS_MAX
            totals: Counter[str] = Counter()
            for reader, resources in self._counts.items():
                totals[reader.subject] += resources
            due = [
                PersonalRead(reader, resources)
                for reader, resources in self._counts.items()
                if is_full or totals[reader.subject] >= self._resources_min
            ]
            for read in due:
                del self._counts[read.reader]
        return due

    def restore(self, reads: Iterable[PersonalRead]) -> None:
        """Count again what was taken and could not be recorded."""
        for read in reads:
            self.add(read.reader, read.resources)
