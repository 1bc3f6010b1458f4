"""Settings files: `NAME=value` lines or TOML. What cannot be read is refused with its line, never skipped.

Lines are those of shells and systemd: comments, `export`, quotes. Nothing is expanded. No problem repeats a value, as
it may be a secret.
"""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ASSIGNMENT = re.compile(r"(?:export[ \t]+)?([A-Za-z_][A-Za-z0-9_]*)[ \t]*=[ \t]*(.*)", re.DOTALL)
QUOTED = re.compile(r"""(?:'((?:[^'\\]|\\.)*)'|"((?:[^"\\]|\\.)*)")[ \t]*(?:#.*)?""", re.DOTALL)
COMMENT = re.compile(r"(?:^|[ \t]+)#.*", re.DOTALL)
"""Behind a value that stands without quotes."""
EXPANSION = re.compile(r"\$[{(A-Za-z_]")
ESCAPES = {"n": "\n", "t": "\t", "r": "\r"}
BYTE_ORDER_MARK = b"\xef\xbb\xbf"
FILE_BYTES_MAX = 1024 * 1024
"""A file of all settings has 20 KB; more is another file."""


class UnreadableSettings(Exception):
    """A settings file cannot be read.

    Attributes:
        problems: one line each, with the file and the number of the line.
    """

    def __init__(self, problems: list[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems


@dataclass(frozen=True, slots=True)
class SettingsFile:
    """What a settings file says.

    Attributes:
        values: by the settings' names.
        places: where each stands: the file, and of lines the number.
    """

    values: dict[str, Any]
    places: dict[str, str]


def read_settings_file(path: Path, *, prefix: str) -> SettingsFile:
    """Read a settings file: TOML when it ends in `.toml`, otherwise lines of `NAME=value`.

    Args:
        prefix: what each name of a line must begin with.

    Raises: UnreadableSettings.
    """
    try:
        if path.stat().st_size > FILE_BYTES_MAX:
            raise UnreadableSettings([f"{path}: larger than {FILE_BYTES_MAX} bytes"])
        content = path.read_bytes().removeprefix(BYTE_ORDER_MARK)
    except OSError as error:
        raise UnreadableSettings([f"{path}: {error.strerror}"]) from None
    try:
        text = content.decode()
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise UnreadableSettings([f"{path}:{line}: not UTF-8"]) from None
    return _read_toml(path, text) if path.suffix == ".toml" else _read_lines(path, text, prefix=prefix)


def _read_toml(path: Path, text: str) -> SettingsFile:
    try:
        values = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise UnreadableSettings([f"{path}: {error}"]) from None
    return SettingsFile(values, dict.fromkeys(values, str(path)))


def _read_lines(path: Path, text: str, *, prefix: str) -> SettingsFile:
    values: dict[str, Any] = {}
    numbers: dict[str, int] = {}
    problems = []
    for number, line in enumerate(text.split("\n"), start=1):
        stripped = line.removesuffix("\r").strip(" \t")
        if not stripped or stripped.startswith("#"):
            continue
        try:
            name, value = _read_assignment(stripped, prefix=prefix)
            if name in numbers:
                raise ValueError(f"{prefix}{name.upper()} stands in line {numbers[name]} already")
        except ValueError as problem:
            problems.append(f"{path}:{number}: {problem}")
            continue
        numbers[name] = number
        if value:
            values[name] = value
    if problems:
        raise UnreadableSettings(problems)
    return SettingsFile(values, {name: f"{path}:{number}" for name, number in numbers.items()})


def _read_assignment(line: str, *, prefix: str) -> tuple[str, str]:
    """Raises: ValueError, with what is wrong."""
    if any(character < " " and character != "\t" for character in line):
        raise ValueError("a control character")
    match = ASSIGNMENT.fullmatch(line)
    if match is None:
        raise ValueError(f"not a line of {prefix}NAME=value")
    name, value = match[1], match[2]
    if not name.upper().startswith(prefix):
        raise ValueError(f"{name} does not begin with {prefix}")
    return name.upper().removeprefix(prefix).lower(), _read_value(value)


def _read_value(value: str) -> str:
    """Raises: ValueError, with what is wrong."""
    if value[:1] in ("'", '"'):
        match = QUOTED.fullmatch(value)
        if match is None:
            raise ValueError("the quote is not closed in its line, or something stands behind it")
        literal, escaped = match[1], match[2]
        if literal is not None:
            return re.sub(r"\\(['\\])", r"\1", literal)
        _refuse_expansion(escaped)
        return re.sub(r"\\(.)", lambda found: ESCAPES.get(found[1], found[1]), escaped)
    text = COMMENT.sub("", value, count=1)
    _refuse_expansion(text)
    return text


def _refuse_expansion(text: str) -> None:
    """Raises: ValueError."""
    if EXPANSION.search(text):
        raise ValueError("nothing is expanded here; put a value with a $ in single quotes")
