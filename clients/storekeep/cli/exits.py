"""Exit codes: how a run ended, for scripts. One table, which the help and the docs print."""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum

from storekeep.client import (
    CallTimedOut,
    InvalidSettings,
    NotAllowed,
    NotAuthenticated,
    ServerUnreachable,
    StorekeepError,
    UnexpectedStatus,
)


class Exit(IntEnum):
    """How a run ended."""

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
    Exit.REFUSED: "refused by the server, a check found something wrong, or the output cannot be written",
    Exit.USAGE: "the command line, a file or a setting is wrong; nothing was sent",
    Exit.NOT_ALLOWED: "not authenticated, or not allowed",
    Exit.UNREACHABLE: "the server cannot be reached, or did not answer in time",
    Exit.PARTLY: "partly done: an import with bad rows",
    Exit.INTERRUPTED: "interrupted (Ctrl-C)",
    Exit.TERMINATED: "terminated (SIGTERM)",
}
"""What each code means."""

_BY_ERROR: tuple[tuple[type[StorekeepError], Exit], ...] = (
    (NotAuthenticated, Exit.NOT_ALLOWED),
    (NotAllowed, Exit.NOT_ALLOWED),
    (ServerUnreachable, Exit.UNREACHABLE),
    (CallTimedOut, Exit.UNREACHABLE),
    (UnexpectedStatus, Exit.UNREACHABLE),
    (InvalidSettings, Exit.USAGE),
    (StorekeepError, Exit.REFUSED),
)


def exit_of(error: StorekeepError) -> Exit:
    """Return the code of a run that an error of the client ended."""
    return next(code for kind, code in _BY_ERROR if isinstance(error, kind))
