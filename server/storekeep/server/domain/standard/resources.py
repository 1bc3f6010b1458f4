"""The parts that all resources share: names, versions, etags, labels, times and generated ids."""

from __future__ import annotations

from typing import Protocol

import msgspec
import uuid_utils

from storekeep.server.domain.errors import EtagMismatch, ResourceDeleted, ResourceNotDeleted

MICROS = 1_000_000
"""The microseconds of a second."""
decode_labels = msgspec.json.Decoder(dict[str, str]).decode
"""Decodes stored labels."""


class Versioned(Protocol):
    """A resource with a name and a version."""

    @property
    def name(self) -> str:
        """The resource name."""

    @property
    def version(self) -> int:
        """1 for a new resource; each change adds one."""


class Deletable(Versioned, Protocol):
    """A resource with soft deletion."""

    @property
    def delete_time_us(self) -> int | None:
        """When it was deleted, microseconds since 1970; None if it is not deleted."""


def new_id() -> str:
    """Return a new UUIDv7 (RFC 9562); later ids sort after earlier ones."""
    return str(uuid_utils.uuid7())


def make_etag(version: int) -> str:
    """Return the etag for a resource version."""
    return f"v{version}"


def check_etag(resource: Versioned, etag: str) -> None:
    """Raise EtagMismatch unless the caller's etag is current. An empty etag skips the check."""
    current = make_etag(resource.version)
    if etag and etag != current:
        raise EtagMismatch(resource.name, etag=current)


def check_not_deleted(resource: Deletable) -> None:
    """Raise ResourceDeleted if the resource is deleted."""
    if resource.delete_time_us is not None:
        is_erased = getattr(resource, "erase_time_us", None) is not None
        raise ResourceDeleted(
            resource.name, merged_into=getattr(resource, "merged_into", ""), state="erased" if is_erased else "deleted"
        )


def check_deleted(resource: Deletable) -> None:
    """Raise ResourceNotDeleted unless the resource is deleted."""
    if resource.delete_time_us is None:
        raise ResourceNotDeleted(resource.name)
