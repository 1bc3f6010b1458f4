"""The time limit of long tests, counted from their last progress: on a busy host the whole test may take longer."""

from __future__ import annotations

import faulthandler
import sys

TIMEOUT_S = 600.0
"""The same as `faulthandler_timeout` in pyproject.toml."""


def report_progress() -> None:
    """Start pytest's time limit for the current test again, because a part of the test has ended."""
    faulthandler.dump_traceback_later(TIMEOUT_S, exit=True, file=sys.__stderr__)
