"""Reads of input files: bounded in size, and never waiting for a file that is not one.

Opening a named pipe without a writer blocks indefinitely, and a device may have no end. Errors are `OSError` with the
path and the reason.
"""

from __future__ import annotations

import errno
import os
import select
import stat
import time
from pathlib import Path

BYTES_MAX = 64 * 1024 * 1024
"""Default maximum size of a file: far above any key, certificate or revocation list."""
CHUNK_BYTES = 64 * 1024
PIPE_TIMEOUT_S = 10.0
"""Default time for a pipe to be written and closed. A command that decrypts a file takes a second or two."""
KINDS = (
    (stat.S_ISDIR, "a directory"),
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


def open_regular_file(path: Path) -> int:
    """Open a regular file for reading and return its descriptor.

    Raises: OSError, also if the path is a directory, a pipe, a socket or a device.
    """
    require_regular(path, os.stat(path))  # first: opening a device may have an effect
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    try:
        require_regular(path, os.fstat(descriptor))  # again: the file may have been replaced
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def read_regular_file(path: Path, *, bytes_max: int = BYTES_MAX) -> bytes:
    """Return the content of a regular file.

    Raises: OSError, also if the path is something else or the file is larger than `bytes_max`.
    """
    descriptor = open_regular_file(path)
    try:
        return read_descriptor(descriptor, path, bytes_max=bytes_max)
    finally:
        os.close(descriptor)


def read_file_or_pipe(path: Path, *, bytes_max: int = BYTES_MAX, timeout_s: float = PIPE_TIMEOUT_S) -> bytes:
    """Return the content of a regular file, or of a pipe such as the process substitution of a shell.

    Args:
        timeout_s: how long to wait for the end of a pipe.

    Raises: OSError; it is a TimeoutError if the pipe has no end within `timeout_s`.
    """
    if not stat.S_ISFIFO(os.stat(path).st_mode):
        return read_regular_file(path, bytes_max=bytes_max)
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    try:
        if not stat.S_ISFIFO(os.fstat(descriptor).st_mode):
            require_regular(path, os.fstat(descriptor))
            return read_descriptor(descriptor, path, bytes_max=bytes_max)
        return _read_pipe(descriptor, path, bytes_max=bytes_max, timeout_s=timeout_s)
    finally:
        os.close(descriptor)


def read_descriptor(descriptor: int, path: Path, *, bytes_max: int = BYTES_MAX) -> bytes:
    """Return the rest of an open regular file.

    Raises: OSError if it is larger than `bytes_max`.
    """
    content = bytearray()
    while chunk := os.read(descriptor, CHUNK_BYTES):
        content += chunk
        _require_size(path, len(content), bytes_max)
    return bytes(content)


def _read_pipe(descriptor: int, path: Path, *, bytes_max: int, timeout_s: float) -> bytes:
    content = bytearray()
    give_up_s = time.monotonic() + timeout_s
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    must_wait = True  # before its first writer, a pipe reads as ended
    while True:
        wait_s = give_up_s - time.monotonic()
        if wait_s <= 0 or (must_wait and not poll.poll(wait_s * 1000)):
            raise OSError(errno.ETIMEDOUT, f"a pipe that did not end within {timeout_s:g} s", str(path))
        try:
            chunk = os.read(descriptor, CHUNK_BYTES)
        except BlockingIOError:
            must_wait = True
            continue
        if not chunk:
            return bytes(content)
        content += chunk
        _require_size(path, len(content), bytes_max)
        must_wait = False  # a writer that closed it before it was opened here causes no event


def require_regular(path: Path, status: os.stat_result) -> None:
    """Raise unless a file's status is that of a regular file.

    Raises: OSError, with the kind of the file.
    """
    if stat.S_ISREG(status.st_mode):
        return
    kind = next((name for matches, name in KINDS if matches(status.st_mode)), "something else")
    raise OSError(errno.EINVAL, f"{kind}, not a regular file", str(path))


def _require_size(path: Path, size_bytes: int, bytes_max: int) -> None:
    if size_bytes > bytes_max:
        raise OSError(errno.EFBIG, f"larger than {bytes_max} bytes", str(path))
