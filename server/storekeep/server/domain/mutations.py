"""Mutations: one use case is one transaction, with its effect, event, audit entry and stored reply.

Invariant: an event and an audit entry exist if and only if their change is committed. Each (caller, method, request_id)
takes effect at most once. A stored reply is returned only to the API key that made the call, and only after all access
checks pass again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from hmac import HMAC
from types import MappingProxyType
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

import msgspec

from storekeep.server.domain.access_errors import AccessRefused
from storekeep.server.domain.calls import Call
from storekeep.server.domain.errors import DomainError, RequestIdReused
from storekeep.server.domain.keys.audit_chain import (
    FIRST_HASH,
    AuditChain,
    AuditedChange,
    AuditEpoch,
    ChainKeyMissing,
    format_owner,
    generate_key,
    prepare_key,
)
from storekeep.server.domain.keys.audit_chain import PURPOSE as CHAIN_PURPOSE
from storekeep.server.domain.keys.personal_fields import (
    decrypt_reply,
    encode_stored,
    encrypt_reply,
    protect_fingerprint,
)
from storekeep.server.store.engine import Store
from storekeep.server.store.sql.statements import RELEASE_SAVEPOINT, ROLL_BACK_TO_SAVEPOINT, SET_SAVEPOINT
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
"""The batch cache key for the end of the audit chain: the sequence and hash of the last entry, and the key for the hash
of the next entry (None if the chain has no key yet)."""
ACCESS_METHODS = ("storekeep.v1.AuthService/", "storekeep.v1.UserService/")
"""The prefixes of the methods that change access; each of them must have an access check."""
encode = msgspec.json.Encoder().encode
Finish = Callable[[Mapping[Any, Any]], None]
NOTHING_COLLECTED: Mapping[Any, Any] = MappingProxyType({})


class Named(Protocol):
    """A resource with a name."""

    @property
    def name(self) -> str:
        """The resource name."""


class Mutation:
    """A running mutation.

    Attributes:
        tx: its transaction.
        call: the call that it serves.
        expirers: the store's expirers, which release expired stock that this mutation needs; see `expiry`.
    """

    __slots__ = ("_collected", "_entries", "_entry", "_names", "_parent", "_recorded", "call", "expirers", "tx")

    def __init__(
        self, tx: Transaction, call: Call, *, parent: Mutation | None = None, expirers: tuple[Any, ...] = ()
    ) -> None:
        self.tx = tx
        self.call = call
        self.expirers = expirers
        self._parent = parent
        self._collected: Mapping[Finish, Mapping[Any, Any]] = NOTHING_COLLECTED
        self._recorded: Named | None = None
        self._entry = 0
        self._entries = 0
        self._names: list[str] = []

    @property
    def recorded_names(self) -> Sequence[str]:
        """The names of the resources of which the caller of the whole mutation recorded a change."""
        return self._names

    @property
    def last_entry(self) -> int:
        """The sequence of the entry that this mutation recorded last; 0 before the first."""
        return self._entry

    def by(self, call: Call) -> Mutation:
        """Return a mutation in the same transaction that records its changes under another call."""
        return Mutation(self.tx, call, parent=self._parent or self, expirers=self.expirers)

    def attempt(self, effect: Callable[[Mutation], Reply]) -> Reply:
        """Run an effect. If it is refused, roll back its changes and no others.

        Raises: the errors of `effect`.
        """
        tx, root = self.tx, self._parent or self
        before = tx.batch_cache.copy(), tx.consistency_token, root._entries, root._collected, root._names.copy()
        SET_SAVEPOINT.run_deferred(tx)
        try:
            reply = effect(self)
        except DomainError:
            ROLL_BACK_TO_SAVEPOINT.run(tx)
            RELEASE_SAVEPOINT.run_deferred(tx)
            tx.batch_cache, tx.consistency_token, root._entries, root._collected, root._names = before
            raise
        RELEASE_SAVEPOINT.run_deferred(tx)
        return reply

    def collect(self, finish: Finish, key: Any, value: Any) -> None:
        """Collect a value for the end of the whole mutation. `attempt` rolls it back with the changes.

        Args:
            finish: gets all values that were collected for it, by key. It may record further changes.
        """
        root = self._parent or self
        root._collected = {**root._collected, finish: {**self.get_collected(finish), key: value}}

    def get_collected(self, finish: Finish) -> Mapping[Any, Any]:
        """Return the values that were collected for a function, by key."""
        return (self._parent or self)._collected.get(finish, NOTHING_COLLECTED)

    def finish(self) -> None:
        """Call the functions that values were collected for."""
        for finish, values in self._collected.items():
            finish(values)
        self._collected = NOTHING_COLLECTED

    def record(self, event: str, *, before: Named | None, after: Named | None) -> None:
        """Write the entry of one changed resource. One row is both its event and its audit entry.

        Args:
            event: the event type, such as `order.placed`.
            before: the resource before the change; None for a new resource.
            after: the resource after the change; None for a deleted resource.
        """
        changed = after if after is not None else before
        if changed is None:
            raise TypeError("a change needs a resource before, after, or both")
        after_json = None if after is None else encode_stored(self.tx, after)
        before_json = None if before is None else encode_stored(self.tx, before)
        entry = self._chain(event, changed.name, before_json, after_json)
        call, caller = self.call, self.call.caller
        row = (
            entry.sequence,
            changed.name,
            before_json,
            after_json,
            entry.previous_hash,
            entry.entry_hash,
            self.tx.now_us,
            event,
            caller.subject,
            call.method,
            call.request_id,
            caller.api_key,
            caller.session_id,
        )
        INSERT_AUDIT_ENTRY.run_row_deferred(self.tx, row)
        self._recorded, self._entry = after, entry.sequence
        self._note_names((changed.name,))

    def record_new(self, event: str, resources: Sequence[Named]) -> None:
        """Write the entries of new resources in one statement.

        Args:
            event: the event type of each, such as `order.imported`.
        """
        if not resources:
            return
        rows = []
        for resource in resources:
            after_json = encode_stored(self.tx, resource)
            entry = self._chain(event, resource.name, None, after_json)
            hashes = entry.previous_hash.hex(), entry.entry_hash.hex()
            rows.append((entry.sequence, resource.name, *hashes, after_json.decode()))
        call, caller = self.call, self.call.caller
        INSERT_NEW_ENTRIES.run_deferred(
            self.tx,
            entries=encode(rows).decode(),
            type=event,
            now_us=self.tx.now_us,
            actor=caller.subject,
            method=call.method,
            request_id=call.request_id,
            api_key=caller.api_key,
            session_id=caller.session_id,
        )
        self._note_names(resource.name for resource in resources)

    def _note_names(self, names: Iterable[str]) -> None:
        """Add to the recorded names, unless this part of the mutation is by another caller, such as an expirer."""
        root = self._parent or self
        if self.call.caller is root.call.caller:
            root._names.extend(names)

    def _chain(self, event: str, resource: str, before: bytes | None, after: bytes | None) -> _Link:
        """Assign the next sequence, and link the entry to the one before."""
        tx = self.tx
        last_sequence, previous_hash, key = _read_audit_end(tx)
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
        tx.batch_cache[AUDIT_END] = sequence, entry_hash, key
        (self._parent or self)._entries += 1
        tx.consistency_token = sequence
        return _Link(sequence, previous_hash, entry_hash)

    def start_epoch(self, *, reason: str, history_digest: str) -> None:
        """Start an epoch: hash its first entry and all later entries with a new key.

        Args:
            reason: why the epoch is started; goes to its first entry.
            history_digest: a digest of all earlier entries, in hexadecimal digits; empty if their keys exist.

        Raises: ChainKeyMissing, SecretUnknown.
        """
        tx = self.tx
        if tx.chain is None:
            raise ChainKeyMissing
        last = LAST_AUDIT_ENTRY.one(tx)
        cached = tx.batch_cache.get(AUDIT_END)
        sequence, last_hash, number = (0, FIRST_HASH, None) if last is None else (last[0], bytes(last[1]), last[2])
        if cached is not None:
            sequence, last_hash = cached[:2]
        key = generate_key()
        secret = LATEST_SECRET.one(tx)
        secret_number = 0 if secret is None else secret[0]
        epoch = AuditEpoch((number or 0) + 1, sequence + 1, reason, history_digest, tx.now_us, secret_number)
        owner = format_owner(epoch.number, epoch.first_sequence)
        encrypted = tx.chain.keyring.encrypt(tx, key, purpose=CHAIN_PURPOSE, owner=owner)
        INSERT_EPOCH.run(
            tx, number=epoch.number, first_sequence=epoch.first_sequence, sealed_key=encrypted, now_us=tx.now_us
        )
        tx.batch_cache[AUDIT_END] = sequence, last_hash, prepare_key(key)
        self.record("audit_epoch.started", before=None, after=epoch)

    @property
    def next_sequence(self) -> int:
        """The sequence of the next audit entry."""
        return _read_audit_end(self.tx)[0] + 1

    @property
    def head(self) -> tuple[int, bytes]:
        """The sequence and the hash of the last audit entry; 0 and 32 zero bytes for an empty log."""
        return _read_audit_end(self.tx)[:2]

    def undo(self) -> None:
        """Roll back all changes of this mutation: it is a dry run, or a retry of a call that took effect before."""
        self.tx.rollback_only = True
        self.tx.consistency_token = _read_audit_end(self.tx)[0] - self._entries

    def store_reply(self, reply: object, *, call: Call) -> bool:
        """Store the reply for retries. Return False if the call has a stored reply already.

        Usually the reply is the resource that was recorded last. Then only the number of its entry is stored.

        Args:
            call: the original call; the entries may omit its request id.
        """
        recorded = reply is self._recorded
        row = (
            call.caller.subject,
            call.method,
            call.request_id,
            _get_key_id(call),
            _get_stored_fingerprint(self.tx, call),
            self._entry if recorded else None,
            None if recorded else encode(encrypt_reply(self.tx, reply)),
            self.tx.now_us,
        )
        if INSERT_REPLY.defer_row(self.tx, row):  # fails for a retry; the engine then runs the batch again
            return True
        return INSERT_REPLY_IF_NEW.change_row(self.tx, row) > 0


class _Link(NamedTuple):
    """The position and the hashes of an entry in the chain."""

    sequence: int
    previous_hash: bytes
    entry_hash: bytes


def _read_audit_end(tx: Transaction) -> tuple[int, bytes, HMAC | None]:
    """Return the sequence and hash of the last audit entry, and the key for the next. They are read once per commit.

    Raises: ChainKeyMissing, DecryptionFailed.
    """
    cached: tuple[int, bytes, HMAC | None] | None = tx.batch_cache.get(AUDIT_END)
    if cached is not None:
        return cached
    last = LAST_AUDIT_ENTRY.one(tx)
    if last is None:
        end: tuple[int, bytes, HMAC | None] = 0, FIRST_HASH, None
    else:
        end = last[0], bytes(last[1]), _get_chain_key(tx, last[2])
    tx.batch_cache[AUDIT_END] = end
    return end


def _get_chain_key(tx: Transaction, epoch: int | None) -> HMAC | None:
    chain: AuditChain | None = tx.chain
    if chain is not None:
        return chain.get_newest_key(tx, epoch)
    if epoch is not None:
        raise ChainKeyMissing
    return None


class _Outcome(msgspec.Struct, Generic[Reply]):
    """The outcome of a mutation: a reply, whether it is the stored reply of an earlier call, and what was recorded."""

    reply: Reply
    is_stored: bool = False
    recorded_names: Sequence[str] = ()


CheckAccess = Callable[[Mutation, Reply | None], None]
"""Raises AccessRefused if the caller's permissions do not allow the mutation, and NotFound for a missing resource. It
runs before the effect, and again before a stored reply is returned."""


def mutate(
    store: Store,
    call: Call,
    effect: Callable[[Mutation], Reply],
    reply_type: type[Reply],
    *,
    check_access: CheckAccess[Reply] | None = None,
    hides_request_id: bool = False,
    subject: Any = None,
) -> Reply:
    """Run one use case as one durable transaction. For a retry, return the stored reply of the first call.

    Retries are rare, so the effect runs first. A retry is detected when the reply cannot be stored or the effect fails;
    then all changes are rolled back.

    Args:
        effect: makes the changes in its transaction only, records each change, and returns the reply.
        reply_type: the type of the reply, to decode a stored one.
        check_access: the access check beside the method's permission; required for methods that change access.
        hides_request_id: whether the audit log omits the request id, since a retry with it returns a secret.
        subject: what the effect reads together with effects of the same kind; see `SharedReads`.

    Raises: RequestIdReused, the errors of `check_access` and `effect`, and the store's errors (see `Store.write`).
    """
    check = _get_check(call, check_access)
    audited = msgspec.structs.replace(call, request_id="") if hides_request_id else call

    def work(tx: Transaction) -> _Outcome[Reply]:
        tx.prepared = call.prepared
        mutation = Mutation(tx, audited, expirers=store.expirers)
        check(mutation, None)
        try:
            reply = effect(mutation)
            mutation.finish()
        except AccessRefused:
            raise
        except DomainError:
            stored = _find_checked(mutation, call, check, reply_type)
            if stored is None:
                raise
            mutation.undo()
            return stored
        if call.validate_only:
            mutation.undo()
            return _find_checked(mutation, call, check, reply_type) or _Outcome(reply)
        if call.request_id and not mutation.store_reply(reply, call=call):
            mutation.undo()
            return _find_checked(mutation, call, check, reply_type)  # type: ignore[return-value]  # it is stored
        return _Outcome(reply, recorded_names=mutation.recorded_names)

    outcome = store.write(work, deadline=call.deadline, dry_run=call.validate_only, subject=subject)
    if outcome.is_stored and call.on_replay is not None:
        call.on_replay()
    if outcome.recorded_names and call.on_record is not None:
        call.on_record(outcome.recorded_names)
    return outcome.reply


def _get_check(call: Call, check_access: CheckAccess[Reply] | None) -> CheckAccess[Reply]:
    """Return the access check of a call. Raise TypeError if a method that changes access has none."""
    if check_access is not None:
        return check_access
    if call.method.startswith(ACCESS_METHODS):
        raise TypeError(f"{call.method} has no access check")
    return _no_check


def _no_check(_mutation: Mutation, _stored: object) -> None:
    """Accept every caller: the method's permission was checked before."""


