"""Checks of encrypted values: their data key exists, they decrypt, and the row has their blind indexes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from storekeep.server.domain.integrity.data_keys import UNDECRYPTABLE, can_compare_indexes
from storekeep.server.domain.keys.personal_fields import decrypt_resources, read_key_numbers
from storekeep.server.store.sql.transactions import Transaction
from storekeep.server.store.tables import data_keys as store
from storekeep.server.store.tables.encryption_steps import NEXT_STEP

Indexes = Mapping[str, object]
"""Column -> the blind index that a row has in it."""


@dataclass(frozen=True, slots=True)
class BlindIndexes:
    """The blind indexes of one kind of resource.

    Attributes:
        columns: the columns with blind indexes, named like their fields.
        compute: returns the blind indexes of a decrypted resource by column; those of empty values may be absent.
    """

    columns: tuple[str, ...]
    compute: Callable[[Transaction, Any], dict[str, str]]


def check_personal_values(
    tx: Transaction, resources: Sequence[Any], stored: Sequence[Indexes], indexes: BlindIndexes
) -> list[str]:
    """Return a text for each row whose personal values or blind indexes are not those that Storekeep writes.

    Args:
        resources: the encrypted resources.
        stored: the blind indexes in the row of each resource.
    """
    try:
        return _check(tx, resources, stored, indexes)
    except UNDECRYPTABLE:
        return [
            text
            for resource, one in zip(resources, stored, strict=True)
            for text in _check_one(tx, resource, one, indexes)
        ]


def _check_one(tx: Transaction, resource: Any, stored: Indexes, indexes: BlindIndexes) -> list[str]:
    try:
        return _check(tx, [resource], [stored], indexes)
    except UNDECRYPTABLE:
        return [f"{resource.name}: its personal data cannot be decrypted, or is not what Storekeep writes"]


def _check(tx: Transaction, resources: Sequence[Any], stored: Sequence[Indexes], indexes: BlindIndexes) -> list[str]:
    """Return a text for each problem.

    Raises: one of `UNDECRYPTABLE`.
    """
    numbers = read_key_numbers(resources)
    requested = msgspec.json.encode([[number] for number in {*numbers} - {0}]).decode()
    usable = {row[0]: row[-1] == store.NEVER_US for row in store.FIND_BY_NUMBERS.all(tx, numbers=requested)}
    texts = []
    readable = []
    for resource, one, number in zip(resources, stored, numbers, strict=True):
        if not number:
            if any(one.values()) and NEXT_STEP.one(tx) is None:  # else `migrate` encrypts the row later
                texts.append(f"{resource.name}: it has a blind index, but no encrypted value")
        elif number not in usable:
            texts.append(f"{resource.name}: its data key {number} is missing; restore the keys from a backup")
        elif usable[number]:
            readable.append((resource, one))
    if readable and can_compare_indexes(tx):
        plain = decrypt_resources(tx, [resource for resource, _ in readable])
        for resource, (_, one) in zip(plain, readable, strict=True):
            expected = indexes.compute(tx, resource)
            wrong = [column for column in indexes.columns if one[column] != expected.get(column, "")]
            if wrong:
                texts.append(f"{resource.name}: {', '.join(wrong)} not the blind index of the encrypted value")
    return texts
