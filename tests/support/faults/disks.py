"""Fault injection into disk calls: `faulty_files.c`, loaded into a real server by LD_PRELOAD.

The faults happen in the server process and never reach the kernel. A failed sync reverts the writes since the last
successful one, because Linux drops dirty pages. A later `kill -9` loses nothing else, because the kernel keeps the
other writes. Power cuts are not simulated: a pretended sync before a power cut loses data on any database.
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
    """The system call to hit."""

    NONE = 0
    SYNC = 1
    WRITE = 2


class Kind(IntEnum):
    """The kind of fault."""

    FAIL = 0
    FULL = 1
    SHORT = 2
    DELAY = 3
    PRETEND = 4


class FaultyDisk:
    """Builds the library and controls its faults.

    Args:
        folder: directory for the library and its control file.

    Attributes:
        environment: environment variables that load the library into a process.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        library, self._orders = folder / "faulty_files.so", folder / "orders"
        compiler = shutil.which("cc")
        if compiler is None:
            pytest.skip("tests/support/faults/faulty_files.c needs a C compiler (cc)")
        built = subprocess.run(
            [compiler, "-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o", library, SOURCE, "-ldl", "-lpthread"],
            capture_output=True,
            text=True,
        )
        assert built.returncode == 0, built.stderr
        self._orders.write_bytes(bytes(ORDER.size))
        self.environment = {"LD_PRELOAD": str(library), "FAULTY_FILES": str(self._orders)}

    def order(self, kind: Kind, call: Call, file: str, *, skip: int = 0, times: int = 1, delay_ms: int = 0) -> None:
        """Inject a fault into calls on a file from now on.

        Args:
            file: suffix of the file name.
            skip: number of calls that succeed first.
            times: number of calls that are hit.
        """
        self.heal()
        content = ORDER.pack(file.encode(), Call.NONE, kind, skip, times, delay_ms, 0)
        with self._orders.open("r+b") as orders:
            orders.write(content)
            orders.flush()
            orders.seek(CALL_AT)
            orders.write(struct.pack("=i", call))

    def heal(self) -> None:
        """Stop injecting faults."""
        with self._orders.open("r+b") as orders:
            orders.seek(CALL_AT)
            orders.write(struct.pack("=i", Call.NONE))

    @property
    def hits(self) -> int:
        """Number of calls hit since the last `order`."""
        return int(ORDER.unpack(self._orders.read_bytes())[-1])

    def await_hit(self, *, timeout_s: float = HIT_TIMEOUT_S) -> bool:
        """Wait until a call is hit. Return False after the timeout."""
        give_up = time.monotonic() + timeout_s
        while not self.hits:
            if time.monotonic() > give_up:
                return False
            time.sleep(0.005)
        return True
