"""What the standard methods do, once for all resources: get, list, create, update, archive, delete.

A `Collection` says what is particular about one resource; the methods here keep what is common to all:
etags, versions, soft deletion, the event and the audit entry.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar

import msgspec

from storekeep.server.domain.calls import Call
from storekeep.server.domain.errors import AlreadyExists, IllegalState, ResourceNotFound
from storekeep.server.domain.mutations import CheckAccess, Mutation, mutate
from storekeep.server.domain.standard.lists import Listing, ListRequest
from storekeep.server.domain.standard.pages import Page, PageTokens, check_batch
from storekeep.server.domain.standard.resources import Deletable, check_deleted, check_etag, check_not_deleted
from storekeep.server.store.engine import Store
from storekeep.server.store.sql.rows import Rows
from storekeep.server.store.sql.transactions import Table, Transaction

ACTIVE = "ACTIVE"
ARCHIVED = "ARCHIVED"
LIFECYCLE_STATES = (ACTIVE, ARCHIVED)
Key = tuple[str, ...]


R = TypeVar("R", bound=Deletable)


def changed(resource: R, **changes: Any) -> R:
    """A copy of a resource with some fields changed."""
    return msgspec.structs.replace(resource, **changes)  # type: ignore[type-var]  # resources are structs


def fields_of(resource: type[Any]) -> tuple[msgspec.structs.FieldInfo, ...]:
    """The fields of a resource, in order."""
    return msgspec.structs.fields(resource)


class Collection(Generic[R]):
    """All resources of one type.

    Args:
        resource: the struct; its fields are the table's columns by name, and those that `attach` fills.
        table: the Peewee model.
        key: the fields that the resource name is made of.
        pattern: the resource name, with a `{}` for each part of the key.
        event: the noun in the names of events, such as `product`.
        not_found: what is raised where a resource is missing.
        listing: how it is listed, without the part that all listings share.
        check: refuses values that other resources do not allow; gets the old resource, or None when new.
        attach: completes resources with what other tables hold.
        store_parts: writes what other tables hold; gets the old resource, or None when new.
        check_unused: refuses a deletion while something refers to the resource.
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
        fields = [f for f in fields_of(resource) if hasattr(table, f.name)]
        self.rows = Rows(table, columns=[f.name for f in fields], key=key)
        self._decoders: list[tuple[int, Callable[[str], Any]]] = [
            (place, msgspec.json.Decoder(f.type).decode) for place, f in enumerate(fields) if _is_json(f.type)
        ]
        self._json_fields = [fields[place].name for place, _ in self._decoders]

    # -- reading

    def find(self, tx: Transaction, key: Key) -> R:
        """One resource, deleted or not.

        Raises: the collection's `not_found`.
        """
        row = self.rows.find(tx, key)
        if row is None:
            raise self.not_found(self.pattern.format(*key))
        return self.read_rows(tx, [row])[0]

    def read_rows(self, tx: Transaction, rows: Sequence[Sequence[Any]]) -> list[R]:
        """Rows as resources."""
        return self._attach(tx, [self._read_row(row) for row in rows])

    def _read_row(self, row: Sequence[Any]) -> R:
        if self._decoders:
            values = list(row)
            for place, decode in self._decoders:
                values[place] = decode(values[place])
            return self.resource(*values)
        return self.resource(*row)

    def get(self, store: Store, key: Key) -> R:
        """One resource, deleted or not.

        Raises: the collection's `not_found`.
        """
        return store.read(lambda tx: self.find(tx, key))

    def batch_get(self, store: Store, keys: Sequence[Key]) -> list[R]:
        """Resources at one point in time, in the order of the keys, all or none.

        Raises: the collection's `not_found`, for the first that is missing; BatchTooLarge.
        """
        found = store.snapshot(lambda tx: self.read_rows(tx, self.rows.find_many(tx, keys)))
        if len(found) != len(keys):
            there = {resource.name for resource in found}
            names = (self.pattern.format(*key) for key in keys)
            raise self.not_found(next(name for name in names if name not in there))
        check_batch(found)
        return found

    def page(self, store: Store, request: ListRequest, *, listing: Listing[R], tokens: PageTokens) -> Page[R]:
        """One page of a list.

        Raises: InvalidFilter, InvalidOrderBy, InvalidPageToken.
        """
        return store.snapshot(lambda tx: listing.page(tx, request, tokens=tokens))

    # -- changing

    def create(self, store: Store, call: Call, draft: R) -> R:
        """Add a resource; its version and times are set here.

        Raises: AlreadyExists, and what the collection's `check` raises.
        """

        def effect(mutation: Mutation) -> R:
            return self.add(mutation, draft)

        return mutate(store, call, effect, self.resource)

    def add(self, mutation: Mutation, draft: R) -> R:
        """Add a resource within a running mutation.

        Raises: as `create`.
        """
        tx = mutation.tx
        self._check(tx, draft, None)
        if self.rows.find(tx, self._key_of(draft)) is not None:
            raise AlreadyExists(draft.name)
        new = changed(draft, version=1, create_time_us=tx.now_us, update_time_us=tx.now_us)
        self.rows.insert(tx, self._values(new))
        self._store_parts(tx, new, None)
        mutation.record(f"{self.event}.created", before=None, after=new)
        return new

    def update(self, store: Store, call: Call, draft: R, *, fields: Sequence[str], etag: str) -> R:
        """Change the named fields to the draft's; without any difference nothing is written.

        Raises: the collection's `not_found`, ResourceDeleted, EtagMismatch, and what its `check` raises.
        """

        def effect(mutation: Mutation) -> R:
            old = self.find(mutation.tx, self._key_of(draft))
            check_not_deleted(old)
            check_etag(old, etag)
            new = changed(old, **{field: getattr(draft, field) for field in fields})
            if new == old:
                return old
            self._check(mutation.tx, new, old)
            return self.replace(mutation, old, new, happened="updated")

        return mutate(store, call, effect, self.resource)

    def replace(self, mutation: Mutation, old: R, new: R, *, happened: str) -> R:
        """Write the next version of a resource, its event and its audit entry."""
        tx = mutation.tx
        new = changed(new, version=old.version + 1, update_time_us=tx.now_us)
        self.rows.update(tx, self._values(new))
        self._store_parts(tx, new, old)
        mutation.record(f"{self.event}.{happened}", before=old, after=new)
        return new

    def archive(self, store: Store, call: Call, key: Key, *, etag: str) -> R:
        """Take a resource off sale.

        Raises: the collection's `not_found`, ResourceDeleted, EtagMismatch, IllegalState.
        """
        return self._step(store, call, key, etag=etag, to=ARCHIVED, happened="archived")

    def unarchive(self, store: Store, call: Call, key: Key, *, etag: str) -> R:
        """Put an archived resource back on sale.

        Raises: as `archive`.
        """
        return self._step(store, call, key, etag=etag, to=ACTIVE, happened="unarchived")

    def _step(self, store: Store, call: Call, key: Key, *, etag: str, to: str, happened: str) -> R:
        def effect(mutation: Mutation) -> R:
            old = self.find(mutation.tx, key)
            check_not_deleted(old)
            check_etag(old, etag)
            state = old.state  # type: ignore[attr-defined]  # resources with a lifecycle have one
            if state == to:
                raise IllegalState(old.name, state=state, wanted=to)
            return self.replace(mutation, old, changed(old, state=to), happened=happened)

        return mutate(store, call, effect, self.resource)

    def delete(self, store: Store, call: Call, key: Key, *, etag: str, check_access: CheckAccess[R] | None = None) -> R:
        """Delete a resource softly.

        Raises: the collection's `not_found`, ResourceDeleted, EtagMismatch, ResourceInUse.
        """

        def effect(mutation: Mutation) -> R:
            old = self.find(mutation.tx, key)
            check_not_deleted(old)
            check_etag(old, etag)
            self._check_unused(mutation.tx, old)
            new = changed(old, delete_time_us=mutation.tx.now_us)
            return self.replace(mutation, old, new, happened="deleted")

        return mutate(store, call, effect, self.resource, check_access=check_access)

    def undelete(
        self, store: Store, call: Call, key: Key, *, etag: str, check_access: CheckAccess[R] | None = None
    ) -> R:
        """Bring a deleted resource back.

        Raises: the collection's `not_found`, ResourceNotDeleted, EtagMismatch.
        """

        def effect(mutation: Mutation) -> R:
            old = self.find(mutation.tx, key)
            check_deleted(old)
            check_etag(old, etag)
            new = changed(old, delete_time_us=None)
            return self.replace(mutation, old, new, happened="undeleted")

        return mutate(store, call, effect, self.resource, check_access=check_access)

    def _key_of(self, resource: R) -> Key:
        return tuple(getattr(resource, field) for field in self.key)

    def _values(self, resource: R) -> dict[str, Any]:
        values = {column: getattr(resource, column) for column in self.rows.columns}
        for field in self._json_fields:
            values[field] = msgspec.json.encode(values[field]).decode()
        return values


def _is_json(kind: Any) -> bool:
    """Whether a field of this type stands in its column as JSON: everything but numbers, text and truth."""
    return kind not in (str, int, bool, bytes, int | None, str | None)
