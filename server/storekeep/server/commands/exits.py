"""Exit codes of the commands, beside those of signals and of `doctor`."""

from __future__ import annotations

DONE = 0
FAILED = 1
USAGE_ERROR = 2
