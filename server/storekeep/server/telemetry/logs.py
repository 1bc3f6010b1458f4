"""Logs: one JSON object per line, formatted by who logs and written in batches by one background thread.

Nobody waits for the log: beyond a bound, lines are dropped and their number is logged. What is queued is
written at exit and on an uncaught exception; a `kill -9` loses the last few hundredths of a second.
"""

from __future__ import annotations

import atexit
import collections
import contextlib
import faulthandler
import fcntl
import logging
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
"""How long the writer lets lines gather: one write for all of them, and a GIL handed over only fifty times a second."""
LOOK_INTERVAL_S = 1.0
"""How often is looked whether a log file is still where it was."""
FLUSH_TIMEOUT_S = 5.0
"""How long an exit waits for the disk or the pipe that lines go to."""

GRPC_LOGGER = "grpc._cython.cygrpc"
"""Where gRPC logs metadata and paths that are not UTF-8, whole: a token with a wrong byte is still a token."""

Stamp = dict[str, int]
"""What every line of one process says of it."""

encode = msgspec.json.Encoder().encode


class Line(msgspec.Struct):
    """A line that is written often, as it costs half of what a dictionary does; its fields come after these.

    Attributes:
        time, level, worker: filled in by who writes it.
    """

    time: datetime | None = None
    level: str = ""
    worker: int | msgspec.UnsetType = msgspec.UNSET


