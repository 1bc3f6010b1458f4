"""The entry point `storekeep-server`: a signal ends it with one line and exit code 130 or 143, even during imports.

Importing the command takes about a second. A signal in that time must not print a traceback, so this module sets its
signal handlers before it imports anything large, even `typing`.
"""

from __future__ import annotations

import os
import signal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

WORDS = {signal.SIGINT: "interrupted", signal.SIGTERM: "terminated"}
"""Signals that end a command, and the word that it prints."""
EXIT_CODE_BASE = 128
"""Added to the number of the signal that ended the process, as shells do."""
STDERR = 2


class Interrupted(BaseException):
    """A signal requested the end of the command. Unwinds like an error, so that temporary files are removed."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def main() -> None:
    """Run a command and exit. `serve` replaces the signal handlers with its own, which drain."""
    _handle_signals(_exit_at_once)
    from storekeep.server import command

    try:
        _handle_signals(_interrupt)
        command.main()
    except Interrupted as interrupted:
        _exit_at_once(interrupted.number, None)
    finally:
        _handle_signals(_exit_at_once)


def _handle_signals(handler: Callable[[int, object], None]) -> None:
    """Handle each signal unless the parent process set it to be ignored, as `nohup` and `&` do."""
    for number in WORDS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, handler)


def _interrupt(number: int, _frame: object) -> None:
    raise Interrupted(number)


def _exit_at_once(number: int, _frame: object) -> None:
    try:
        os.write(STDERR, f"storekeep-server: {WORDS[signal.Signals(number)]}\n".encode())
    finally:
        os._exit(EXIT_CODE_BASE + number)


if __name__ == "__main__":
    main()
