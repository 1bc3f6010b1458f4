"""Every command that a page, an error or a hint advises exists, has its options, and is no dry run by accident."""

from __future__ import annotations

import argparse
import ast
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer import TyperException

from storekeep.gateway.command import make_parser as make_gateway_parser
from storekeep.server.command import make_parser as make_server_parser
from tests.cli.test_commands import COMMANDS, LOADED

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", *(page for page in DOCS.rglob("*.md") if page.relative_to(DOCS).parts[0] != "decisions")]
SOURCES = [
    file
    for root in ("clients", "server", "docs")
    for file in sorted((ROOT / root).rglob("*.py"))
    if file.name != "secret_strength.py"  # which has a list of words
]
COMMAND = r"storekeep(?:-server|-gateway)? [a-z]"
QUOTED = re.compile(rf"`({COMMAND}[^`]*)`")
LINE = re.compile(rf"^(?:\$ )?(?:[A-Z_]+=\S+ )*({COMMAND}.*)$", re.MULTILINE)
UNQUOTED = re.compile(rf"(?<!`)({COMMAND}[^`;,()\n]*)")
"""A command in a text of the source, perhaps with more of the sentence."""
VALUE = "1"
"""Stands for a value that the program fills in."""
PARSERS = {"storekeep-server": make_server_parser(), "storekeep-gateway": make_gateway_parser()}


def read_texts(file: Path) -> Iterator[str]:
    """Yield the texts of a Python file, with a value in each gap of a formatted one."""
    tree = ast.parse(file.read_text())
    parts = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values}
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            yield "".join(part.value if isinstance(part, ast.Constant) else VALUE for part in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in parts:
            yield node.value


def list_server_options(program: str, words: list[str]) -> set[str]:
    """Return the options of a command of another program.

    Raises: KeyError if there is no such command.
    """
    (commands,) = [action for action in PARSERS[program]._actions if isinstance(action, argparse._SubParsersAction)]
    return set(commands.choices[words[0]]._option_string_actions)


def find_problem(text: str, *, is_full: bool) -> str:
    """Return what is wrong with an advised command; empty if nothing is.

    `is_full`: whether the text is a command line, which must have all arguments, and not a part of a sentence.
    """
    text, _, comment = text.replace("\\\n", " ").partition(" #")
    try:
        program, *words = shlex.split(re.split(r" (?:[|>]|&&) ", text)[0])
    except ValueError:
        program, *words = text.split()
    used = {word.partition("=")[0] for word in words if word.startswith("--")}
    if program != "storekeep":
        try:
            unknown = used - list_server_options(program, words)
        except KeyError:
            return "there is no such command"
        return f"no such options: {unknown}" if unknown else ""
    matching = [(path, command) for path, command in COMMANDS if tuple(words[: len(path)]) == path]
    if not matching:
        is_group = words[0] in LOADED and (len(words) == 1 or (not is_full and not re.match("[a-z]", words[1])))
        return "" if is_group else "there is no such command"
    ((path, command),) = matching
    return find_problem_of_command(command, words[len(path) :], used, comment=comment, is_full=is_full)


def find_problem_of_command(command: Any, words: list[str], used: set[str], *, comment: str, is_full: bool) -> str:
    """Return what is wrong with the arguments of a command. A comment on a dry run tells the reader that it is one."""
    options = {name: parameter for parameter in command.params for name in parameter.opts + parameter.secondary_opts}
    if unknown := used - options.keys() - {"--help"}:
        return f"no such options: {unknown}"
    confirmation = getattr(options.get("--yes"), "help", None) or ""
    if used and "default: dry run" in confirmation and not used & {"--yes", "--dry-run"} and not comment:
        return "it is a dry run without --yes"
    if is_full and words and "..." not in words:
        try:
            command.make_context(command.name, words)
        except TyperException as error:
            return error.format_message()
    return ""


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("storekeep customers export 1 --file 1.json", "dry run"),
        ("storekeep customers export 1 --file 1.json --yes", ""),
        ("storekeep customers export 1 --fil 1.json --yes", "no such options"),
        ("storekeep customers exprt 1", "no such command"),
        ("storekeep import products tea.csv --set currency=EUR", "dry run"),
        ("storekeep orders show", ""),
        ("storekeep stock set CHAI-1", "missing"),
        ("storekeep-server give-up-key", "no such command"),
        ("storekeep-server give-up-keys --yess", "no such options"),
        ("storekeep-gateway serve --server a:1", ""),
    ],
)
def test_problem_of_an_advised_command_is_found(text: str, problem: str) -> None:
    told = find_problem(text, is_full=True).lower()
    assert (problem in told, bool(told)) == (True, bool(problem))


def test_commands_on_pages_are_commands() -> None:
    problems = {}
    count = 0
    for page in PAGES:
        text = page.read_text().replace("\\\n", " ")
        for command in {*QUOTED.findall(text), *LINE.findall(text)}:
            count += 1
            if problem := find_problem(command, is_full=True):
                problems[page.name, command] = problem
    assert problems == {}
    assert count > 100


def test_commands_in_texts_of_the_programs_are_commands() -> None:
    problems = {}
    count = 0
    for file in SOURCES:
        for text in read_texts(file):
            for command in {*QUOTED.findall(text), *UNQUOTED.findall(text)}:
                count += 1
                if problem := find_problem(command, is_full=False):
                    problems[file.name, command] = problem
    assert problems == {}
    assert count > 100
