"""The entry point `storekeep-gateway`. A signal before it serves ends it with one line and exit code 130 or 143.

The imports take up to a second, so this module sets its signal handlers before it imports anything that Python has not
loaded by itself. `serve` replaces them with its own, which drain.
"""

from __future__ import annotations

import _signal as signals  # type: ignore[import-not-found]  # what `signal` wraps, without its enums
import os

SIGNAL_TEXTS = {signals.SIGINT: "interrupted", signals.SIGTERM: "terminated"}
EXIT_CODE_BASE = 128
"""The exit code after a signal is this plus the number of the signal, as in shells."""
STDERR = 2


def main() -> None:
    """Run a command and exit."""
    for number in SIGNAL_TEXTS:
        if signals.getsignal(number) != signals.SIG_IGN:  # as the parent process may have set, such as `nohup`
            signals.signal(number, _exit_at_once)
    from storekeep.gateway import command

    command.main()


def _exit_at_once(number: int, _frame: object) -> None:
    try:
        os.write(STDERR, f"storekeep-gateway: {SIGNAL_TEXTS[number]}\n".encode())
    finally:
        os._exit(EXIT_CODE_BASE + number)


if __name__ == "__main__":
    main()
