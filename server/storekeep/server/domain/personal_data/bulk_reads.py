"""Bulk reads: entries in the audit log for callers that got many resources with personal data.

Each entry has the caller as its actor and the RPC as its method, like the entries of changes.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from storekeep.server.domain.calls import Call, Caller
from storekeep.server.domain.mutations import Mutation, mutate
from storekeep.server.domain.standard.resources import new_id
from storekeep.server.store.engine import Store

SUBJECT = "system/personal-data"
EVENT = "personal_data.read"


class BulkRead(msgspec.Struct, frozen=True):
    """What one caller got from one method since its last entry.

    Attributes:
        subject: resource name of the caller's account.
        api_key: resource name of its API key; empty without one.
        session_id: its session; empty without one.
        method: the RPC.
        resources: how many resources with personal data it got, each as often as it got it.
        id: the id of the entry; empty until it is recorded.
    """

    subject: str
    api_key: str
    session_id: str
    method: str
    resources: int
    id: str = ""

    @property
    def name(self) -> str:
        """The name in the audit log."""
        return f"{self.subject}/bulkReads/{self.id}"


def record_bulk_reads(database: Store, reads: Sequence[BulkRead], *, request_id: str = "") -> int:
    """Write an entry for each read, and return their number.

    Args:
        request_id: a UUID; the same reads with the same id are recorded once. Empty to record them in any case.

    Raises: StoreError.
    """
    call = Call(Caller(SUBJECT, display_name="Personal data"), f"{SUBJECT}/RecordBulkReads", request_id=request_id)

    def effect(mutation: Mutation) -> int:
        for read in reads:
            caller = Caller(read.subject, api_key=read.api_key, session_id=read.session_id)
            named = msgspec.structs.replace(read, id=new_id())
            mutation.by(Call(caller, read.method)).record(EVENT, before=None, after=named)
        return len(reads)

    return mutate(database, call, effect, int)
