"""What is promised, to orders and by reservations: which units at which location, as the ledger of stock tells it.

Refuses to promise a unit that is not there, or that is kept back. Invariant: each promise, each end of one and each
shipment is written to the ledger with the level that it changes; what a line has is the sum of its movements.

Where stock is taken from when nobody says: all units of a SKU from the first location that has them all, or else each
line whole from one, or else split; locations in the order of their priority, then where most is there, then by id.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

import msgspec

from storekeep.server.domain.errors import OutOfStock
from storekeep.server.domain.mutations import Mutation
from storekeep.server.domain.stock.expiry import expire_batch_of
from storekeep.server.store.sql.transactions import Transaction
from storekeep.server.store.tables import stock as store

RESERVE, RELEASE, ALLOCATE, DEALLOCATE, SHIP = "RESERVE", "RELEASE", "ALLOCATE", "DEALLOCATE", "SHIP"
K = TypeVar("K", str, tuple[str, str])
Level = tuple[str, ...]
"""Location and SKU."""
encode = msgspec.json.encode


class Wanted(NamedTuple):
    """So many units of a SKU, for one line."""

    line_number: int
    sku: str
    quantity: int


class Share(msgspec.Struct, frozen=True):
    """What one line has at one location."""

    line_number: int
    sku: str
    location_id: str
    quantity: int


class Move(NamedTuple):
    """What changes at one level, for one line."""

    location_id: str
    sku: str
    line_number: int
    on_hand: int
    reserved: int
    allocated: int


@dataclass(frozen=True, slots=True)
class _Kind:
    """One of the two kinds of promises.

    Attributes:
        reserved, allocated: 1 in the one that counts there.
    """

    cause: str
    reserved: int
    allocated: int


_RESERVED = _Kind(RESERVE, 1, 0)
_ALLOCATED = _Kind(ALLOCATE, 0, 1)
Places = Mapping[str, tuple[str, int]]
"""SKU -> the location that all its units are taken from, and what is on hand there; nothing of those that none has."""


# -- promising


def allocate_stock(
    mutation: Mutation, source: str, wanted: Sequence[Wanted], *, location_id: str = "", places: Places | None = None
) -> tuple[Share, ...]:
    """Promise units to the lines of an order: all of them or none.

    Args:
        source: the order's name.
        location_id: where all of them are taken from; empty to choose.
        places: where that is, when it was read already in this transaction.

    Raises: OutOfStock, naming each short SKU.
    """
    return _promise(mutation, _ALLOCATED, source, wanted, location_id, places)


def reserve_stock(
    mutation: Mutation, source: str, wanted: Sequence[Wanted], *, location_id: str = ""
) -> tuple[Share, ...]:
    """Promise units to the lines of a reservation: as `allocate_stock`.

    Raises: OutOfStock, naming each short SKU.
    """
    return _promise(mutation, _RESERVED, source, wanted, location_id)


def _promise(
    mutation: Mutation,
    kind: _Kind,
    source: str,
    wanted: Sequence[Wanted],
    location_id: str,
    places: Places | None = None,
) -> tuple[Share, ...]:
    """Promise each SKU whole at one location where that can be done, and spread the others.

    Nobody else writes meanwhile, so what was read is promised without asking for it again.

    Raises: OutOfStock.
    """
    tx = mutation.tx
    if places is None:
        places = _places(tx, add_up((line.sku, line.quantity) for line in wanted), location_id)
    short = [line for line in wanted if line.sku not in places]
    spread = _spread(mutation, short, location_id) if short else []
    whole = [
        Share(line.line_number, line.sku, places[line.sku][0], line.quantity) for line in wanted if line.sku in places
    ]
    on_hand: dict[Level, int] = {(location, sku): units for sku, (location, units) in places.items()}
    if whole:
        units_at = add_up(((share.location_id, share.sku), share.quantity) for share in whole)
        promised = [
            (*level, kind.reserved * units, kind.allocated * units, tx.now_us) for level, units in units_at.items()
        ]
        store.PROMISE.run_later(tx, promised)
    if spread:
        on_hand |= _move_levels(tx, [_move(kind, share) for share in spread])
        whole = sorted([*whole, *spread], key=lambda share: share.line_number)
    write_movements(mutation, kind.cause, source, [_move(kind, share) for share in whole], on_hand)
    return tuple(whole)


def _places(tx: Transaction, quantities: dict[str, int], location_id: str) -> Places:
    asked = encode(quantities).decode()
    rows = store.LEVELS_WITH_ALL.all(tx, quantities=asked, taken_at=location_id)
    return {sku: (location, on_hand) for sku, location, on_hand in rows}


def _spread(mutation: Mutation, wanted: Sequence[Wanted], location_id: str) -> list[Share]:
    """Find the units of lines of which no location has them all; where they are too few, expire what has expired first.

    Raises: OutOfStock.
    """
    quantities = add_up((line.sku, line.quantity) for line in wanted)
    while True:
        there = levels_to_take_from(mutation.tx, list(quantities), location_id=location_id)
        found = {sku: sum(there[sku].values()) for sku in quantities}
        short = {sku: (units, found[sku]) for sku, units in quantities.items() if units > found[sku]}
        if not short:
            break
        if not expire_batch_of(mutation, list(short)):
            raise OutOfStock(short)
    return [
        share for sku in quantities for share in spread_sku([line for line in wanted if line.sku == sku], there[sku])
    ]


def levels_to_take_from(tx: Transaction, skus: Sequence[str], *, location_id: str = "") -> dict[str, dict[str, int]]:
    """SKU -> location -> units that can be promised there, in the order in which they are taken; none of 0."""
    there: dict[str, dict[str, int]] = {sku: {} for sku in skus}
    rows = store.LEVELS_TO_TAKE_FROM.all(tx, skus=encode(list(there)).decode(), location_id=location_id)
    for sku, location, units, _ in rows:
        if units > 0:
            there[sku][location] = units
    return there


def spread_sku(wanted: Sequence[Wanted], there: dict[str, int]) -> Iterable[Share]:
    """Take the lines of one SKU from locations that have enough for all of them: each whole where that can be done.

    Args:
        there: location -> units, in the order in which they are taken; what is taken is taken off.
    """
    total = sum(line.quantity for line in wanted)
    together = next((location for location, units in there.items() if units >= total), None)
    for line in wanted:
        whole = together or next((location for location, units in there.items() if units >= line.quantity), None)
        missing = line.quantity
        for location in [whole] if whole else list(there):
            units = min(missing, there[location])
            if units:
                there[location] -= units
                missing -= units
                yield Share(line.line_number, line.sku, location, units)


def add_up(lines: Iterable[tuple[K, int]]) -> dict[K, int]:
    """SKU, or level -> units over all lines, sorted, so that all take stock in the same order."""
    quantities: dict[K, int] = {}
    for key, quantity in lines:
        quantities[key] = quantities.get(key, 0) + quantity
    return dict(sorted(quantities.items()))


def _move(kind: _Kind, share: Share, *, sign: int = 1, on_hand: int = 0) -> Move:
    units = sign * share.quantity
    return Move(share.location_id, share.sku, share.line_number, on_hand, kind.reserved * units, kind.allocated * units)


# -- ending promises


def allocations_of(tx: Transaction, sources: Sequence[str]) -> dict[str, tuple[Share, ...]]:
    """What is allocated to the lines of orders, and where: order's name -> shares, in the order of the lines."""
    found: dict[str, list[Share]] = {source: [] for source in sources}
    for source, *share in store.ALLOCATIONS_OF.all(tx, sources=encode(list(sources)).decode()):
        found[source].append(Share(*share))
    return {source: tuple(shares) for source, shares in found.items()}


