"""AuditService: the audit log and the verification of its hash chain."""

from __future__ import annotations

import json

import grpc
from google.protobuf.struct_pb2 import Struct

from storekeep.server.domain.audit import log as audit
from storekeep.server.domain.audit.checkpoints import Checkpoint, list_checkpoints
from storekeep.server.domain.audit.log import AuditEntry
from storekeep.server.domain.errors import AuditEntryUnreadable
from storekeep.server.domain.standard.pages import PageTokens
from storekeep.server.servicers.calls import build_list_request, build_page_fields
from storekeep.server.servicers.converters import build_timestamp, parse_id
from storekeep.server.store.engine import Store
from storekeep.v1 import audit_pb2 as pb
from storekeep.v1 import audit_pb2_grpc


def build_audit_entry(entry: AuditEntry) -> pb.AuditEntry:
    """Build the message of an audit entry.

    Raises: AuditEntryUnreadable if its stored content is not what the server writes.
    """
    try:
        return _build_audit_entry(entry)
    except (AttributeError, OverflowError, RecursionError, TypeError, ValueError):
        raise AuditEntryUnreadable(entry.name) from None


def _build_audit_entry(entry: AuditEntry) -> pb.AuditEntry:
    return pb.AuditEntry(
        name=entry.name,
        sequence=entry.sequence,
        create_time=build_timestamp(entry.create_time_us),
        actor=entry.actor,
        method=entry.method,
        resource=entry.resource,
        request_id=entry.request_id,
        before=_parse_struct(entry.before),
        after=_parse_struct(entry.after),
        entry_hash=entry.entry_hash,
        previous_hash=entry.previous_hash,
        api_key=entry.api_key,
        session_id=entry.session_id,
    )


def build_checkpoint(checkpoint: Checkpoint) -> pb.AuditCheckpoint:
    """Build the message of a checkpoint."""
    return pb.AuditCheckpoint(
        name=checkpoint.name,
        sequence=checkpoint.sequence,
        head_hash=checkpoint.head_hash,
        create_time=build_timestamp(checkpoint.create_time_us),
        chain=checkpoint.chain,
        key_id=checkpoint.key_id,
        public_key=checkpoint.public_key,
        signature=checkpoint.signature,
    )


def _parse_checkpoint(request: pb.VerifyAuditChainRequest) -> Checkpoint | None:
    """Parse the checkpoint of a request; None if it has none."""
    if not request.HasField("since"):
        return None
    since = request.since
    return Checkpoint(
        since.chain,
        since.sequence,
        since.head_hash,
        since.create_time.ToMicroseconds(),
        since.key_id,
        since.public_key,
        since.signature,
    )


def _parse_struct(resource: bytes | None) -> Struct | None:
    """Convert the JSON of a resource to a struct; numbers become doubles, exact up to 2^53."""
    if resource is None:
        return None
    struct = Struct()
    struct.update(json.loads(resource))
    return struct


class AuditServicer(audit_pb2_grpc.AuditServiceServicer):
    """The RPCs of AuditService; the contract documents each one."""

    def __init__(self, store: Store, page_tokens: PageTokens) -> None:
        self._store = store
        self._page_tokens = page_tokens

    def GetAuditEntry(self, request: pb.GetAuditEntryRequest, context: grpc.ServicerContext) -> pb.AuditEntry:
        return build_audit_entry(audit.get_entry(self._store, int(parse_id(request.name))))

    def ListAuditEntries(
        self, request: pb.ListAuditEntriesRequest, context: grpc.ServicerContext
    ) -> pb.ListAuditEntriesResponse:
        page = audit.list_entries(self._store, build_list_request(request), tokens=self._page_tokens)
        return pb.ListAuditEntriesResponse(
            audit_entries=[build_audit_entry(item) for item in page.items], **build_page_fields(page)
        )

    def ListAuditCheckpoints(
        self, request: pb.ListAuditCheckpointsRequest, context: grpc.ServicerContext
    ) -> pb.ListAuditCheckpointsResponse:
        page = list_checkpoints(self._store, build_list_request(request), tokens=self._page_tokens)
        return pb.ListAuditCheckpointsResponse(
            audit_checkpoints=[build_checkpoint(item) for item in page.items], **build_page_fields(page)
        )

    def VerifyAuditChain(
        self, request: pb.VerifyAuditChainRequest, context: grpc.ServicerContext
    ) -> pb.VerifyAuditChainResponse:
        report = audit.verify_chain(self._store, self._store.chain, since=_parse_checkpoint(request))
        return pb.VerifyAuditChainResponse(
            valid=report.valid,
            entries_checked=report.entries_checked,
            first_broken_entry=report.first_broken_entry,
            problem=report.problem,
            head_hash=report.head_hash,
        )
