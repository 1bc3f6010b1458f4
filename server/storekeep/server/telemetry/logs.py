"""Logs: one JSON object per line, formatted by the caller and written in batches by one background thread.

Logging never blocks: if the queue is full, lines are dropped and their number is logged. The queue is written at exit
and on an uncaught exception; `kill -9` loses the last few hundredths of a second.
"""

from __future__ import annotations

import atexit
import collections
import contextlib
import errno
import faulthandler
import fcntl
import logging
import math
import os
import sys
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any

import msgspec
from pythonjsonlogger.msgspec import MsgspecFormatter

BATCH_DELAY_S = 0.02
"""How long the writer collects lines: they share one write, and the GIL is handed over only fifty times a second."""
CHECK_INTERVAL_S = 1.0
"""Interval at which the writer checks whether the log file was replaced."""
FLUSH_TIMEOUT_S = 3.0
"""How long an exit waits for the disk or the pipe, once. A pipe without a reader stays full."""

GRPC_LOGGER = "grpc._cython.cygrpc"
"""The logger to which gRPC writes metadata and paths that are not UTF-8, and so possibly tokens."""

Stamp = dict[str, int]
"""Fields in every line of one process."""

encode = msgspec.json.Encoder().encode


class Line(msgspec.Struct):
    """A frequent log line; it costs half as much as a dictionary. Subclasses add fields.

    Attributes:
        time, level, worker: Set by `CallLog.write_line`.
    """

    time: datetime | None = None
    level: str = ""
    worker: int | msgspec.UnsetType = msgspec.UNSET


class LogWriter:
    """Writes lines to a file descriptor from its own thread.

    Args:
        descriptor: File descriptor to write to.
        queue_max: Maximum number of queued lines; further ones are dropped and counted.
        lock_file: File that all processes with the same output lock while they write, so that lines stay whole: a
            pipe may interleave writes of more than 4 KiB. None if this process is the only one.
        stamp: Fields in every line.
        file: Path of the descriptor's file; it is reopened if the file was replaced (logrotate). None for no file.
    """

    def __init__(
        self,
        descriptor: int,
        *,
        queue_max: int,
        lock_file: Path | None = None,
        stamp: Stamp | None = None,
        file: Path | None = None,
    ) -> None:
        self.stamp = stamp or {}
        self._file = file
        self._checked_s = time.monotonic()
        self._descriptor = descriptor
        self._lock = None if lock_file is None else os.open(lock_file, os.O_RDWR | os.O_CREAT, 0o600)
        self._queue_max = queue_max
        self._lines: collections.deque[bytes] = collections.deque()
        self._dropped = 0
        self._wake = threading.Event()
        self._write_lock = threading.Lock()
        self._closed = False
        self._is_stuck = False
        self._thread = threading.Thread(target=self._run, name="log-writer", daemon=True)
        self._thread.start()

    def put(self, line: bytes) -> None:
        """Queue one line, without its line break. Never blocks or raises."""
        if len(self._lines) >= self._queue_max:
            self._dropped += 1
            return
        self._lines.append(line)
        if not self._wake.is_set():
            self._wake.set()

    def _run(self) -> None:
        while not self._closed:
            self._wake.wait()
            threading.Event().wait(BATCH_DELAY_S)
            self._wake.clear()
            self.flush()

    def flush(self) -> None:
        """Write the queued lines in the calling thread; lines that cannot be written are lost."""
        if self._is_stuck or not self._write_lock.acquire(timeout=FLUSH_TIMEOUT_S):
            return
        try:
            self._follow_file()
            batch = self._take()
            with contextlib.suppress(OSError), self._lock_output():
                while batch:
                    batch = batch[os.write(self._descriptor, batch) :]
        finally:
            self._write_lock.release()

    def reopen(self) -> None:
        """Let the next line look whether the file was replaced, however recently that was done. Takes no lock."""
        self._checked_s = -math.inf

    def _follow_file(self) -> None:
        """Reopen the file under the same descriptor if it was replaced; keep the old one if that fails."""
        if self._file is None or time.monotonic() - self._checked_s < CHECK_INTERVAL_S:
            return
        self._checked_s = time.monotonic()
        with contextlib.suppress(OSError):
            if _is_open(self._file, self._descriptor):
                return
            new_descriptor = open_log_file(self._file)
            os.dup2(new_descriptor, self._descriptor)
            os.close(new_descriptor)

    @contextlib.contextmanager
    def _lock_output(self) -> Iterator[None]:
        """Hold the lock file; the kernel releases it if the process is killed."""
        if self._lock is None:
            yield
            return
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.flock(self._lock, fcntl.LOCK_UN)

    def _take(self) -> bytes:
        lines: list[bytes] = []
        with contextlib.suppress(IndexError):
            while True:
                lines.append(self._lines.popleft())
        if self._dropped:
            dropped, self._dropped = self._dropped, 0
            fields = {"logger": "storekeep.logs", "message": "lines dropped", "lines": dropped}
            lines.append(encode({"time": datetime.now(UTC), "level": "WARNING", **self.stamp, **fields}))
        return b"\n".join([*lines, b""]) if lines else b""

    def close(self) -> None:
        """Write the queued lines and stop the thread. Waits at most `FLUSH_TIMEOUT_S` for a pipe without a reader."""
        if self._closed:
            return
        self._closed = True
        self._wake.set()
        self._thread.join(timeout=FLUSH_TIMEOUT_S)
        self._is_stuck = self._thread.is_alive()
        self.flush()


