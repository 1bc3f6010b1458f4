"""The entry point `storekeep`. A signal ends it with one line and exit code 130 or 143, even during imports.

The imports take a while, and a signal in that time must not print a traceback. This module therefore sets its signal
handlers before it imports anything that Python has not loaded by itself: `signal` alone takes longer than all of it.
"""

from __future__ import annotations

import _signal as signals  # type: ignore[import-not-found]  # what `signal` wraps, without its enums
import gc
import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

SIGNAL_TEXTS = {signals.SIGINT: "interrupted", signals.SIGTERM: "terminated"}
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
    gc.disable()  # what is imported stays: passes over it took 6 % of the CPU time before a call (2026-11-30)
    from storekeep.cli.postponed_modules import postpone_modules

    postpone_modules()
    from storekeep.cli import app

    try:
        try:
            _handle_signals(_interrupt)
            app.main()
        finally:
            _handle_signals(_exit_at_once)
    except Interrupted as interrupted:
        _exit_at_once(interrupted.number, None)


def _handle_signals(handler: Callable[[int, object], None]) -> None:
    """Set the handler of each signal that the parent process has not ignored, as `nohup` and `&` do."""
    for number in SIGNAL_TEXTS:
        if signals.getsignal(number) != signals.SIG_IGN:
            signals.signal(number, handler)


def _interrupt(number: int, _frame: object) -> None:
    raise Interrupted(number)


def _exit_at_once(number: int, _frame: object) -> None:
    try:
        os.write(STDERR, f"storekeep: {SIGNAL_TEXTS[number]}\n".encode())
    finally:
        os._exit(EXIT_CODE_BASE + number)


if __name__ == "__main__":
    main()
