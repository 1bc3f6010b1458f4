"""Real orders, recorded: copies of Storekeep's database before and after some, for the floor that writes the same."""

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
        before: without the recorded orders.
        after: with them.
        working: like `after`, for the floor to write to.
    """

    before: Path
    after: Path
    working: Path

    def arguments(self) -> list[str]:
        """For the floor's command line."""
        return ["--before", str(self.before), "--after", str(self.after), "--database", str(self.working)]


def record(shop: Storekeep, folder: Path) -> Recording:
    """Place orders for a moment, and keep the database as it was before and after.

    Raises: LoadFailed.
    """
    folder.mkdir(parents=True)
    recording = Recording(folder / "before.db", folder / "after.db", folder / "working.db")
    database = shop.database
    if not isinstance(database, SqliteFile):
        raise TypeError("the shop is not on SQLite")
    copy(database.path, recording.before)
    place_some(shop)
    copy(database.path, recording.after)
    shutil.copyfile(recording.after, recording.working)
    return recording


def place_some(shop: Storekeep) -> None:
    """Place orders for a moment.

    Raises: LoadFailed.
    """
    orders.send(orders.GRPC, shop.server, token=shop.token(), seconds=RECORDING_S, in_flight=IN_FLIGHT)


def copy(database: Path, target: Path) -> None:
    """Copy a database that is in use, as it is at one moment."""
    with (
        closing(apsw.Connection(str(database))) as source,
        closing(apsw.Connection(str(target))) as copied,
        copied.backup("main", source, "main") as copying,
    ):
        copying.step()