def _find_checked(
    mutation: Mutation, call: Call, check: CheckAccess[Reply], reply_type: type[Reply]
) -> _Outcome[Reply] | None:
    """Return the stored reply of this call after another access check; None if there is none.

    Raises: RequestIdReused, and the errors of `check`.
    """
    stored = find_reply(mutation.tx, call)
    if stored is None:
        return None
    reply = decrypt_reply(mutation.tx, msgspec.json.decode(stored, type=reply_type))
    if check is not _no_check:
        check(mutation, reply)
    return _Outcome(reply, is_stored=True)


def _get_stored_fingerprint(tx: Transaction, call: Call) -> bytes:
    """Return what a stored reply has of the request; empty for calls of the server itself, which have no fingerprint.

    Raises: DataKeysMissing.
    """
    return protect_fingerprint(tx, call.fingerprint) if call.fingerprint else b""


def find_reply(tx: Transaction, call: Call) -> bytes | None:
    """Return the stored reply to the same request with the same API key, as JSON with its personal data encrypted.

    Returns: None if there is none.

    Raises: RequestIdReused if the id belongs to another request or API key.
    """
    if not call.request_id:
        return None
    row = FIND_REPLY.one(tx, caller=call.caller.subject, method=call.method, request_id=call.request_id)
    if row is None:
        return None
    fingerprint, reply, api_key = row
    if api_key != _get_key_id(call) or bytes(fingerprint) != _get_stored_fingerprint(tx, call):
        raise RequestIdReused(call.request_id)
    return bytes(reply)


def _get_key_id(call: Call) -> str | None:
    """Return the id of the caller's API key, which its account never reuses; None without a key."""
    return call.caller.api_key.rpartition("/")[2] or None