def deallocate(mutation: Mutation, source: str, shares: Sequence[Share], *, reason: str = "") -> None:
    """Take back what was promised to lines of an order, which have at least as much."""
    move_stock(mutation, DEALLOCATE, source, [_move(_ALLOCATED, share, sign=-1) for share in shares], reason=reason)


def release(mutation: Mutation, source: str, shares: Sequence[Share], *, reason: str = "") -> None:
    """Take back what a reservation kept."""
    move_stock(mutation, RELEASE, source, [_move(_RESERVED, share, sign=-1) for share in shares], reason=reason)


def ship(mutation: Mutation, source: str, shares: Sequence[Share], *, reason: str = "") -> None:
    """Have units that were promised to lines of an order leave: they are neither there nor promised any more.

    Raises: OutOfStock where some are not on hand, as they were promised beyond it.
    """
    moves = [_move(_ALLOCATED, share, sign=-1, on_hand=-share.quantity) for share in shares]
    _check_there(move_stock(mutation, SHIP, source, moves, reason=reason), moves)


def ship_reserved(mutation: Mutation, source: str, shares: Sequence[Share], *, reason: str = "") -> None:
    """Have units that a reservation kept leave.

    Raises: OutOfStock where some are not on hand.
    """
    moves = [_move(_RESERVED, share, sign=-1, on_hand=-share.quantity) for share in shares]
    _check_there(move_stock(mutation, SHIP, source, moves, reason=reason), moves)


