"""AuditService: the audit log and the proof that nobody changed it."""

from __future__ import annotations

import json

import grpc
from google.protobuf.struct_pb2 import Struct

from storekeep.server.domain.audit import log as audit
from storekeep.server.domain.audit.checkpoints import Checkpoint, list_checkpoints
from storekeep.server.domain.audit.log import AuditEntry
from storekeep.server.domain.errors import AuditEntryUnreadable
from storekeep.server.domain.standard.pages import PageTokens
from storekeep.server.servicers.calls import list_request_of
from storekeep.server.servicers.converters import id_of, timestamp_of
from storekeep.server.store.engine import Store
from storekeep.v1 import audit_pb2 as pb
from storekeep.v1 import audit_pb2_grpc


def entry_message(entry: AuditEntry) -> pb.AuditEntry:
    """An audit entry as the contract writes it.

    Raises: AuditEntryUnreadable, where it holds what the program never writes.
    """
    try:
        return _entry_message(entry)
    except (AttributeError, OverflowError, RecursionError, TypeError, ValueError):
        raise AuditEntryUnreadable(entry.name) from None


def _entry_message(entry: AuditEntry) -> pb.AuditEntry:
    return pb.AuditEntry(
        name=entry.name,
        sequence=entry.sequence,
        create_time=timestamp_of(entry.create_time_us),
        actor=entry.actor,
        method=entry.method,
        resource=entry.resource,
        request_id=entry.request_id,
        before=_struct_of(entry.before),
        after=_struct_of(entry.after),
        entry_hash=entry.entry_hash,
        previous_hash=entry.previous_hash,
        api_key=entry.api_key,
        session_id=entry.session_id,
    )


def checkpoint_message(checkpoint: Checkpoint) -> pb.AuditCheckpoint:
    """A checkpoint as the contract writes it."""
    return pb.AuditCheckpoint(
        name=checkpoint.name,
        sequence=checkpoint.sequence,
        head_hash=checkpoint.head_hash,
        create_time=timestamp_of(checkpoint.create_time_us),
        chain=checkpoint.chain,
        key_id=checkpoint.key_id,
        public_key=checkpoint.public_key,
        signature=checkpoint.signature,
    )


def _checkpoint_of(request: pb.VerifyAuditChainRequest) -> Checkpoint | None:
    """The checkpoint that a request gives, if it gives one."""
    if not request.HasField("since"):
        return None
    given = request.since
    return Checkpoint(
        given.chain,
        given.sequence,
        given.head_hash,
        given.create_time.ToMicroseconds(),
        given.key_id,
        given.public_key,
        given.signature,
    )


def _struct_of(resource: bytes | None) -> Struct | None:
    """The JSON of a resource as a struct; numbers become doubles, exact up to 2^53."""
    if resource is None:
        return None
    struct = Struct()
    struct.update(json.loads(resource))
    return struct


class AuditServicer(audit_pb2_grpc.AuditServiceServicer):
    """The RPCs of AuditService; what each does stands in the contract."""

    def __init__(self, store: Store, page_tokens: PageTokens) -> None:
        self._store = store
        self._page_tokens = page_tokens

    def GetAuditEntry(self, request: pb.GetAuditEntryRequest, context: grpc.ServicerContext) -> pb.AuditEntry:
        return entry_message(audit.get_entry(self._store, int(id_of(request.name))))

    def ListAuditEntries(
        self, request: pb.ListAuditEntriesRequest, context: grpc.ServicerContext
    ) -> pb.ListAuditEntriesResponse:
        page = audit.list_entries(self._store, list_request_of(request), tokens=self._page_tokens)
        return pb.ListAuditEntriesResponse(
            audit_entries=[entry_message(item) for item in page.items], next_page_token=page.next_page_token
        )

    def ListAuditCheckpoints(
        self, request: pb.ListAuditCheckpointsRequest, context: grpc.ServicerContext
    ) -> pb.ListAuditCheckpointsResponse:
        page = list_checkpoints(self._store, list_request_of(request), tokens=self._page_tokens)
        return pb.ListAuditCheckpointsResponse(
            audit_checkpoints=[checkpoint_message(item) for item in page.items], next_page_token=page.next_page_token
        )

    def VerifyAuditChain(
        self, request: pb.VerifyAuditChainRequest, context: grpc.ServicerContext
    ) -> pb.VerifyAuditChainResponse:
        report = audit.verify_chain(self._store, self._store.chain, since=_checkpoint_of(request))
        return pb.VerifyAuditChainResponse(
            valid=report.valid,
            entries_checked=report.entries_checked,
            first_broken_entry=report.first_broken_entry,
            problem=report.problem,
            head_hash=report.head_hash,
        )
