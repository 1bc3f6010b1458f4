"""Field masks: which fields of a resource an update changes (AIP-134)."""

from __future__ import annotations

from collections.abc import Iterable

from google.protobuf.field_mask_pb2 import FieldMask


def field_mask(paths: Iterable[str]) -> FieldMask | None:
    """Return the mask of `paths`; None, which means all fields that the message sets, when there are none."""
    listed = [paths] if isinstance(paths, str) else list(paths)
    return FieldMask(paths=listed) if listed else None
