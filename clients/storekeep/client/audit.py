"""The audit log: who changed which resource, when, and its state before and after."""

from __future__ import annotations

from typing import Unpack

import grpc

from storekeep.client.calls import Calls, GetOptions, ReadOptions
from storekeep.client.pages import Listing, Query, build_query
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
    """Reads and verifies the audit log."""

    def __init__(self, calls: Calls, *, channel: grpc.Channel) -> None:
        self._calls = calls
        self._stub = AuditServiceStub(channel)

    def get(self, name: str, **options: Unpack[GetOptions]) -> AuditEntry:
        """Get one audit entry.

        Raises: AuditEntryNotFound, AuditEntryUnreadable.
        """
        return self._calls.get(self._stub.GetAuditEntry, GetAuditEntryRequest(name=name), **options)

    def list(
        self, *, timeout_s: float | None = None, max_staleness_s: float | None = None, **query: Unpack[Query]
    ) -> Listing[AuditEntry]:
        """List audit entries, newest first unless `order_by` is set.

        Raises: InvalidFilter, InvalidOrderBy, InvalidPageToken, AuditEntryUnreadable.
        """
        request = ListAuditEntriesRequest(**build_query(query))
        return self._calls.list_pages(
            self._stub.ListAuditEntries,
            request,
            items=lambda page: page.audit_entries,
            timeout_s=timeout_s,
            max_staleness_s=max_staleness_s,
        )

    def list_checkpoints(
        self, *, timeout_s: float | None = None, max_staleness_s: float | None = None, **query: Unpack[Query]
    ) -> Listing[AuditCheckpoint]:
        """List signed checkpoints of the log, newest first unless `order_by` is set. Store copies outside the database.

        Raises: InvalidFilter, InvalidOrderBy, InvalidPageToken.
        """
        return self._calls.list_pages(
            self._stub.ListAuditCheckpoints,
            ListAuditCheckpointsRequest(**build_query(query)),
            items=lambda page: page.audit_checkpoints,
            timeout_s=timeout_s,
            max_staleness_s=max_staleness_s,
        )

    def verify_chain(
        self, *, since: AuditCheckpoint | None = None, **options: Unpack[ReadOptions]
    ) -> VerifyAuditChainResponse:
        """Verify the hash chain of the audit log and report the first invalid entry.

        It reads every entry, or every entry after a checkpoint, so choose a `timeout_s` for the size of the log.

        Args:
            since: a checkpoint stored outside the database, which the log must contain (default: verify all entries).
        """
        return self._calls.read(self._stub.VerifyAuditChain, VerifyAuditChainRequest(since=since), **options)
