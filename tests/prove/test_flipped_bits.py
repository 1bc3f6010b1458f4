"""A flipped bit in SQLite's file: `verify` finds it, or it is where operations.md says that it does not look."""

from __future__ import annotations

import os
import random
from pathlib import Path
from typing import Any

import apsw

from tests.support.buyers import open_shop
from tests.support.processes import ServerProcess
from tests.support.shops import Shop

FLIPS = int(os.environ.get("PROVE_ROUNDS", "100"))
ORDERS = 40
NOT_COMPARED = ("product_search", "customer_search", "stock_movements", "stock_levels")
"""Tables of which `verify` does not compare every value; the words of the first two can be rebuilt."""


def read_tables(file: Path) -> dict[str, Any]:
    """Return the rows of all tables but virtual ones; of a table that cannot be read, the error."""
    found: dict[str, Any] = {}
    database = apsw.Connection(str(file), flags=apsw.SQLITE_OPEN_READONLY)
    try:
        names = list(database.execute("SELECT name FROM sqlite_schema WHERE type = 'table' AND rootpage > 0"))
        for (name,) in names:
            try:
                found[name] = list(database.execute(f'SELECT * FROM "{name}"'))
            except (apsw.Error, UnicodeDecodeError) as error:
                found[name] = repr(error)
        found["schema"] = list(database.execute("SELECT type, name, sql FROM sqlite_schema"))
    finally:
        database.close()
    return found


def place_orders(shop: Shop) -> None:
    for _ in range(ORDERS):
        shop.order()


def test_flipped_bit_is_found_or_harmless(tmp_path: Path):
    server = ServerProcess(tmp_path / "server", arguments=("--sample",))
    with open_shop(server) as shop:
        place_orders(shop)
    assert server.stop() == 0
    file = server.data_dir / "storekeep.db"
    assert server.run("verify").returncode == 0
    sound, tables = file.read_bytes(), read_tables(file)
    used = [index for index, byte in enumerate(sound) if byte]  # the rest is nearly all unused space
    chance = random.Random(FLIPS)
    found, harmless, missed = 0, 0, []
    for _ in range(FLIPS):
        flipped = bytearray(sound)
        place, bit = chance.choice(used), chance.randrange(8)
        flipped[place] ^= 1 << bit
        file.write_bytes(flipped)
        for ending in ("-wal", "-shm"):
            Path(f"{file}{ending}").unlink(missing_ok=True)
        if server.run("verify").returncode:
            found += 1
            continue
        damaged = read_tables(file)
        changed = [name for name in tables if damaged.get(name) != tables[name]]
        harmless += not changed
        missed += [name for name in changed if not name.startswith(NOT_COMPARED)]
    counts = f"{FLIPS} flips: {found} found, {harmless} in unused space, {FLIPS - found - harmless} not found"
    assert missed == [], counts
    assert found > FLIPS / 2, counts
