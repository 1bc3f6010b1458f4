"""Input files: only regular files and pipes that end are read, up to a size."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from storekeep.server.runtime.file_modes import ExposedFile, read_private_file
from storekeep.server.runtime.input_files import read_file_or_pipe, read_regular_file

READERS = (read_regular_file, read_private_file, read_file_or_pipe)
PATIENCE_S = 60.0


def make_pipe(path: Path) -> Path:
    os.mkfifo(path, 0o600)
    return path


def make_socket(path: Path) -> Path:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
    return path


def make_directory(path: Path) -> Path:
    path.mkdir()
    return path


def write_in_parts(path: Path, parts: list[bytes]) -> threading.Thread:
    """Write to a pipe from another thread, with pauses, and close it."""

    def write() -> None:
        with path.open("wb", buffering=0) as pipe:
            for part in parts:
                pipe.write(part)
                time.sleep(0.02)

    thread = threading.Thread(target=write, daemon=True)
    thread.start()
    return thread


@pytest.mark.parametrize("read", READERS)
def test_regular_file_is_read_also_through_a_link(tmp_path: Path, read: Callable[[Path], bytes]):
    (tmp_path / "key").write_bytes(b"x" * 200_000)
    (tmp_path / "key").chmod(0o600)
    (tmp_path / "link").symlink_to("key")
    assert read(tmp_path / "link") == b"x" * 200_000


@pytest.mark.parametrize("read", READERS)
@pytest.mark.parametrize(
    ("make", "kind"),
    [
        (make_directory, "a directory"),
        (make_socket, "a socket"),
        (lambda _path: Path("/dev/zero"), "a device"),
        (lambda _path: Path("/dev/tty"), "a device"),
    ],
)
def test_anything_else_is_refused_by_its_kind(
    tmp_path: Path, read: Callable[[Path], bytes], make: Callable[[Path], Path], kind: str
):
    with pytest.raises(OSError, match=f"{kind}, not a regular file"):
        read(make(tmp_path / "key"))


@pytest.mark.parametrize("read", [read_regular_file, read_private_file])
def test_pipe_is_no_regular_file(tmp_path: Path, read: Callable[[Path], bytes]):
    with pytest.raises(OSError, match="a pipe, not a regular file") as refused:
        read(make_pipe(tmp_path / "key"))
    assert refused.value.filename == str(tmp_path / "key")


def test_private_file_that_others_can_read_is_refused(tmp_path: Path):
    (tmp_path / "key").touch(mode=0o600)
    (tmp_path / "key").chmod(0o604)
    with pytest.raises(ExposedFile, match="can be read by others"):
        read_private_file(tmp_path / "key")


@pytest.mark.parametrize("read", [read_regular_file, read_file_or_pipe])
def test_file_without_an_end_is_refused_at_the_size_limit(tmp_path: Path, read: Callable[..., bytes]):
    (tmp_path / "large").write_bytes(b"x" * 1_001)
    with pytest.raises(OSError, match="larger than 1000 bytes"):
        read(tmp_path / "large", bytes_max=1_000)
    assert len(read(tmp_path / "large", bytes_max=1_001)) == 1_001


@pytest.mark.parametrize("parts", [[], [b"one"], [b"one", b"two"], [b"x" * 100_000, b"y"]])
def test_pipe_is_read_to_its_end_however_late_its_writer_is(tmp_path: Path, parts: list[bytes]):
    pipe = make_pipe(tmp_path / "settings")
    writer = write_in_parts(pipe, parts)
    assert read_file_or_pipe(pipe, timeout_s=PATIENCE_S) == b"".join(parts)
    writer.join(PATIENCE_S)


def test_pipe_whose_writer_has_ended_before_is_read(tmp_path: Path):
    """The process substitution of a shell: the writer may be faster."""
    reading, writing = os.pipe()
    os.write(writing, b"a = 1")
    os.close(writing)
    assert read_file_or_pipe(Path(f"/proc/self/fd/{reading}"), timeout_s=PATIENCE_S) == b"a = 1"
    os.close(reading)


def test_pipe_that_nothing_writes_is_given_up(tmp_path: Path):
    with pytest.raises(TimeoutError, match=r"a pipe that did not end within 0\.1 s"):
        read_file_or_pipe(make_pipe(tmp_path / "settings"), timeout_s=0.1)


def test_pipe_that_is_never_closed_is_given_up(tmp_path: Path):
    pipe = make_pipe(tmp_path / "settings")
    descriptor = os.open(pipe, os.O_RDWR)
    os.write(descriptor, b"a = 1")
    with pytest.raises(TimeoutError, match="did not end"):
        read_file_or_pipe(pipe, timeout_s=0.1)
    os.close(descriptor)


def test_pipe_without_an_end_is_refused_at_the_size_limit(tmp_path: Path):
    pipe = make_pipe(tmp_path / "settings")
    writer = write_in_parts(pipe, [b"x" * 30_000])
    with pytest.raises(OSError, match="larger than 1000 bytes"):
        read_file_or_pipe(pipe, bytes_max=1_000, timeout_s=PATIENCE_S)
    writer.join(PATIENCE_S)
