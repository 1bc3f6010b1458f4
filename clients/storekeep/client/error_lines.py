"""Lines of errors for people, which stay short whatever they repeat."""

from __future__ import annotations

import re

WORD_CHARS_MAX = 300
"""Characters of a word, such as a path, that an error repeats in full."""
END_CHARS = 100
"""Characters of each end that remain of a longer word."""
LINE_CHARS_MAX = 4_000
LONG_WORD = re.compile(rf"\S{{{WORD_CHARS_MAX + 1},}}")


def shorten_line(line: str) -> str:
    """Return a line with the middle of each long word, and the middle of a long line, left out."""
    line = LONG_WORD.sub(lambda word: f"{word[0][:END_CHARS]}...{word[0][-END_CHARS:]}", line)
    half = LINE_CHARS_MAX // 2
    return line if len(line) <= LINE_CHARS_MAX else f"{line[:half]} ... {line[-half:]}"