def _check_there(on_hand: dict[Level, int], moves: Sequence[Move]) -> None:
    """Refuse to have left what was promised beyond what is on hand.

    Raises: OutOfStock.
    """
    left: dict[Level, int] = defaultdict(int)
    for move in moves:
        left[move[:2]] -= move.on_hand
    short = {level[1]: (left[level], left[level] + units) for level, units in on_hand.items() if units < 0}
    if short:
        raise OutOfStock(short)


def hand_over(
    mutation: Mutation, reservation: str, kept: Sequence[Share], order: str, wanted: Sequence[Wanted]
) -> list[Wanted]:
    """Have the units that a reservation keeps be promised to the lines of an order instead; what is over is given back.

    Returns: what the lines still want.
    """
    shares, missing = _share_out(kept, wanted)
    released = [_move(_RESERVED, share, sign=-1) for share in kept]
    allocated = [_move(_ALLOCATED, share) for share in shares]
    on_hand = _move_levels(mutation.tx, [*released, *allocated])
    write_movements(mutation, RELEASE, reservation, released, on_hand)
    write_movements(mutation, ALLOCATE, order, allocated, on_hand)
    return missing


def _share_out(kept: Sequence[Share], wanted: Sequence[Wanted]) -> tuple[list[Share], list[Wanted]]:
    """What lines get of the units that are kept, and what they still want."""
    left = {(share.sku, share.location_id): 0 for share in kept}
    for share in kept:
        left[share.sku, share.location_id] += share.quantity
    shares: list[Share] = []
    missing: list[Wanted] = []
    for line in wanted:
        units = line.quantity
        for level in [level for level in left if level[0] == line.sku and left[level]]:
            taken = min(units, left[level])
            if taken:
                left[level] -= taken
                units -= taken
                shares.append(Share(line.line_number, line.sku, level[1], taken))
        if units:
            missing.append(line._replace(quantity=units))
    return shares, missing


def move_stock(
    mutation: Mutation, cause: str, source: str, moves: Sequence[Move], *, reason: str = ""
) -> dict[Level, int]:
    """Change levels that are there by what is known to be right, and write each change to the ledger.

    The database's CHECK has the last word: what would break it is a defect, and nothing is done.

    Returns: what is on hand after, by level.
    """
    if not moves:
        return {}
    on_hand = _move_levels(mutation.tx, moves)
    write_movements(mutation, cause, source, moves, on_hand, reason=reason)
    return on_hand


def _move_levels(tx: Transaction, moves: Sequence[Move]) -> dict[Level, int]:
    """Change each level once, by all its moves; gives what is on hand after."""
    changes: dict[tuple[str, str], list[int]] = {}
    for move in moves:
        change = changes.setdefault((move.location_id, move.sku), [0, 0, 0])
        for place, delta in enumerate(move[3:]):
            change[place] += delta
    asked = encode([(*level, *change) for level, change in sorted(changes.items())]).decode()
    rows = store.MOVE_LEVELS.all(tx, moves=asked, now_us=tx.now_us)
    return {(location, sku): on_hand for location, sku, on_hand in rows}


def write_movements(
    mutation: Mutation,
    cause: str,
    source: str,
    moves: Sequence[Move],
    on_hand: Mapping[Level, int],
    *,
    reason: str = "",
) -> None:
    """Write movements that were made already.

    Args:
        on_hand: what is on hand after all of them, by level.
    """
    if not moves:
        return
    why = (cause, reason, mutation.call.caller.subject, source, mutation.tx.now_us)
    after = dict(on_hand)
    entries = []
    for move in reversed(moves):
        level = move[:2]
        entries.append((*move, after[level], *why))
        after[level] -= move.on_hand
    entries.reverse()
    store.INSERT_MOVEMENTS.run_later(mutation.tx, entries)
