"""Old private words and phrases of the project do not come back, in texts and in names.

WORDS gives the plain English for each.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from tests.support.checkout import files, python_files, text

WORDS: dict[str, str] = {
    r"milliards?": "billion",
    r"for ever": "indefinitely",
    r"anyhow": "anyway",
    r"amid": "during",
    r"hiccup(s|ed|ing)?": "interval, delay",
    r"calm(er|ly)?": "stable",
    r"backlogs?": "admission control, queue",
    r"trials?": "probe (half-open), dry run (validate-only)",
    r"writerships?": "leader, leader election",
    r"on_gain": "on_elected",
    r"(the )?one (that|who) writes": "the leader, the writer",
    r"(?<!on\s)hand(s|ed|ing)? on": "forward",
    r"hand(s|ed)?_on": "forward",
    r"answered elsewhere": "forwarded",
    r"how far the ledger goes": "consistency token",
    r"put(s|ting)? off": "defer",
    r"witness(es|ed)?": "marker write",
    r"promises? that (is|are) due": "expired reservations, expired allocations",
    r"sweepers?": "expiry job",
    r"spool(ed|ing|er)?": "staging table",
    r"call(s|ed|ing)? off|called_off": "cancel",
    r"giv(e|es|en|ing) (its|their|the) (stock|units) back": "release",
    r"sheds?|shedding|let in(?!-)": "reject, admit",
    r"bur(y|ies|ied|ying)|see_end": "reap, poll_exit",
    r"SealBroken": "DecryptionFailed",
    r"hold_signals_back": "block_signals",
    r"spare_garbage_collector": "freeze_gc",
    r"in_words": "describe_error",
    r"exposition(?! format)": "prometheus, metrics",
    r"overviews?": "status",
    r"crowds?": "concurrent clients, seeds",
    r"announcements?": "console, startup banner",
    r"whom?ever": "the caller, the operator, anyone who",
    r"so many( \w+)? at most|at most so many|at the most": "at most N",
    r"where there (is|are) none": "if there is none",
    r"(says?|said) so": "state the condition",
    r"(is|are) told of": "is notified of",
    r"that one too": "name the thing",
}
"""What to write instead of each old word or phrase, by pattern. Words with a proper meaning do not belong here."""
NAMES = frozenset({"there", "told", "wanted", "kept", "who"})
"""Pronouns and participles that do not describe the value of a variable or parameter."""
FUNCTION_NAMES = re.compile(r"(?!as_)\w+_of|shown|settled|without|named|called_off|found|told")
"""Names of functions that are not verb + noun."""
GAP = r"\s+(?:(?:#|//)\s+)?"
"""A space in a phrase, which may be a line break within a comment."""
OLD_NAMES = re.compile(r"\b(?:" + "|".join(WORDS) + r")\b")
"""An old word or phrase in the words of a name."""
NOT_REJECTED = re.compile(r"\brefus(e|es|ed|ing|als?)\b", re.IGNORECASE)
REJECTING_ROOMS = tuple(f"server/storekeep/server/{room}" for room in ("interceptors", "transport", "runtime"))
"""Rooms that reject calls: they end them before any work is done. A caller sees every error as a refusal."""
WRITTEN_BY_PEOPLE = {"", ".cfg", ".ini", ".md", ".proto", ".py", ".sh", ".toml", ".yaml", ".yml"}
NOT_WRITTEN = (
    ("generated",),
    ("docs", "reference"),
    ("benchmarks", "results"),
    ("server", "storekeep", "server", "store", "migrations"),  # a database compares them by their SHA-256
)


def list_own_files() -> list[Path]:
    """Return the files that people write, without this one."""
    return [
        path
        for path in files()
        if path.suffix in WRITTEN_BY_PEOPLE
        and not any(path.parts[: len(folder)] == folder for folder in NOT_WRITTEN)
        and path.name != Path(__file__).name
    ]


def compile_phrase(phrase: str) -> re.Pattern[str]:
    """Return a pattern that finds the phrase in any case, also across the lines of a comment.

    Args:
        phrase: a key of WORDS.
    """
    return re.compile(r"\b(?:" + phrase.replace(" ", GAP) + r")\b", re.IGNORECASE)


@cache
def read_names(path: Path) -> tuple[tuple[int, str, type[ast.AST]], ...]:
    """Return the line, the name and the kind of each thing that a file assigns or defines; parses it once for all."""
    return tuple(_iterate_names(path))


def _iterate_names(path: Path) -> Iterator[tuple[int, str, type[ast.AST]]]:
    for node in ast.walk(ast.parse(text(path))):
        if isinstance(node, ast.arg):
            yield node.lineno, node.arg, ast.Name
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.lineno, node.id, ast.Name
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node.lineno, node.name, ast.FunctionDef
        elif isinstance(node, ast.ClassDef):
            yield node.lineno, node.name, ast.ClassDef
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield node.lineno, node.attr, ast.Attribute


def list_names(path: Path) -> list[tuple[int, str]]:
    """Return the line and the name of each variable and parameter that a file assigns."""
    return [(line, name) for line, name, kind in read_names(path) if kind is ast.Name]


def split_words(name: str) -> str:
    """Return the words of an identifier or a file name: `_EarlyLimits` -> `early limits`."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", name).replace("_", " ").strip().lower()


def list_old_names(path: Path) -> Iterator[str]:
    """Yield each name with an old word in a file: its own, and those that it assigns or defines, also of tests."""
    names = [(0, part.partition(".")[0]) for part in path.parts]
    names += [(line, name) for line, name, _ in read_names(path)] if path.suffix == ".py" else []
    for line, name in names:
        if OLD_NAMES.search(split_words(name)):
            yield f"{path}:{line}: {name}"


def list_functions(path: Path) -> list[tuple[int, str]]:
    """Return the line and the name of each function in a file, without leading underscores."""
    return [(line, name.lstrip("_")) for line, name, kind in read_names(path) if kind is ast.FunctionDef]


@pytest.mark.parametrize("phrase", WORDS)
def test_old_word_is_not_used(phrase: str) -> None:
    pattern = compile_phrase(phrase)
    hits = [
        f"{path}:{text(path).count(chr(10), 0, match.start()) + 1}: {match[0]!r}"
        for path in list_own_files()
        for match in pattern.finditer(text(path))
    ]
    assert not hits, f"write: {WORDS[phrase]}"


def test_old_word_is_in_no_name() -> None:
    assert not [hit for path in list_own_files() for hit in list_old_names(path)]


def test_calls_are_rejected_and_not_refused() -> None:
    hits = [
        f"{path}:{number}: {line.strip()}"
        for path in python_files("server")
        if path.as_posix().startswith(REJECTING_ROOMS)
        for number, line in enumerate(text(path).splitlines(), 1)
        if NOT_REJECTED.search(line)
    ]
    assert not hits, "write: reject, rejection"


def test_names_of_variables_are_no_pronouns() -> None:
    hits = [
        f"{path}:{line}: {name}"
        for path in python_files("server", "clients")
        for line, name in list_names(path)
        if name in NAMES
    ]
    assert not hits, "write: existing, reported, requested, reserved, caller"


def test_names_of_functions_begin_with_a_verb() -> None:
    hits = [
        f"{path}:{line}: {name}"
        for path in python_files("server", "clients")
        for line, name in list_functions(path)
        if FUNCTION_NAMES.fullmatch(name)
    ]
    assert not hits, "write verb + noun, such as find_location for location_of"
