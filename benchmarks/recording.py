"""Recordings of real orders: copies of Storekeep's database before and after, for the floor that writes the same."""

from __future__ import annotations

import shutil
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import apsw

from benchmarks.databases import SqliteFile
from benchmarks.loads import orders
from benchmarks.subjects import Storekeep

RECORDING_S = 1.0
IN_FLIGHT = 16


@dataclass(frozen=True)
class Recording:
    """Three copies of a database.

    Attributes:
        before: copy without the recorded orders.
        after: copy with the recorded orders.
        working: copy of `after`, for the floor to write to.
    """

    before: Path
    after: Path
    working: Path

    def build_arguments(self) -> list[str]:
        """Return the arguments for the floor's command line."""
        return ["--before", str(self.before), "--after", str(self.after), "--database", str(self.working)]


def record(shop: Storekeep, folder: Path) -> Recording:
    """Place orders for `RECORDING_S`, and copy the database before and after.

    Raises: LoadFailed.
    """
    folder.mkdir(parents=True)
    recording = Recording(folder / "before.db", folder / "after.db", folder / "working.db")
    database = shop.database
    if not isinstance(database, SqliteFile):
        raise TypeError("the shop is not on SQLite")
    copy_database(database.path, recording.before)
    place_orders(shop)
    copy_database(database.path, recording.after)
    shutil.copyfile(recording.after, recording.working)
    return recording


def place_orders(shop: Storekeep) -> None:
    """Place orders for `RECORDING_S`.

    Raises: LoadFailed.
    """
    orders.send(orders.GRPC, shop.server, token=shop.get_token(), seconds=RECORDING_S, in_flight=IN_FLIGHT)


def copy_database(database: Path, target: Path) -> None:
    """Copy a database that is in use, as a consistent snapshot."""
    with (
        closing(apsw.Connection(str(database))) as source,
        closing(apsw.Connection(str(target))) as copied,
        copied.backup("main", source, "main") as backup,
    ):
        backup.step()
