"""Syncs of SQLite's files: a failed one ends the process, and no checkpoint counts before the database is synced.

After a failed sync nobody knows what is on the disk: Linux may have dropped the pages, and the next sync succeeds all
the same. So nothing more is acknowledged; the next start recovers from the whole write-ahead log, and callers who got
no answer retry with the same request_id. PostgreSQL has done so since 2018.
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
"""The exit code of a process that a failed sync has ended: EX_IOERR of sysexits.h."""
LOG_TIMEOUT_S = 1.0
"""How long the log may take to be written before the process ends; a full pipe must not keep it alive."""
SYNC_ERRORS = frozenset({apsw.SQLITE_IOERR_FSYNC, apsw.SQLITE_IOERR_DIR_FSYNC})
SYNC_NORMAL = 2
"""SQLite's flag for a sync of content and size (sqlite.org/c3ref/c_sync_dataonly.html)."""

log = logging.getLogger("storekeep.store")
_is_ending = threading.Event()


def is_failed_sync(error: BaseException) -> bool:
    """Return whether SQLite reports a failed sync of one of its files."""
    return isinstance(error, apsw.IOError) and getattr(error, "extendedresult", 0) in SYNC_ERRORS


def end_process(problem: str) -> NoReturn:
    """End this process at once, because a sync has failed, with one line in the log."""
    _is_ending.set()
    try:
        log.critical(
            "a sync of the database failed; the process ends, as nothing is certain to be on the disk any more. Check "
            "the disk, then start again: what was acknowledged is recovered from the write-ahead log",
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
    """Never return where a failed sync is ending this process: nothing is acknowledged any more."""
    if _is_ending.is_set():
        threading.Event().wait()


class _Methods(Structure):
    """SQLite's `sqlite3_io_methods` (sqlite.org/c3ref/io_methods.html), version 3."""


class _File(Structure):
    """SQLite's `sqlite3_file`: how it reaches a file."""

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
    """Makes every pass of a checkpoint on a connection sync the database before it counts.

    A pass that does not reach the end of the log would otherwise count without a sync: its pages are read from the
    database from then on, and if a later sync fails, the log that has them begins anew all the same. SQLite announces
    the end of the copying (SQLITE_FCNTL_CKPT_DONE) before the pass counts, in every process; there the file is synced.

    Args:
        connection: makes the checkpoints; this object has to live as long as it.
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
            end_process(f"SQLite's result code {result} where the database file was synced")
        return int(self._control(file, operation, argument))
