"""The entry point `storekeep-server`: a signal ends it with one line and exit code 130 or 143, also during the imports.

The imports of the command take about a second. A signal in that time must not print a traceback from the middle of a
module, so this module imports next to nothing before its handlers are set: not even `typing`.
"""

from __future__ import annotations

import os
import signal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

WORDS = {signal.SIGINT: "interrupted", signal.SIGTERM: "terminated"}
"""The signals that end a command, and what it says then."""
EXIT_CODE_BASE = 128
"""A process that a signal ended has this plus the signal's number as its exit code, as shells count."""
STDERR = 2


class Interrupted(BaseException):
    """A signal asks the command to end. It unwinds like an error, so that no temporary file stays behind."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def main() -> None:
    """Run one command and exit. `serve` replaces the handlers by its own, which drain."""
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
    """Set the handler of each signal, unless whoever started this process has it ignored, as `nohup` and `&` do."""
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