class CallLog:
    """The log of calls, one line each. A line costs the caller 1 to 2 µs.

    Args:
        writer: Writes the lines.
        level: Minimum level that is written.
    """

    def __init__(self, writer: LogWriter, *, level: int) -> None:
        self._put = writer.put
        self._stamp = writer.stamp
        self._worker = writer.stamp.get("worker", msgspec.UNSET)
        self._level = level

    def write(self, fields: dict[str, Any], *, level: int = logging.INFO) -> None:
        """Log one infrequent line.

        Args:
            fields: Fields of the line: text, numbers or None; never a token.
            level: Level of the line.
        """
        if level >= self._level:
            stamped = {"time": datetime.now(UTC), "level": logging.getLevelName(level), **self._stamp, **fields}
            self._put(encode(stamped))

    def write_line(self, line: Line, *, level: int) -> None:
        """Log one call.

        Args:
            line: Fields of the line; never a token.
            level: Level of the line.
        """
        if level >= self._level:
            line.time = datetime.now(UTC)
            line.level = logging.getLevelName(level)
            line.worker = self._worker
            self._put(encode(line))


class _LineFormatter(MsgspecFormatter):
    """Formats a record as one JSON object, with the time format of the request log."""

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:  # noqa: N802 - logging's name
        moment = datetime.fromtimestamp(record.created, UTC)
        return moment.isoformat(timespec="microseconds").replace("+00:00", "Z")


class _LineHandler(logging.Handler):
    """Passes the records of `logging` to the writer."""

    def __init__(self, writer: LogWriter) -> None:
        super().__init__()
        self._put = writer.put
        self.flush = writer.flush  # type: ignore[method-assign]  # for code that ends the process at once
        self.setFormatter(
            _LineFormatter(
                ["asctime", "levelname", "name", "message"],
                rename_fields={"asctime": "time", "levelname": "level", "name": "logger", "exc_info": "exception"},
                static_fields=writer.stamp,
            )
        )

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._put(self.format(record).encode())
        except Exception:  # noqa: BLE001 - a logging handler must not raise
            self.handleError(record)


def _has_no_arguments(record: logging.LogRecord) -> bool:
    """Return whether a record of gRPC has no arguments; the affected call has its own line."""
    return not record.args


class Logs:
    """The logs of one process.

    Args:
        level: Name of the minimum level.
        file: File to append to; None for standard error.
        queue_max: See `LogWriter`.
        lock_file: See `LogWriter`.
        worker: Number of this worker, in each of its lines; None for a single process.

    Raises: OSError if the file cannot be opened.
    """

    def __init__(
        self, *, level: str, file: Path | None, queue_max: int, lock_file: Path | None = None, worker: int | None = None
    ) -> None:
        descriptor = sys.stderr.fileno() if file is None else open_log_file(file)
        faulthandler.enable(descriptor)
        stamp: Stamp = {} if worker is None else {"worker": worker}
        self.writer = LogWriter(descriptor, queue_max=queue_max, lock_file=lock_file, stamp=stamp, file=file)
        self.requests = CallLog(self.writer, level=logging.getLevelNamesMapping()[level])
        root = logging.getLogger()
        root.handlers[:] = [_LineHandler(self.writer)]
        root.setLevel(level)
        logging.getLogger(GRPC_LOGGER).addFilter(_has_no_arguments)
        logging.getLogger("grpc").setLevel(logging.ERROR)
        for name in ("httpx", "httpcore"):  # they log URLs, which may contain a secret of the receiver
            logging.getLogger(name).setLevel(logging.WARNING)
        sys.excepthook = self._log_uncaught
        threading.excepthook = self._log_uncaught_in_thread
        atexit.register(self.writer.close)

    def reopen(self) -> None:
        """Write the next line to the file that is then at the path of the log, as logrotate expects after SIGHUP."""
        self.writer.reopen()

    def close(self) -> None:
        """Write the queued lines and stop the writer; later lines are lost."""
        self.writer.close()

    def _log_uncaught(
        self, kind: type[BaseException], error: BaseException, trace: TracebackType | None, *, thread: str = "main"
    ) -> None:
        logging.getLogger("storekeep").critical(
            "uncaught exception", extra={"in_thread": thread}, exc_info=(kind, error, trace)
        )
        self.writer.flush()

    def _log_uncaught_in_thread(self, args: threading.ExceptHookArgs) -> None:
        if args.exc_value is not None:
            name = args.thread.name if args.thread else ""
            self._log_uncaught(args.exc_type, args.exc_value, args.exc_traceback, thread=name)


def _is_open(path: Path, descriptor: int) -> bool:
    """Return whether a descriptor refers to the file at this path."""
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def open_log_file(path: Path) -> int:
    """Open a log file for appending. A pipe needs a reader: without one, opening it would block indefinitely."""
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NONBLOCK, 0o640)
    except OSError as error:
        if error.errno == errno.ENXIO:
            raise OSError(errno.ENXIO, "a pipe that nothing reads, or a socket", str(path)) from None
        raise
    os.set_blocking(descriptor, True)
    return descriptor
