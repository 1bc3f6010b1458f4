"""A disk that fails on order: `faulty_files.c`, loaded into a real server by LD_PRELOAD.

What it simulates, and what not: it stands in the server's own process, so what it fails, delays or pretends never
reaches the kernel. A failed sync takes back what was written since the last good one, as Linux drops dirty pages; a
`kill -9` afterwards loses nothing else, as the kernel keeps what was written. A power cut is not simulated: a sync that
pretends and is followed by one loses data on any database.
"""

from __future__ import annotations

import shutil
import struct
import subprocess
import time
from enum import IntEnum
from pathlib import Path

import pytest

SOURCE = Path(__file__).with_name("faulty_files.c")
ORDER = struct.Struct("=32s6i")
CALL_AT = 32
HIT_TIMEOUT_S = 60.0
ALWAYS = 2**30
DATABASE = ".db"
LOG = ".db-wal"


class Call(IntEnum):
    """Which call is hit."""

    NONE = 0
    SYNC = 1
    WRITE = 2


class Kind(IntEnum):
    """What happens to it."""

    FAIL = 0
    FULL = 1
    SHORT = 2
    DELAY = 3
    PRETEND = 4


class FaultyDisk:
    """Builds the library and gives it its orders.

    Args:
        folder: where the library and the file with the orders go.

    Attributes:
        environment: what a process is started with that it is to be loaded into.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        library, self._orders = folder / "faulty_files.so", folder / "orders"
        compiler = shutil.which("cc")
        if compiler is None:
            pytest.skip("there is no C compiler (cc) to build tests/faults/faulty_files.c with")
        built = subprocess.run(
            [compiler, "-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o", library, SOURCE, "-ldl", "-lpthread"],
            capture_output=True,
            text=True,
        )
        assert built.returncode == 0, built.stderr
        self._orders.write_bytes(bytes(ORDER.size))
        self.environment = {"LD_PRELOAD": str(library), "FAULTY_FILES": str(self._orders)}

    def order(self, kind: Kind, call: Call, file: str, *, skip: int = 0, times: int = 1, delay_ms: int = 0) -> None:
        """Have calls on a file be hit from now on.

        Args:
            file: the end of its name.
            skip: how many are let through first.
            times: how many are hit.
        """
        self.heal()
        content = ORDER.pack(file.encode(), Call.NONE, kind, skip, times, delay_ms, 0)
        with self._orders.open("r+b") as orders:
            orders.write(content)
            orders.flush()
            orders.seek(CALL_AT)
            orders.write(struct.pack("=i", call))

    def heal(self) -> None:
        """Have nothing be hit from now on."""
        with self._orders.open("r+b") as orders:
            orders.seek(CALL_AT)
            orders.write(struct.pack("=i", Call.NONE))

    @property
    def hits(self) -> int:
        """How many calls were hit by the last order."""
        return int(ORDER.unpack(self._orders.read_bytes())[-1])

    def await_hit(self, *, timeout_s: float = HIT_TIMEOUT_S) -> bool:
        """Wait until a call was hit; False where the time is over first."""
        give_up = time.monotonic() + timeout_s
        while not self.hits:
            if time.monotonic() > give_up:
                return False
            time.sleep(0.005)
        return True
