"""Exit codes of the command line, with the table that the help and the docs print."""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from storekeep.client import StorekeepError


class OutputClosed(Exception):
    """The reader of stdout closed the pipe. It is not an OSError, because typer handles those itself."""


class Exit(IntEnum):
    """Exit code of a run."""

    OK = 0
    REFUSED = 1
    USAGE = 2
    NOT_ALLOWED = 3
    UNREACHABLE = 4
    PARTLY = 5
    INTERRUPTED = 130
    TERMINATED = 143


MEANINGS: Mapping[Exit, str] = {
    Exit.OK: "done",
    Exit.REFUSED: "rejected by the server, a check failed, or the output cannot be written",
    Exit.USAGE: "invalid command line, file or setting; nothing was sent",
    Exit.NOT_ALLOWED: "not authenticated, or not allowed",
    Exit.UNREACHABLE: "the server is unreachable or did not answer in time",
    Exit.PARTLY: "partly done: an import with invalid rows",
    Exit.INTERRUPTED: "interrupted (Ctrl-C)",
    Exit.TERMINATED: "terminated (SIGTERM)",
}
"""Meaning of each code."""


def get_exit_code(error: StorekeepError) -> Exit:
    """Return the exit code for an error of the client."""
    from storekeep.client import error_families as errors  # loaded only if there is an error

    table: tuple[tuple[type[StorekeepError], Exit], ...] = (
        (errors.NotAuthenticated, Exit.NOT_ALLOWED),
        (errors.NotAllowed, Exit.NOT_ALLOWED),
        (errors.ServerUnreachable, Exit.UNREACHABLE),
        (errors.CallTimedOut, Exit.UNREACHABLE),
        (errors.UnexpectedStatus, Exit.UNREACHABLE),
        (errors.InvalidSettings, Exit.USAGE),
        (errors.StorekeepError, Exit.REFUSED),
    )
    return next(code for kind, code in table if isinstance(error, kind))
