"""One use case is one transaction: its effect, its event, its audit entry and its stored reply.

Invariant: an event and an audit entry exist if and only if their change committed, and one
(caller, method, request_id) has at most one effect. A stored reply is given to the API key that made the call only,
once all checks of access have passed again, and never in answer to a refusal of access.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from hmac import HMAC
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

import msgspec

from storekeep.server.domain.calls import Call
from storekeep.server.domain.errors import AccessRefused, DomainError, RequestIdReused
from storekeep.server.domain.keys.audit_chain import (
    FIRST_HASH,
    AuditChain,
    AuditedChange,
    AuditEpoch,
    ChainKeyMissing,
    new_key,
    owner,
    prepare_key,
)
from storekeep.server.domain.keys.audit_chain import PURPOSE as CHAIN_PURPOSE
from storekeep.server.store.engine import Store
from storekeep.server.store.sql.transactions import Transaction
from storekeep.server.store.tables.audit import INSERT_EPOCH, LATEST_SECRET
from storekeep.server.store.tables.ledger import (
    FIND_REPLY,
    INSERT_AUDIT_ENTRY,
    INSERT_NEW_ENTRIES,
    INSERT_REPLY,
    INSERT_REPLY_IF_NEW,
    LAST_AUDIT_ENTRY,
)

Reply = TypeVar("Reply")

AUDIT_END = "audit_end"
"""The note of the entry that was written last in the running commit: its sequence, its hash, and the key of the next
one's; None where the chain has none yet."""
ACCESS_METHODS = "storekeep.v1.AuthService/"
"""What the methods begin with that change who may call: none of them runs without a check of access."""
encode = msgspec.json.Encoder().encode


class Named(Protocol):
    """Anything with a resource name."""

    @property
    def name(self) -> str:
        """The resource name."""


