"""Field masks, which name the fields that an update changes (AIP-134)."""

from __future__ import annotations

from collections.abc import Iterable

from google.protobuf.field_mask_pb2 import FieldMask


def build_field_mask(paths: Iterable[str]) -> FieldMask | None:
    """Return a mask of `paths`, or None if there are none, which means all fields set in the message."""
    path_list = [paths] if isinstance(paths, str) else list(paths)
    return FieldMask(paths=path_list) if path_list else None
