"""Syncs of SQLite's files: a failed sync ends the process, and a checkpoint takes effect only after a sync.

After a failed sync, Linux may drop the unwritten pages, and the next sync succeeds anyway. So nothing more is
acknowledged. The next start recovers from the whole write-ahead log, and callers without an answer retry with the same
request_id. PostgreSQL has done the same since 2018.
"""

from __future__ import annotations

import ctypes
import logging
import os
import threading
from ctypes import CFUNCTYPE, POINTER, Structure, c_int, c_void_p
from typing import Any, NoReturn

import apsw

SYNC_FAILED = 74
"""Exit code after a failed sync: EX_IOERR of sysexits.h."""
LOG_TIMEOUT_S = 1.0
"""How long to wait for the log before the process ends. A full pipe must not keep it alive."""
SYNC_ERRORS = frozenset({apsw.SQLITE_IOERR_FSYNC, apsw.SQLITE_IOERR_DIR_FSYNC})
SYNC_NORMAL = 2
"""SQLite's flag for a sync of content and size (sqlite.org/c3ref/c_sync_dataonly.html)."""

log = logging.getLogger("storekeep.store")
_is_ending = threading.Event()


def is_failed_sync(error: BaseException) -> bool:
    """Return whether an error reports a failed sync."""
    return isinstance(error, apsw.IOError) and getattr(error, "extendedresult", 0) in SYNC_ERRORS


def end_process(problem: str) -> NoReturn:
    """Log a failed sync and end this process at once."""
    _is_ending.set()
    try:
        log.critical(
            "a sync of the database failed; the process ends, because the state of the disk is unknown. Check the "
            "disk, then restart: acknowledged writes are recovered from the write-ahead log",
            extra={"problem": problem, "exit_code": SYNC_FAILED},
        )
        writing = threading.Thread(target=_flush_logs, name="last-words", daemon=True)
        writing.start()
        writing.join(LOG_TIMEOUT_S)
    finally:
        os._exit(SYNC_FAILED)


def _flush_logs() -> None:
    for handler in logging.getLogger().handlers:
        handler.flush()


def stop_if_ending() -> None:
    """Block indefinitely if a failed sync is ending this process, so that nothing more is acknowledged."""
    if _is_ending.is_set():
        threading.Event().wait()


class _Methods(Structure):
    """SQLite's `sqlite3_io_methods` (sqlite.org/c3ref/io_methods.html), version 3."""


class _File(Structure):
    """SQLite's `sqlite3_file`: an open file."""

    _fields_ = (("methods", POINTER(_Methods)),)


_Sync = CFUNCTYPE(c_int, POINTER(_File), c_int)
_FileControl = CFUNCTYPE(c_int, POINTER(_File), c_int, c_void_p)
_Methods._fields_ = (
    ("version", c_int),
    *((name, c_void_p) for name in ("close", "read", "write", "truncate")),
    ("sync", _Sync),
    *((name, c_void_p) for name in ("file_size", "lock", "unlock", "check_reserved_lock")),
    ("file_control", _FileControl),
    *((name, c_void_p) for name in ("sector_size", "device_characteristics")),
    *((name, c_void_p) for name in ("shm_map", "shm_lock", "shm_barrier", "shm_unmap", "fetch", "unfetch")),
)


class SyncedPasses:
    """Syncs the database file in every checkpoint pass of a connection before the pass takes effect.

    SQLite does not sync after a pass that stops before the end of the log, although readers take its pages from the
    database file from then on. If a later sync fails, the log with these pages restarts anyway. SQLite sends
    SQLITE_FCNTL_CKPT_DONE after copying and before the pass takes effect; the file is synced at that point.

    Args:
        connection: the connection that runs the checkpoints. This object must live as long as it.
    """

    def __init__(self, connection: Any) -> None:
        file = ctypes.POINTER(_File)()
        connection.file_control("main", apsw.SQLITE_FCNTL_FILE_POINTER, ctypes.addressof(file))
        own = file.contents.methods.contents
        self._sync, self._control = own.sync, own.file_control
        self._methods = _Methods.from_buffer_copy(own)
        self._methods.file_control = _FileControl(self._sync_at_end)
        file.contents.methods = ctypes.pointer(self._methods)

    def _sync_at_end(self, file: Any, operation: int, argument: int | None) -> int:
        if operation == apsw.SQLITE_FCNTL_CKPT_DONE and (result := self._sync(file, SYNC_NORMAL)) != apsw.SQLITE_OK:
            end_process(f"SQLite's result code {result} from the sync of the database file")
        return int(self._control(file, operation, argument))
