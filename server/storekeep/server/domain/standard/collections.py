"""The standard methods for all resources: get, list, create, update, archive and delete.

A `Collection` describes one resource type. Its methods apply the common rules: etags, versions, soft deletion,
the event and the audit entry.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import msgspec

from storekeep.server.domain.calls import Call
from storekeep.server.domain.errors import AlreadyExists, IllegalState, ResourceNotFound
from storekeep.server.domain.keys.personal_fields import compute_tokens, decrypt_resources, encrypt_resource
from storekeep.server.domain.mutations import CheckAccess, Mutation, mutate
from storekeep.server.domain.standard.lists import Listing, ListRequest
from storekeep.server.domain.standard.pages import Page, PageTokens, check_batch
from storekeep.server.domain.standard.resources import Deletable, check_deleted, check_etag, check_not_deleted
from storekeep.server.store.engine import Store
from storekeep.server.store.sql.rows import Rows
from storekeep.server.store.sql.transactions import Table, Transaction

ACTIVE = "ACTIVE"
ARCHIVED = "ARCHIVED"
DRAFT_STEPS = {ACTIVE: "publish it instead", ARCHIVED: "it is not on sale: leave it, publish it first or delete it"}
"""Requested state of a draft -> what the caller can do."""
LIFECYCLE_STATES = (ACTIVE, ARCHIVED)
Key = tuple[str, ...]


R = TypeVar("R", bound=Deletable)


def _replace_fields(resource: R, **changes: Any) -> R:
    """Return a copy of a resource with some fields changed."""
    return msgspec.structs.replace(resource, **changes)  # type: ignore[type-var]  # resources are structs


def _list_fields(resource: type[Any]) -> tuple[msgspec.structs.FieldInfo, ...]:
    """Return the fields of a resource type, in order."""
    return msgspec.structs.fields(resource)


class Collection(Generic[R]):
    """All resources of one type.

    Args:
        resource: the struct. Its fields are the table's columns of the same name, and the fields that `attach` fills.
        table: the Peewee model.
        key: the fields that make up the resource name.
        pattern: the resource name, with a `{}` for each part of the key.
        event: the noun in event names, such as `product`.
        not_found: the error for a missing resource.
        check: raises if other resources rule the new values out; takes the old resource, or None for a new one.
        attach: fills the fields that are stored in other tables.
        store_parts: writes the fields that are stored in other tables; takes the old resource, or None for a new one.
        check_unused: raises if another resource still refers to the one to delete.
        apply_time: returns a resource as it is at a time, in microseconds since 1970, if time alone changes it.
    """

    def __init__(
        self,
        resource: type[R],
        table: type[Table],
        *,
        key: Key,
        pattern: str,
        event: str,
        not_found: type[ResourceNotFound],
        check: Callable[[Transaction, R, R | None], None] = lambda tx, new, old: None,
        attach: Callable[[Transaction, list[R]], list[R]] = lambda tx, resources: resources,
        store_parts: Callable[[Transaction, R, R | None], None] = lambda tx, new, old: None,
        check_unused: Callable[[Transaction, R], None] = lambda tx, resource: None,
        apply_time: Callable[[R, int], R] | None = None,
    ) -> None:
        self.resource = resource
        self.key = key
        self.pattern = pattern
        self.event = event
        self.not_found = not_found
        self._check = check
        self._attach = attach
        self._store_parts = store_parts
        self._check_unused = check_unused
        self._apply_time = apply_time
        fields = [f for f in _list_fields(resource) if hasattr(table, f.name)]
        self.rows = Rows(table, columns=[f.name for f in fields], key=key)
        self._decoders = [
            (index, decode) for index, f in enumerate(fields) if (decode := _find_decoder(f.type)) is not None
        ]
        self._json_fields = [f.name for f in fields if _is_json(f.type)]
        self._is_personal = hasattr(resource, "PERSONAL")

    # -- reading

    def find(self, tx: Transaction, key: Key) -> R:
        """Return one resource, deleted or not.

        Raises: the collection's `not_found`.
        """
        row = self.rows.find(tx, key)
        if row is None:
            raise self.not_found(self.pattern.format(*key))
        return self.read_rows(tx, [row])[0]

    def read_rows(self, tx: Transaction, rows: Sequence[Sequence[Any]]) -> list[R]:
        """Convert rows to resources as they are now."""
        resources = self.read_stored_rows(tx, rows)
        if self._apply_time is None:
            return resources
        return [self._apply_time(resource, tx.now_us) for resource in resources]

    def read_stored_rows(self, tx: Transaction, rows: Sequence[Sequence[Any]]) -> list[R]:
        """Convert rows to resources as they are stored, with their personal data."""
        resources = self.read_encrypted_rows(tx, rows)
        return decrypt_resources(tx, resources) if self._is_personal else resources

    def read_encrypted_rows(self, tx: Transaction, rows: Sequence[Sequence[Any]]) -> list[R]:
        """Convert rows to resources as they are stored, without their personal data."""
        return self._attach(tx, [self._read_row(row) for row in rows])

    def _read_row(self, row: Sequence[Any]) -> R:
        if self._decoders:
            values = list(row)
            for index, decode in self._decoders:
                values[index] = decode(values[index])
            return self.resource(*values)
        return self.resource(*row)

    def get(self, store: Store, key: Key) -> R:
        """Return one resource, deleted or not, in a transaction of its own.

        Raises: the collection's `not_found`.
        """
        return store.read(lambda tx: self.find(tx, key))

    def batch_get(
        self,
        store: Store,
        keys: Sequence[Key],
        *,
        keep_visible: Callable[[Transaction, list[R]], list[R]] = lambda tx, resources: resources,
    ) -> list[R]:
        """Return all resources with these keys, in the order of the keys, as of one point in time.

        Args:
            keep_visible: returns the resources that the caller may see; the others count as missing.

        Raises: the collection's `not_found` for the first missing resource; BatchTooLarge.
        """
        resources = store.snapshot(lambda tx: keep_visible(tx, self.read_rows(tx, self.rows.find_many(tx, keys))))
        if len(resources) != len(keys):
            existing = {resource.name for resource in resources}
            names = (self.pattern.format(*key) for key in keys)
            raise self.not_found(next(name for name in names if name not in existing))
        check_batch(resources)
        return resources

    def page(self, store: Store, request: ListRequest, *, listing: Listing[R], tokens: PageTokens) -> Page[R]:
        """Return one page of a list.

        Raises: InvalidFilter, InvalidOrderBy, InvalidPageToken.
        """
        return store.snapshot(lambda tx: listing.page(tx, request, tokens=tokens))

    # -- changing

    def create(self, store: Store, call: Call, new_resource: R) -> R:
        """Create a resource and set its version and times.

        Raises: AlreadyExists, and the errors of the collection's `check`.
        """

        def effect(mutation: Mutation) -> R:
            return self.add(mutation, new_resource)

        return mutate(store, call, effect, self.resource)

    def add(self, mutation: Mutation, new_resource: R) -> R:
        """Create a resource within a running mutation.

        Raises: the errors of `create`.
        """
        tx = mutation.tx
        self._check(tx, new_resource, None)
        if self.rows.find(tx, self._get_key(new_resource)) is not None:
            raise AlreadyExists(new_resource.name)
        new = _replace_fields(new_resource, version=1, create_time_us=tx.now_us, update_time_us=tx.now_us)
        if self._apply_time is not None:
            new = self._apply_time(new, tx.now_us)
        self.rows.insert(tx, self._build_row(tx, new))
        self._store_parts(tx, new, None)
        mutation.record(f"{self.event}.created", before=None, after=new)
        return new

    def update(self, store: Store, call: Call, new_resource: R, *, fields: Sequence[str], etag: str) -> R:
        """Set the named fields to the values in `new_resource`. Write nothing if no value changes.

        Raises: the collection's `not_found`, ResourceDeleted, EtagMismatch, and the errors of its `check`.
        """

        def effect(mutation: Mutation) -> R:
            return self.edit(mutation, new_resource, fields=fields, etag=etag)

        return mutate(store, call, effect, self.resource)

    def edit(self, mutation: Mutation, new_resource: R, *, fields: Sequence[str], etag: str) -> R:
        """Update a resource within a running mutation; see `update`.

        Raises: the errors of `update`.
        """
        old = self.find(mutation.tx, self._get_key(new_resource))
        check_not_deleted(old)
        check_etag(old, etag)
        new = _replace_fields(old, **{field: getattr(new_resource, field) for field in fields})
        if new == old:
            return old
        self._check(mutation.tx, new, old)
        return self.replace(mutation, old, new, action="updated")

    def replace(self, mutation: Mutation, old: R, new: R, *, action: str) -> R:
        """Write the next version of a resource, its event and its audit entry.

        Args:
            action: the verb in the event name, such as `updated`.
        """
        tx = mutation.tx
        new = _replace_fields(new, version=old.version + 1, update_time_us=tx.now_us)
        if self._apply_time is not None:
            new = self._apply_time(new, tx.now_us)
        self.rows.update(tx, self._build_row(tx, new))
        self._store_parts(tx, new, old)
        mutation.record(f"{self.event}.{action}", before=old, after=new)
        return new

    def archive(self, store: Store, call: Call, key: Key, *, etag: str) -> R:
        """Archive an active resource: take it off sale.

        Raises: the collection's `not_found`, ResourceDeleted, EtagMismatch, IllegalState.
        """
        return self._set_state(store, call, key, etag=etag, source=ACTIVE, to=ARCHIVED, action="archived")

    def unarchive(self, store: Store, call: Call, key: Key, *, etag: str) -> R:
        """Put an archived resource back on sale.

        Raises: the errors of `archive`.
        """
        return self._set_state(store, call, key, etag=etag, source=ARCHIVED, to=ACTIVE, action="unarchived")

    def _set_state(self, store: Store, call: Call, key: Key, *, etag: str, source: str, to: str, action: str) -> R:
        def effect(mutation: Mutation) -> R:
            old = self.find(mutation.tx, key)
            check_not_deleted(old)
            check_etag(old, etag)
            state = old.state  # type: ignore[attr-defined]  # resources with a lifecycle have one
            if state != source:
                way_out = DRAFT_STEPS[to] if state not in (ACTIVE, ARCHIVED) else ""
                raise IllegalState(old.name, state=state, target=to, way_out=way_out)
            return self.replace(mutation, old, _replace_fields(old, state=to), action=action)

        return mutate(store, call, effect, self.resource)

    def delete(self, store: Store, call: Call, key: Key, *, etag: str, check_access: CheckAccess[R] | None = None) -> R:
        """Soft-delete a resource.

        Raises: the collection's `not_found`, also for a deleted resource; EtagMismatch, ResourceInUse.
        """

        def effect(mutation: Mutation) -> R:
            old = self.find(mutation.tx, key)
            if old.delete_time_us is not None:
                raise self.not_found(old.name, deleted=True)
            check_etag(old, etag)
            self._check_unused(mutation.tx, old)
            new = _replace_fields(old, delete_time_us=mutation.tx.now_us)
            return self.replace(mutation, old, new, action="deleted")

        return mutate(store, call, effect, self.resource, check_access=check_access)

    def undelete(
        self, store: Store, call: Call, key: Key, *, etag: str, check_access: CheckAccess[R] | None = None
    ) -> R:
        """Restore a soft-deleted resource.

        Raises: the collection's `not_found`, ResourceNotDeleted, EtagMismatch.
        """

        def effect(mutation: Mutation) -> R:
            old = self.find(mutation.tx, key)
            check_deleted(old)
            check_etag(old, etag)
            new = _replace_fields(old, delete_time_us=None)
            return self.replace(mutation, old, new, action="undeleted")

        return mutate(store, call, effect, self.resource, check_access=check_access)

    def write_row(self, tx: Transaction, resource: R) -> None:
        """Write the row of an existing resource again, which is the same but for its encryption."""
        self.rows.update(tx, self._build_row(tx, resource))

    def _get_key(self, resource: R) -> Key:
        return tuple(getattr(resource, field) for field in self.key)

    def _build_row(self, tx: Transaction, resource: R) -> dict[str, Any]:
        stored = encrypt_resource(tx, resource) if self._is_personal else resource
        values = {column: getattr(stored, column) for column in self.rows.columns}
        for field in self._json_fields:
            values[field] = msgspec.json.encode(values[field]).decode()
        return values | compute_tokens(tx, resource) if self._is_personal else values


@dataclass(frozen=True, slots=True)
class Addition(Generic[R]):
    """An effect that creates a resource; see `Collection.add`."""

    collection: Collection[R]
    resource: R

    def __call__(self, mutation: Mutation) -> R:
        """Create the resource."""
        return self.collection.add(mutation, self.resource)


@dataclass(frozen=True, slots=True)
class Edit(Generic[R]):
    """An effect that updates the named fields of a resource; see `Collection.edit`."""

    collection: Collection[R]
    resource: R
    fields: Sequence[str]
    etag: str

    def __call__(self, mutation: Mutation) -> R:
        """Update the resource."""
        return self.collection.edit(mutation, self.resource, fields=self.fields, etag=self.etag)

    def apply(self, old: R) -> R:
        """Return an existing resource with the new values of the fields, and with nothing else changed."""
        return _replace_fields(old, **{field: getattr(self.resource, field) for field in self.fields})


def _find_decoder(kind: Any) -> Callable[[Any], Any] | None:
    """Return the function that converts a column to a field of this type; None if they are equal."""
    if kind is bool:  # SQLite returns 0 and 1, and the JSON of the audit log needs false and true
        return bool
    return msgspec.json.Decoder(kind).decode if _is_json(kind) else None


def _is_json(kind: Any) -> bool:
    """Return whether a field of this type is stored as JSON: every type but numbers, text, bytes and booleans."""
    return kind not in (str, int, bool, bytes, int | None, str | None)
