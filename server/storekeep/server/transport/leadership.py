"""Workers: where each of several finds the others, and which of them writes where the database has one writer.

The one that holds the database's `write` lock writes. The kernel keeps the lock: it passes to the next worker when the
writer lets go of it, and when it dies. Invariant: a worker that does not hold the lock changes nothing.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from storekeep.server.config import Settings
from storekeep.server.store.locks import lock

FOLDER_BYTES_MAX = 80
"""Of the path of a folder with sockets: Linux takes 107 bytes for the path of a socket (unix(7))."""
WRITER = "writer"
LOG_TURNS_FILE = "log.turns"
"""In the folder of the workers; see `LogWriter`."""

log = logging.getLogger("storekeep.workers")


class WorkerFolder:
    """A folder of Unix sockets, of this user only: one for each worker, and links that say which is whose.

    Args:
        path: where it is.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @cached_property
    def _reach(self) -> Path:
        """Another name of the folder where its own is too long. It is valid as long as the process lives."""
        if len(os.fsencode(self.path.absolute())) <= FOLDER_BYTES_MAX:
            return self.path.absolute()
        return Path(f"/proc/self/fd/{os.open(self.path, os.O_PATH | os.O_DIRECTORY)}")

    def make(self) -> None:
        """Have it there and empty, whatever a server that was killed has left in it."""
        self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        for path in self.path.iterdir():
            path.unlink()

    def address(self, name: str) -> str:
        """The address of a socket or of a link to one, as gRPC has it."""
        return f"unix:{self._reach / name}"

    def link(self, name: str, *, to: str) -> None:
        """Have a name mean that socket from here on."""
        draft = self.path / f".{name}.{os.getpid()}"
        draft.unlink(missing_ok=True)
        draft.symlink_to(to)
        draft.replace(self.path / name)

    def target(self, name: str) -> str:
        """The socket that a name means; empty where it means none."""
        try:
            return os.readlink(self.path / name)
        except OSError:
            return ""

    def unlink(self, name: str) -> None:
        """Have a name mean nothing any more."""
        (self.path / name).unlink(missing_ok=True)

    def workers(self) -> list[str]:
        """The names of the workers that there should be: their numbers, in order; none where one process is all."""
        if not self.path.is_dir():
            return []
        return sorted((path.name for path in self.path.iterdir() if path.name.isdigit()), key=int)


def own_address(settings: Settings, *, listen: str) -> str:
    """Return where a server that is one process listens for this user's processes alone, beside its port.

    Args:
        listen: the address with the port that it got.
    """
    return WorkerFolder(settings.data_dir).address(_own_socket(listen))


def own_addresses(settings: Settings) -> list[str]:
    """Return where a server on this machine can be asked: the socket of its one process, and those of its workers."""
    has_own = (settings.data_dir / _own_socket(settings.listen)).exists()
    alone = [own_address(settings, listen=settings.listen)] if has_own else []
    folder = WorkerFolder(settings.workers_dir)
    return alone + [folder.address(name) for name in folder.workers()]


def _own_socket(listen: str) -> str:
    """The port is in the name: on PostgreSQL several servers can share a data directory."""
    port = listen.rpartition(":")[2]
    return f"server-{port if port.isdigit() else 'unix'}.sock"


@dataclass(frozen=True, slots=True)
class Worker:
    """One of several workers.

    Attributes:
        number: from 0; a worker that replaces another has its number.
        folder: where all of them are found.
        socket: this process's own name there.
    """

    number: int
    folder: WorkerFolder
    socket: str

    @property
    def address(self) -> str:
        """Where this process listens alone."""
        return self.folder.address(self.socket)


class Writership:
    """Whether this worker is the one that writes.

    Args:
        database: whose writer is meant.
        worker: this one.
    """

    def __init__(self, database: Path, *, worker: Worker) -> None:
        self._database = database
        self._folder = worker.folder
        self._own_socket = worker.socket
        self._state = threading.Condition()
        self._writes = False
        self._released = False
        self._under_way = 0
        self._over = threading.Event()
        self._on_gain: Callable[[], None] = _do_nothing
        self._thread = threading.Thread(target=self._hold, name="writership", daemon=True)

    @property
    def writes(self) -> bool:
        """Whether it is."""
        return self._writes

    def start(self, on_gain: Callable[[], None]) -> None:
        """Wait for the turn to write, for as long as it takes.

        Args:
            on_gain: is called once, when it has come.
        """
        self._on_gain = on_gain
        self._thread.start()

    def _hold(self) -> None:
        with lock(self._database, purpose="write", wait_s=None):
            with self._state:
                if self._released:
                    return
                self._writes = True
                self._folder.link(WRITER, to=self._own_socket)
            log.info("this worker writes")
            self._on_gain()
            self._over.wait()

    def admit(self) -> bool:
        """Whether a change can be made here; then `leave` has to follow."""
        with self._state:
            self._under_way += self._writes
            return self._writes

    def leave(self) -> None:
        """A change that was admitted is over."""
        with self._state:
            self._under_way -= 1
            if self._released and not self._under_way:
                self._state.notify_all()

    def address(self) -> str:
        """Where the worker listens that writes; empty where there is none."""
        target = self._folder.target(WRITER)
        return self._folder.address(target) if target else ""

    def release(self, *, timeout_s: float) -> None:
        """Write no more: finish the changes that are under way, then let another worker write.

        Args:
            timeout_s: how long they may take.
        """
        with self._state:
            wrote = self._writes
            self._writes = False
            self._released = True
            if wrote:
                self._folder.unlink(WRITER)
            self._state.wait_for(lambda: not self._under_way, timeout=timeout_s)
        self._over.set()
        if wrote:
            self._thread.join(timeout=timeout_s)


def _do_nothing() -> None:
    """What a worker does on its turn where nobody says more."""