class Mutation:
    """One mutation while it runs.

    Attributes:
        tx: its transaction.
        call: who asked for it, and how.
        expirers: the store's, for what has expired and holds stock that this mutation needs; see `expiry`.
    """

    __slots__ = ("_entries", "_entry", "_recorded", "_whole", "call", "expirers", "tx")

    def __init__(
        self, tx: Transaction, call: Call, *, whole: Mutation | None = None, expirers: tuple[Any, ...] = ()
    ) -> None:
        self.tx = tx
        self.call = call
        self.expirers = expirers
        self._whole = whole
        self._recorded: Named | None = None
        self._entry = 0
        self._entries = 0

    def by(self, call: Call) -> Mutation:
        """This mutation, for what is done with it that its caller did not ask for."""
        return Mutation(self.tx, call, whole=self, expirers=self.expirers)

    def record(self, event: str, *, before: Named | None, after: Named | None) -> None:
        """Write the entry of one changed resource: its event and its audit entry in one.

        Args:
            event: what happened, as `order.placed`.
            before: the resource as it was; None when it is new.
            after: the resource as it is; None when it is gone.
        """
        changed = after if after is not None else before
        if changed is None:
            raise TypeError("a change has a resource before, after, or both")
        before_json = None if before is None else encode(before)
        after_json = None if after is None else encode(after)
        entry = self._chain(event, changed.name, before_json, after_json)
        INSERT_AUDIT_ENTRY.run_later(
            self.tx,
            sequence=entry.sequence,
            type=event,
            resource=changed.name,
            before=before_json,
            after=after_json,
            previous_hash=entry.previous_hash,
            entry_hash=entry.entry_hash,
            **self._shared_values,
        )
        self._recorded, self._entry = after, entry.sequence

    def record_new(self, event: str, resources: Sequence[Named]) -> None:
        """Write the entries of resources that are new, all of them in one statement.

        Args:
            event: what happened to each, as `order.imported`.
        """
        if not resources:
            return
        rows = []
        for resource in resources:
            after_json = encode(resource)
            entry = self._chain(event, resource.name, None, after_json)
            hashes = entry.previous_hash.hex(), entry.entry_hash.hex()
            rows.append((entry.sequence, resource.name, *hashes, after_json.decode()))
        INSERT_NEW_ENTRIES.run_later(self.tx, entries=encode(rows).decode(), type=event, **self._shared_values)

    def _chain(self, event: str, resource: str, before: bytes | None, after: bytes | None) -> _Link:
        """Count the next entry, and link it to the one before."""
        tx = self.tx
        last_sequence, previous_hash, key = _audit_end(tx)
        sequence = last_sequence + 1
        call = self.call
        caller = call.caller
        change = AuditedChange(
            sequence,
            tx.now_us,
            event,
            caller.subject,
            call.method,
            resource,
            call.request_id,
            caller.api_key,
            caller.session_id,
        )
        entry_hash = change.chain(key, previous_hash, before, after)
        tx.notes[AUDIT_END] = sequence, entry_hash, key
        (self._whole or self)._entries += 1
        tx.position = sequence
        return _Link(sequence, previous_hash, entry_hash)

    def start_epoch(self, *, reason: str, history_digest: str) -> None:
        """Have this entry and all after it hashed with a new key.

        Raises: ChainKeyMissing, SecretUnknown.
        """
        tx = self.tx
        if tx.chain is None:
            raise ChainKeyMissing
        last = LAST_AUDIT_ENTRY.one(tx)
        noted = tx.notes.get(AUDIT_END)
        sequence, last_hash, number = (0, FIRST_HASH, None) if last is None else (last[0], bytes(last[1]), last[2])
        if noted is not None:
            sequence, last_hash = noted[:2]
        key = new_key()
        secret = LATEST_SECRET.one(tx)
        secret_number = 0 if secret is None else secret[0]
        epoch = AuditEpoch((number or 0) + 1, sequence + 1, reason, history_digest, tx.now_us, secret_number)
        sealed = tx.chain.keyring.seal(tx, key, purpose=CHAIN_PURPOSE, owner=owner(epoch.number, epoch.first_sequence))
        INSERT_EPOCH.run(
            tx, number=epoch.number, first_sequence=epoch.first_sequence, sealed_key=sealed, now_us=tx.now_us
        )
        tx.notes[AUDIT_END] = sequence, last_hash, prepare_key(key)
        self.record("audit_epoch.started", before=None, after=epoch)

    @property
    def _shared_values(self) -> dict[str, object]:
        """What all entries of this mutation say."""
        call = self.call
        return {
            "now_us": self.tx.now_us,
            "actor": call.caller.subject,
            "method": call.method,
            "request_id": call.request_id,
            "api_key": call.caller.api_key,
            "session_id": call.caller.session_id,
        }

    @property
    def next_sequence(self) -> int:
        """The place in the ledger of what is recorded next."""
        return _audit_end(self.tx)[0] + 1

    @property
    def head(self) -> tuple[int, bytes]:
        """The number and the hash of the last entry; 0 and zeros where there is none."""
        return _audit_end(self.tx)[:2]

    def undo(self) -> None:
        """Have all that it did undone, as something before it did it already."""
        self.tx.rollback_only = True
        self.tx.position = _audit_end(self.tx)[0] - self._entries

    def store_reply(self, reply: object, *, call: Call) -> bool:
        """Keep the reply for retries; False where there is one already.

        The reply is mostly the resource that was just recorded; then its entry is named, and not written again.

        Args:
            call: as it came in, where the entries do not show all of it.
        """
        recorded = reply is self._recorded
        values = {
            "caller": call.caller.subject,
            "method": call.method,
            "request_id": call.request_id,
            "api_key": _key_id(call),
            "fingerprint": call.fingerprint,
            "entry": self._entry if recorded else None,
            "reply": None if recorded else encode(reply),
            "now_us": self.tx.now_us,
        }
        if INSERT_REPLY.defer(self.tx, **values):  # a retry makes it fail, and is seen when all is run again
            return True
        return INSERT_REPLY_IF_NEW.change(self.tx, **values) > 0


class _Link(NamedTuple):
    """Where an entry stands in the chain."""

    sequence: int
    previous_hash: bytes
    entry_hash: bytes


def _audit_end(tx: Transaction) -> tuple[int, bytes, HMAC | None]:
    """The sequence and the hash at the end of the audit chain, and the key of the next entry; read once in a commit.

    Raises: ChainKeyMissing, SealBroken.
    """
    noted: tuple[int, bytes, HMAC | None] | None = tx.notes.get(AUDIT_END)
    if noted is not None:
        return noted
    last = LAST_AUDIT_ENTRY.one(tx)
    if last is None:
        end: tuple[int, bytes, HMAC | None] = 0, FIRST_HASH, None
    else:
        end = last[0], bytes(last[1]), _chain_key(tx, last[2])
    tx.notes[AUDIT_END] = end
    return end


