"""The entry point `storekeep`. A signal ends it with one line and exit code 130 or 143, even during imports.

The imports take half a second, and a signal in that time must not print a traceback. This module therefore imports
almost nothing, not even `typing`, before it sets its signal handlers.
"""

from __future__ import annotations

import os
import signal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

SIGNAL_TEXTS = {signal.SIGINT: "interrupted", signal.SIGTERM: "terminated"}
"""The signals that end a command, and the text it prints."""
EXIT_CODE_BASE = 128
"""The exit code after a signal is this plus the number of the signal, as in shells."""
STDERR = 2


class Interrupted(BaseException):
    """A signal to end the command. As an exception, it unwinds the stack, so that temporary files are removed."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def main() -> None:
    """Run the command line and exit."""
    _handle_signals(_exit_at_once)
    from storekeep.cli import app

    try:
        _handle_signals(_interrupt)
        app.main()
    except Interrupted as interrupted:
        _exit_at_once(interrupted.number, None)
    finally:
        _handle_signals(_exit_at_once)


def _handle_signals(handler: Callable[[int, object], None]) -> None:
    """Set the handler of each signal that the parent process has not ignored, as `nohup` and `&` do."""
    for number in SIGNAL_TEXTS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, handler)


def _interrupt(number: int, _frame: object) -> None:
    raise Interrupted(number)


def _exit_at_once(number: int, _frame: object) -> None:
    try:
        os.write(STDERR, f"storekeep: {SIGNAL_TEXTS[signal.Signals(number)]}\n".encode())
    finally:
        os._exit(EXIT_CODE_BASE + number)


if __name__ == "__main__":
    main()
