"""Workers: how they find each other, and the election of a leader on databases with a single writer.

The leader is the worker that holds the database's `write` lock. The kernel manages the lock and gives it to the next
worker when the leader releases it or dies. Invariant: only the holder of the lock writes to the database.
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
"""Longest path of a folder with sockets. Linux limits the path of a socket to 107 bytes (unix(7))."""
LEADER_LINK = "writer"
"""The link to the leader's socket."""
LOG_TURNS_FILE = "log.turns"
"""A file in the workers' folder; see `LogWriter`."""

log = logging.getLogger("storekeep.workers")


class WorkerFolder:
    """A private folder with the Unix socket of each worker, and links that name the sockets.

    Args:
        path: the folder.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @cached_property
    def _reach(self) -> Path:
        """A path of the folder that is short enough for sockets. It is valid while the process lives."""
        if len(os.fsencode(self.path.absolute())) <= FOLDER_BYTES_MAX:
            return self.path.absolute()
        return Path(f"/proc/self/fd/{os.open(self.path, os.O_PATH | os.O_DIRECTORY)}")

    def make(self) -> None:
        """Create the folder, or remove everything that a killed server left in it."""
        self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        for path in self.path.iterdir():
            path.unlink()

    def address(self, name: str) -> str:
        """Return the gRPC address of a socket, or of a link to one."""
        return f"unix:{self._reach / name}"

    def link(self, name: str, *, to: str) -> None:
        """Create or replace a link to a socket, atomically."""
        temporary = self.path / f".{name}.{os.getpid()}"
        temporary.unlink(missing_ok=True)
        temporary.symlink_to(to)
        temporary.replace(self.path / name)

    def target(self, name: str) -> str:
        """Return the socket that a link points to; empty if there is no such link."""
        try:
            return os.readlink(self.path / name)
        except OSError:
            return ""

    def unlink(self, name: str) -> None:
        """Remove a link, if it exists."""
        (self.path / name).unlink(missing_ok=True)

    def workers(self) -> list[str]:
        """Return the links of the configured workers, which are their numbers, in order; empty for a single process."""
        if not self.path.is_dir():
            return []
        return sorted((path.name for path in self.path.iterdir() if path.name.isdigit()), key=int)


def own_address(settings: Settings, *, listen: str) -> str:
    """Return the private address of a single-process server, which only processes of its user can reach.

    Args:
        listen: its public address, with the actual port.
    """
    return WorkerFolder(settings.data_dir).address(_name_own_socket(listen))


def own_addresses(settings: Settings) -> list[str]:
    """Return the private addresses of the server on this machine: of its single process, or of each of its workers."""
    has_socket = (settings.data_dir / _name_own_socket(settings.listen)).exists()
    single = [own_address(settings, listen=settings.listen)] if has_socket else []
    folder = WorkerFolder(settings.workers_dir)
    return single + [folder.address(name) for name in folder.workers()]


def _name_own_socket(listen: str) -> str:
    """Return the file name of the private socket. It has the port: servers on PostgreSQL can share a data directory."""
    port = listen.rpartition(":")[2]
    return f"server-{port if port.isdigit() else 'unix'}.sock"


@dataclass(frozen=True, slots=True)
class Worker:
    """One of several worker processes.

    Attributes:
        number: from 0. A replacement has the number of the worker that it replaces.
        folder: the folder with the sockets of all workers.
        socket: the name of this process's socket in the folder.
    """

    number: int
    folder: WorkerFolder
    socket: str

    @property
    def address(self) -> str:
        """The private address of this process."""
        return self.folder.address(self.socket)


class LeaderElection:
    """Elects one worker as the leader, which alone writes to the database.

    Args:
        database: the database file.
        worker: the worker of this process.
    """

    def __init__(self, database: Path, *, worker: Worker) -> None:
        self._database = database
        self._folder = worker.folder
        self._own_socket = worker.socket
        self._state = threading.Condition()
        self._is_leader = False
        self._is_released = False
        self._writes_in_progress = 0
        self._may_unlock = threading.Event()
        self._on_elected: Callable[[], None] = _do_nothing
        self._thread = threading.Thread(target=self._hold, name="leader-election", daemon=True)

    @property
    def is_leader(self) -> bool:
        """Whether this worker is the leader."""
        return self._is_leader

    def start(self, on_elected: Callable[[], None]) -> None:
        """Wait in the background until this worker is elected.

        Args:
            on_elected: called once, in another thread, when this worker becomes the leader.
        """
        self._on_elected = on_elected
        self._thread.start()

    def _hold(self) -> None:
        with lock(self._database, purpose="write", wait_s=None):
            with self._state:
                if self._is_released:
                    return
                self._is_leader = True
                self._folder.link(LEADER_LINK, to=self._own_socket)
            log.info("this worker is the leader")
            self._on_elected()
            self._may_unlock.wait()

    def admit(self) -> bool:
        """Admit a write if this worker is the leader. If it returns True, the caller must call `leave` afterwards."""
        with self._state:
            self._writes_in_progress += self._is_leader
            return self._is_leader

    def leave(self) -> None:
        """Record the end of an admitted write."""
        with self._state:
            self._writes_in_progress -= 1
            if self._is_released and not self._writes_in_progress:
                self._state.notify_all()

    def address(self) -> str:
        """Return the private address of the leader; empty if there is none."""
        target = self._folder.target(LEADER_LINK)
        return self._folder.address(target) if target else ""

    def release(self, *, timeout_s: float) -> None:
        """Step down: wait for the writes in progress, then release the lock to another worker.

        Args:
            timeout_s: the longest wait for the writes in progress, in seconds.
        """
        with self._state:
            was_leader = self._is_leader
            self._is_leader = False
            self._is_released = True
            if was_leader:
                self._folder.unlink(LEADER_LINK)
            self._state.wait_for(lambda: not self._writes_in_progress, timeout=timeout_s)
        self._may_unlock.set()
        if was_leader:
            self._thread.join(timeout=timeout_s)


def _do_nothing() -> None:
    """Do nothing, until `start` sets a callback."""
