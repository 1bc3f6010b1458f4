"""What all resources share: names, etags, versions and the ids that the server chooses."""

from __future__ import annotations

from typing import Protocol

import uuid_utils

from storekeep.server.domain.errors import EtagMismatch, ResourceDeleted, ResourceNotDeleted


class Versioned(Protocol):
    """A resource with a name and a version that rises with every change."""

    @property
    def name(self) -> str:
        """The resource name."""

    @property
    def version(self) -> int:
        """Rises by one with every change."""


class Deletable(Versioned, Protocol):
    """A resource that is deleted softly."""

    @property
    def delete_time_us(self) -> int | None:
        """When it was deleted; None when it is not."""


def new_id() -> str:
    """A UUIDv7 (RFC 9562): unique, and in the order of creation."""
    return str(uuid_utils.uuid7())


def etag_of(version: int) -> str:
    """The etag of a resource's version."""
    return f"v{version}"


def check_etag(resource: Versioned, etag: str) -> None:
    """Refuse a change by a caller who has not seen the current version; an empty etag asks for no check.

    Raises: EtagMismatch.
    """
    current = etag_of(resource.version)
    if etag and etag != current:
        raise EtagMismatch(resource.name, etag=current)


def check_not_deleted(resource: Deletable) -> None:
    """Refuse a change of what is deleted.

    Raises: ResourceDeleted.
    """
    if resource.delete_time_us is not None:
        raise ResourceDeleted(resource.name)


def check_deleted(resource: Deletable) -> None:
    """Refuse to undelete what is not deleted.

    Raises: ResourceNotDeleted.
    """
    if resource.delete_time_us is None:
        raise ResourceNotDeleted(resource.name)
