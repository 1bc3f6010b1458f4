"""Settings files: `NAME=value` lines or TOML. A line that cannot be read is an error, never skipped.

Lines follow shells and systemd: comments, `export` and quotes are allowed. Variables are not expanded. Error messages
never repeat a value, because it may be a secret.
"""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from storekeep.server.runtime.input_files import read_file_or_pipe

ASSIGNMENT = re.compile(r"(?:export[ \t]+)?([A-Za-z_][A-Za-z0-9_]*)[ \t]*=[ \t]*(.*)", re.DOTALL)
QUOTED = re.compile(r"""(?:'((?:[^'\\]|\\.)*)'|"((?:[^"\\]|\\.)*)")[ \t]*(?:#.*)?""", re.DOTALL)
COMMENT = re.compile(r"(?:^|[ \t]+)#.*", re.DOTALL)
"""A comment after an unquoted value."""
EXPANSION = re.compile(r"\$[{(A-Za-z_]")
ESCAPES = {"n": "\n", "t": "\t", "r": "\r"}
BYTE_ORDER_MARK = b"\xef\xbb\xbf"
FILE_BYTES_MAX = 1024 * 1024
"""A file with all settings has about 20 KB; a larger one is something else."""


class UnreadableSettings(Exception):
    """A settings file cannot be read.

    Attributes:
        problems: one message for each problem, with the file and the line number.
    """

    def __init__(self, problems: list[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems


@dataclass(frozen=True, slots=True)
class SettingsFile:
    """The content of a settings file.

    Attributes:
        values: the values by setting name.
        places: the source of each value by setting name: the file, with a line number unless it is TOML.
    """

    values: dict[str, Any]
    places: dict[str, str]


def read_settings_file(path: Path, *, prefix: str) -> SettingsFile:
    """Read a settings file: TOML if its name ends in `.toml`, otherwise lines of `NAME=value`. It may be a pipe.

    Args:
        prefix: the required prefix of each name in a file of lines.

    Raises: UnreadableSettings, FileNotFoundError.
    """
    try:
        content = read_file_or_pipe(path, bytes_max=FILE_BYTES_MAX).removeprefix(BYTE_ORDER_MARK)
    except FileNotFoundError:
        raise
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
                raise ValueError(f"{prefix}{name.upper()} is already set in line {numbers[name]}")
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
    """Return the setting's name, without the prefix, and its value. Raises: ValueError."""
    if any(character < " " and character != "\t" for character in line):
        raise ValueError("the line contains a control character")
    match = ASSIGNMENT.fullmatch(line)
    if match is None:
        raise ValueError(f"the line is not of the form {prefix}NAME=value")
    name, value = match[1], match[2]
    if not name.upper().startswith(prefix):
        raise ValueError(f"{name} does not begin with {prefix}")
    return name.upper().removeprefix(prefix).lower(), _read_value(value)


def _read_value(value: str) -> str:
    """Return a value without its quotes, escapes and comment. Raises: ValueError."""
    if value[:1] in ("'", '"'):
        match = QUOTED.fullmatch(value)
        if match is None:
            raise ValueError("the quote is not closed on this line, or text follows it")
        literal, escaped = match[1], match[2]
        if literal is not None:
            return re.sub(r"\\(['\\])", r"\1", literal)
        _reject_expansion(escaped)
        return re.sub(r"\\(.)", lambda escape: ESCAPES.get(escape[1], escape[1]), escaped)
    text = COMMENT.sub("", value, count=1)
    _reject_expansion(text)
    return text


def _reject_expansion(text: str) -> None:
    """Raise ValueError if a value asks for a variable."""
    if EXPANSION.search(text):
        raise ValueError("variables are not expanded; put a value with a $ in single quotes")
