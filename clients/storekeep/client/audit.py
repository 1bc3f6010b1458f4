"""Audit: who changed what, when, before and after."""

from __future__ import annotations

from typing import Unpack

import grpc

from storekeep.client.calls import Calls, ReadOptions
from storekeep.client.pages import Listing, Query
from storekeep.v1.audit_pb2 import (
    AuditCheckpoint,
    AuditEntry,
    GetAuditEntryRequest,
    ListAuditCheckpointsRequest,
    ListAuditEntriesRequest,
    VerifyAuditChainRequest,
    VerifyAuditChainResponse,
)
from storekeep.v1.audit_pb2_grpc import AuditServiceStub


class Audit:
    """Reads the audit log."""

    def __init__(self, calls: Calls, *, channel: grpc.Channel) -> None:
        self._calls = calls
        self._stub = AuditServiceStub(channel)

    def get(self, name: str, **options: Unpack[ReadOptions]) -> AuditEntry:
        """Get one audit entry.

        Raises: AuditEntryNotFound, AuditEntryUnreadable.
        """
        return self._calls.read(self._stub.GetAuditEntry, GetAuditEntryRequest(name=name), **options)

    def list(
        self, *, timeout_s: float | None = None, max_staleness_s: float | None = None, **query: Unpack[Query]
    ) -> Listing[AuditEntry]:
        """List audit entries, newest first unless `order_by` says otherwise.

        Raises: InvalidFilter, InvalidOrderBy, InvalidPageToken, AuditEntryUnreadable.
        """
        request = ListAuditEntriesRequest(**query)
        return self._calls.listing(
            self._stub.ListAuditEntries,
            request,
            items=lambda page: page.audit_entries,
            timeout_s=timeout_s,
            max_staleness_s=max_staleness_s,
        )

    def list_checkpoints(
        self, *, timeout_s: float | None = None, max_staleness_s: float | None = None, **query: Unpack[Query]
    ) -> Listing[AuditCheckpoint]:
        """List checkpoints, the newest first unless `order_by` says otherwise. Keep one elsewhere.

        Raises: InvalidFilter, InvalidOrderBy, InvalidPageToken.
        """
        return self._calls.listing(
            self._stub.ListAuditCheckpoints,
            ListAuditCheckpointsRequest(**query),
            items=lambda page: page.audit_checkpoints,
            timeout_s=timeout_s,
            max_staleness_s=max_staleness_s,
        )

    def verify_chain(
        self, *, since: AuditCheckpoint | None = None, **options: Unpack[ReadOptions]
    ) -> VerifyAuditChainResponse:
        """Walk the chain of hashes and name the first entry that does not hold.

        It reads all entries, or all behind a checkpoint: give it a `timeout_s` that suits their number.

        Args:
            since: a checkpoint that was kept elsewhere; the log has to have it.
        """
        return self._calls.read(self._stub.VerifyAuditChain, VerifyAuditChainRequest(since=since), **options)