class LogWriter:
    """Writes lines to a file descriptor from a thread of its own.

    Args:
        descriptor: where lines go.
        queue_max: lines that may wait; further ones are dropped and counted.
        turns: a file that all who write to the same place lock while they do, so that lines stay whole: a pipe would
            mix what is longer than its 4 KiB. None where nobody else writes there.
        stamp: what each line says of this process.
        file: what the descriptor is of; it is opened anew where another has been put in its place (logrotate).
    """

    def __init__(
        self,
        descriptor: int,
        *,
        queue_max: int,
        turns: Path | None = None,
        stamp: Stamp | None = None,
        file: Path | None = None,
    ) -> None:
        self.stamp = stamp or {}
        self._file = file
        self._looked_s = time.monotonic()
        self._descriptor = descriptor
        self._turns = None if turns is None else os.open(turns, os.O_RDWR | os.O_CREAT, 0o600)
        self._queue_max = queue_max
        self._lines: collections.deque[bytes] = collections.deque()
        self._dropped = 0
        self._wake = threading.Event()
        self._writing = threading.Lock()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="log-writer", daemon=True)
        self._thread.start()

    def put(self, line: bytes) -> None:
        """Queue one line, without its end. Never blocks, never raises."""
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
        """Write what is queued, in the calling thread; what cannot be written is lost, as nobody could be told."""
        if not self._writing.acquire(timeout=FLUSH_TIMEOUT_S):
            return
        try:
            self._follow_file()
            batch = self._take()
            with contextlib.suppress(OSError), self._turn():
                while batch:
                    batch = batch[os.write(self._descriptor, batch) :]
        finally:
            self._writing.release()

    def _follow_file(self) -> None:
        """Open the file anew, under the same descriptor, where it was moved away. One that cannot be had is left."""
        if self._file is None or time.monotonic() - self._looked_s < LOOK_INTERVAL_S:
            return
        self._looked_s = time.monotonic()
        with contextlib.suppress(OSError):
            if _is_open(self._file, self._descriptor):
                return
            opened = _open(self._file)
            os.dup2(opened, self._descriptor)
            os.close(opened)

    @contextlib.contextmanager
    def _turn(self) -> Iterator[None]:
        """Write alone; who is killed meanwhile holds nobody up."""
        if self._turns is None:
            yield
            return
        fcntl.flock(self._turns, fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.flock(self._turns, fcntl.LOCK_UN)

    def _take(self) -> bytes:
        lines: list[bytes] = []
        with contextlib.suppress(IndexError):
            while True:
                lines.append(self._lines.popleft())
        if self._dropped:
            dropped, self._dropped = self._dropped, 0
            told = {"logger": "storekeep.logs", "message": "lines dropped", "lines": dropped}
            lines.append(encode({"time": datetime.now(UTC), "level": "WARNING", **self.stamp, **told}))
        return b"\n".join([*lines, b""]) if lines else b""

    def close(self) -> None:
        """Write what is queued and end the thread, once. A pipe that nobody reads is waited for once, too."""
        if self._closed:
            return
        self._closed = True
        self._wake.set()
        self._thread.join(timeout=FLUSH_TIMEOUT_S)
        if not self._thread.is_alive():
            self.flush()


class RequestLog:
    """One line per call. Costs its caller 1 to 2 µs.

    Args:
        writer: where lines go.
        level: the least level that is written.
    """

    def __init__(self, writer: LogWriter, *, level: int) -> None:
        self._put = writer.put
        self._stamp = writer.stamp
        self._worker = writer.stamp.get("worker", msgspec.UNSET)
        self._level = level

    def write(self, fields: dict[str, Any], *, level: int = logging.INFO) -> None:
        """Log one line that is seldom written.

        Args:
            fields: what is known of it: text, numbers, None. Never a token.
            level: how grave its end was.
        """
        if level >= self._level:
            stamped = {"time": datetime.now(UTC), "level": logging.getLevelName(level), **self._stamp, **fields}
            self._put(encode(stamped))

    def write_line(self, line: Line, *, level: int) -> None:
        """Log one call.

        Args:
            line: what is known of it. Never a token.
            level: how grave its end was.
        """
        if level >= self._level:
            line.time = datetime.now(UTC)
            line.level = logging.getLevelName(level)
            line.worker = self._worker
            self._put(encode(line))


class _LineFormatter(MsgspecFormatter):
    """A record as one JSON object, its time written as in the request log."""

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:  # noqa: N802 - logging's name
        moment = datetime.fromtimestamp(record.created, UTC)
        return moment.isoformat(timespec="microseconds").replace("+00:00", "Z")


class _LineHandler(logging.Handler):
    """Hands the records of `logging` to the writer."""

    def __init__(self, writer: LogWriter) -> None:
        super().__init__()
        self._put = writer.put
        self.flush = writer.flush  # type: ignore[method-assign]  # for who ends the process at once
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
        except Exception:  # noqa: BLE001 - logging's rule: a record that cannot be formatted stops nobody
            self.handleError(record)


def _has_no_bytes_of_callers(record: logging.LogRecord) -> bool:
    """Whether a record of gRPC's has nothing filled in; the call that it is about has a line of its own."""
    return not record.args


class Logs:
    """The logs of one process, from its start to its end.

    Args:
        level: the least level that is logged, by its name.
        file: what lines are added to; standard error when None.
        queue_max: see `LogWriter`.
        turns: see `LogWriter`.
        worker: the number of this process, where there are several; each of its lines says it.

    Raises: OSError when the file cannot be opened.
    """

    def __init__(
        self, *, level: str, file: Path | None, queue_max: int, turns: Path | None = None, worker: int | None = None
    ) -> None:
        descriptor = sys.stderr.fileno() if file is None else _open(file)
        faulthandler.enable(descriptor)
        stamp: Stamp = {} if worker is None else {"worker": worker}
        self.writer = LogWriter(descriptor, queue_max=queue_max, turns=turns, stamp=stamp, file=file)
        self.requests = RequestLog(self.writer, level=logging.getLevelNamesMapping()[level])
        root = logging.getLogger()
        root.handlers[:] = [_LineHandler(self.writer)]
        root.setLevel(level)
        logging.getLogger(GRPC_LOGGER).addFilter(_has_no_bytes_of_callers)
        logging.getLogger("grpc").setLevel(logging.ERROR)
        sys.excepthook = self._log_uncaught
        threading.excepthook = self._log_uncaught_in_thread
        atexit.register(self.writer.close)

    def close(self) -> None:
        """Write what is queued and end the writer; further lines are lost."""
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
    """Return whether a descriptor is of the file that is there."""
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _open(path: Path) -> int:
    path.parent.mkdir(parents=True, exist_ok=True)
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o640)
