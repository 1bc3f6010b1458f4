"""Lines for the operator, on standard output and standard error."""

from __future__ import annotations

import re
import sys

WORD_CHARS_MAX = 300
"""Characters of a word, such as a path, that an error repeats in full."""
END_CHARS = 100
"""Characters of each end that remain of a longer word."""
LINE_CHARS_MAX = 4_000
LONG_WORD = re.compile(rf"\S{{{WORD_CHARS_MAX + 1},}}")


def print_line(line: str) -> None:
    """Print a line to standard output."""
    print(replace_unprintable(line), flush=True)  # noqa: T201 - output of the command


def replace_unprintable(text: str) -> str:
    """Return `text` without control characters: names of files and resources may contain terminal commands."""
    return "".join(char if char.isprintable() or char == "\n" else "\N{REPLACEMENT CHARACTER}" for char in text)


def print_error(line: str) -> None:
    """Print one line to standard error. What it repeats may be long: the middle of long words and lines is left out."""
    line = LONG_WORD.sub(lambda word: f"{word[0][:END_CHARS]}...{word[0][-END_CHARS:]}", line)
    if len(line) > LINE_CHARS_MAX:
        line = f"{line[: LINE_CHARS_MAX // 2]} ... {line[-LINE_CHARS_MAX // 2 :]}"
    print(f"storekeep-server: {replace_unprintable(line)}", file=sys.stderr)  # noqa: T201 - output of the command
