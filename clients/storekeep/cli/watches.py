"""The option `--watch`: shows a result again whenever it changes, until the command is interrupted."""

from __future__ import annotations

import io
import sys
import time
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout, suppress
from typing import TextIO

import typer

from storekeep.cli.texts import replace_unprintable
from storekeep.client import (
    CallTimedOut,
    DeadlineExceeded,
    Overloaded,
    RateLimited,
    ServerUnreachable,
    ShuttingDown,
    StorageUnavailable,
)

TRANSIENT = (
    CallTimedOut,
    DeadlineExceeded,
    Overloaded,
    RateLimited,
    ServerUnreachable,
    ShuttingDown,
    StorageUnavailable,
)
"""Errors that may pass."""
CLEAR = "\x1b[H\x1b[2J\x1b[3J"
"""Clears a terminal and moves the cursor to its start (ECMA-48)."""


class Frame(io.StringIO):
    """Collects the output of one run for a terminal or a pipe."""

    def __init__(self, target: TextIO) -> None:
        super().__init__()
        self._target = target

    @property
    def encoding(self) -> str:  # type: ignore[override]
        """The encoding of the target."""
        return self._target.encoding

    def isatty(self) -> bool:
        """Return whether the target is a terminal."""
        return self._target.isatty()


def watch(show: Callable[[], None], *, interval_s: float) -> None:
    """Show a result, and then again whenever it has changed. Only an exception ends it.

    On a terminal, the new result replaces the old one. Otherwise it follows it. After an error that may
    pass, the last result stays, with the error on stderr.

    Args:
        show: prints the result to stdout, and notices to stderr.
        interval_s: time between two runs in seconds.
    """
    results, notices = _capture(show)
    _draw(results, notices)
    while True:
        time.sleep(interval_s)
        last_results, last_notices = results, notices
        try:
            results, notices = _capture(show)
        except TRANSIENT as error:
            notices = f"{replace_unprintable(str(error))}\n"
        if sys.stdout.isatty() and (results, notices) != (last_results, last_notices):
            _draw(CLEAR + results, notices)
        else:
            _draw(results if results != last_results else "", notices if notices != last_notices else "")


def _draw(results: str, notices: str) -> None:
    sys.stdout.write(results)
    sys.stdout.flush()
    sys.stderr.write(notices)


def _capture(show: Callable[[], None]) -> tuple[str, str]:
    """Return the results and the notices of one run."""
    results, notices = Frame(sys.stdout), Frame(sys.stderr)
    # The exit code of some commands says what their result says too.
    with suppress(typer.Exit), redirect_stdout(results), redirect_stderr(notices):
        show()
    return results.getvalue(), notices.getvalue()
