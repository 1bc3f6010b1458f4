"""The style of the code: sizes, names, and content that must not be committed."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

from tests.support.checkout import PYTHON_ROOTS, ROOT, files, python_files, text

FILE_LINES_MAX = 500
FUNCTION_LINES_MAX = 60
DOCSTRING_LINES_MAX = 6
FORBIDDEN_NAMES = {"base", "common", "helpers", "misc", "utils"}
# A marker of unfinished work must name its issue. The pattern is split so that this file passes.
UNFINISHED = re.compile(r"\b(TO" r"DO|FIX" r"ME|XX" r"X)\b(?!\(#\d+\))")
# Paths of home directories and of this checkout.
MACHINE_PATHS = re.compile(r"(?<![\w.$~{}])(/home/\w|/Users/\w|/roo" rf"t\b|{re.escape(str(ROOT))}/)")
WRITTEN_BY_PEOPLE = {".cfg", ".ini", ".md", ".proto", ".py", ".sh", ".toml", ".yaml", ".yml", ""}


def own_files() -> list[Path]:
    """Return the files that people write, without generated stubs and locks."""
    return [path for path in files() if path.suffix in WRITTEN_BY_PEOPLE and path.parts[0] != "generated"]


@cache
def measure(path: Path) -> tuple[str, tuple[tuple[str, int], ...]]:
    """Return a module's docstring, and the length of each function in lines, without its docstring; parses it once."""
    module = ast.parse(text(path))
    functions = [node for node in ast.walk(module) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    return ast.get_docstring(module, clean=False) or "", tuple((node.name, count_lines(node)) for node in functions)


def count_lines(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Return the length of a function in lines, without its docstring."""
    start = node.body[0].end_lineno if ast.get_docstring(node) else node.lineno
    return (node.end_lineno or node.lineno) - (start or node.lineno) + 1


def count_prose_lines(path: Path) -> int:
    """Return the number of lines of a module's docstring, without blank lines and drawn trees."""
    return sum(1 for line in measure(path)[0].splitlines() if line and line[0] not in " ├└│")


def test_files_are_of_a_size_that_can_be_read() -> None:
    lines = {str(path): sum(1 for line in text(path).splitlines() if line.strip()) for path in python_files()}
    assert not {path: count for path, count in lines.items() if count > FILE_LINES_MAX}


def test_functions_are_of_a_size_that_can_be_read() -> None:
    long = [
        f"{path}: {name}, {lines} lines"
        for path in python_files()
        for name, lines in measure(path)[1]
        if lines > FUNCTION_LINES_MAX
    ]
    assert not long


def test_names_of_files_say_what_is_in_them() -> None:
    assert not [str(path) for path in python_files() if path.stem in FORBIDDEN_NAMES]


def test_modules_begin_with_a_docstring() -> None:
    bare = [str(path) for path in python_files() if text(path).strip() and not measure(path)[0]]
    assert not bare


def test_docstrings_of_modules_are_short() -> None:
    lines = {str(path): count_prose_lines(path) for path in python_files("server", "clients")}
    assert not {path: count for path, count in lines.items() if count > DOCSTRING_LINES_MAX}


def test_unfinished_work_names_its_issue() -> None:
    assert not [f"{path}: {found[0]}" for path in own_files() if (found := UNFINISHED.search(text(path)))]


def test_no_file_knows_the_machine_that_it_was_written_on() -> None:
    assert not [f"{path}: {found[0]}" for path in own_files() if (found := MACHINE_PATHS.search(text(path)))]


def test_every_root_of_python_is_known() -> None:
    roots = {path.parts[0] for path in files() if path.suffix == ".py"} - {"generated"}
    assert roots <= set(PYTHON_ROOTS)


@pytest.mark.parametrize(
    "target", ["run", "test", "check", "format", "generate", "lock", "sbom", "bench", "prove", "clean"]
)
def test_makefile_helps_with_each_command(target: str) -> None:
    assert re.search(rf"^{target}:.*## \w", text(Path("Makefile")), re.MULTILINE)


def test_ci_runs_what_people_run() -> None:
    script = text(Path(".ci/run"))
    assert [line for line in script.splitlines() if line.startswith("make ") or line == "run_tests"] == [
        "make check",
        "run_tests",
    ]
    assert '\nrun_tests() {\n  make test "$@" || {\n' in script
    assert script.endswith("\nrun_tests\n"), "CI reads the last line of pytest"