def _chain_key(tx: Transaction, epoch: int | None) -> HMAC | None:
    chain: AuditChain | None = tx.chain
    if chain is not None:
        return chain.newest_key(tx, epoch)
    if epoch is not None:
        raise ChainKeyMissing
    return None


class _Replay(msgspec.Struct, Generic[Reply]):
    """Either what was answered the first time, or what is answered now."""

    now: Reply | None
    stored: bytes | None


CheckAccess = Callable[[Mutation, Reply | None], None]
"""Refuses a caller whose own permissions do not allow the mutation, whatever else is wrong with it. It runs before the
effect, and again over a stored reply before that is given. Raises AccessRefused, and NotFound for what it looks up."""


def mutate(
    store: Store,
    call: Call,
    effect: Callable[[Mutation], Reply],
    reply_type: type[Reply],
    *,
    check_access: CheckAccess[Reply] | None = None,
    hides_request_id: bool = False,
) -> Reply:
    """Run one use case as one durable transaction, or answer its retry with what was answered before.

    Retries are rare, so the effect is run without asking whether it was run before; that shows when the reply cannot be
    stored or the effect fails, and then everything is undone.

    Args:
        effect: changes what is to be changed through its transaction, and nothing else, records each change, and gives
            the reply.
        reply_type: the type of the reply, by which a stored one is read back.
        check_access: what the caller has to hold beside the method's permission; mutations of who may call have one.
        hides_request_id: whether the audit log shows no request id, as a retry shows a secret once more.

    Raises: RequestIdReused, what `check_access` and `effect` raise, and the store's errors (see `Store.write`).
    """
    check = _check_of(call, check_access)
    shown = msgspec.structs.replace(call, request_id="") if hides_request_id else call

    def work(tx: Transaction) -> _Replay[Reply]:
        mutation = Mutation(tx, shown, expirers=store.expirers)
        check(mutation, None)
        try:
            reply = effect(mutation)
        except AccessRefused:
            raise
        except DomainError:
            stored = _find_checked(mutation, call, check, reply_type)
            if stored is None:
                raise
            mutation.undo()
            return _Replay(None, stored)
        if call.validate_only:
            mutation.undo()
            return _Replay(reply, _find_checked(mutation, call, check, reply_type))
        if call.request_id and not mutation.store_reply(reply, call=call):
            mutation.undo()
            return _Replay(None, _find_checked(mutation, call, check, reply_type))
        return _Replay(reply, None)

    answer = store.write(work, deadline=call.deadline, trial=call.validate_only)
    if answer.stored is not None:
        return msgspec.json.decode(answer.stored, type=reply_type)
    return answer.now  # type: ignore[return-value]  # there is one where nothing was stored


def _check_of(call: Call, check_access: CheckAccess[Reply] | None) -> CheckAccess[Reply]:
    """Return the check of access of a call: none beside the method's permission, unless it changes who may call."""
    if check_access is not None:
        return check_access
    if call.method.startswith(ACCESS_METHODS):
        raise TypeError(f"{call.method} has no check of access")
    return _no_check


def _no_check(_mutation: Mutation, _stored: object) -> None:
    """The permission of the method is all that it takes."""


def _find_checked(mutation: Mutation, call: Call, check: CheckAccess[Reply], reply_type: type[Reply]) -> bytes | None:
    """Find the stored reply of this very call, and check once more whether its caller may have it.

    Raises: RequestIdReused, and what `check` raises.
    """
    stored = find_reply(mutation.tx, call)
    if stored is not None and check is not _no_check:
        check(mutation, msgspec.json.decode(stored, type=reply_type))
    return stored


def find_reply(tx: Transaction, call: Call) -> bytes | None:
    """What this very request was answered before, if it was, to the same API key.

    Raises: RequestIdReused.
    """
    if not call.request_id:
        return None
    row = FIND_REPLY.one(tx, caller=call.caller.subject, method=call.method, request_id=call.request_id)
    if row is None:
        return None
    fingerprint, reply, api_key = row
    if api_key != _key_id(call) or bytes(fingerprint) != call.fingerprint:
        raise RequestIdReused(call.request_id)
    return bytes(reply)


def _key_id(call: Call) -> str | None:
    """The id of the caller's API key, which no other key of its account ever gets; None without one."""
    return call.caller.api_key.rpartition("/")[2] or None
