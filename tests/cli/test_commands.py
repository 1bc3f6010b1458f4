"""Every command has the shared options, and its help ends with a valid example."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest
import typer.main

from storekeep.cli.app import new_app
from storekeep.cli.groups import SOURCES, load_command
from tests.support.command_line import CommandLine

SHARED = {"--address", "--output", "-o", "--json", "--timeout", "--ca-file", "--cert-file", "--key-file", "--plaintext"}


def walk(command: object, path: tuple[str, ...] = ()) -> list[tuple[tuple[str, ...], object]]:
    children = getattr(command, "commands", None)
    if children is None:
        return [(path, command)]
    return [found for name, child in children.items() for found in walk(child, (*path, name))]


ROOT = typer.main.get_command(new_app())
# Commands of their own: `make_context` without a parent leaves traces in a command, such as a help option without `-h`.
LOADED = {name: load_command.__wrapped__(name, source) for name, source in SOURCES.items()}
COMMANDS = [found for name, command in LOADED.items() for found in walk(command, (name,))]
each_command = pytest.mark.parametrize(("path", "command"), COMMANDS, ids=[" ".join(path) for path, _ in COMMANDS])


def options(command: object) -> set[str]:
    return {name for parameter in command.params for name in parameter.opts}  # type: ignore[attr-defined]


@each_command
def test_command_has_the_shared_options(path: tuple[str, ...], command: object) -> None:
    assert (options(command) >= SHARED) == (path != ("completion",))  # which calls no server


@each_command
def test_help_of_command_ends_in_an_example_of_it(path: tuple[str, ...], command: object) -> None:
    example = command.epilog  # type: ignore[attr-defined]
    assert example.startswith(f"Example: storekeep {' '.join(path)}")


def test_help_of_each_group_ends_in_an_example_of_it(bare_cli: CommandLine) -> None:
    paths = {(): ROOT} | {(name,): child for name, child in LOADED.items() if hasattr(child, "commands")}
    for path, group in paths.items():
        ending = group.epilog.rpartition("\n\n")[2]
        assert ending.startswith(f"Example: storekeep {' '.join(path)}"), path
        words = shlex.split(ending.removeprefix("Example: storekeep "))
        (command,) = [command for own, command in COMMANDS if own == tuple(words[: len(own)])]
        command.make_context(words[0], words[len(path) + 1 :])  # type: ignore[attr-defined]
        assert " ".join(bare_cli(*path, "--help").out.split()).endswith(ending)


@each_command
def test_example_of_command_is_a_command_line_that_it_takes(path: tuple[str, ...], command: object) -> None:
    words = shlex.split(command.epilog.removeprefix("Example: storekeep "))[len(path) :]  # type: ignore[attr-defined]
    command.make_context(path[-1], words)  # type: ignore[attr-defined]


WRITING = {"create", "update", "set", "adjust", "place", "cancel", "confirm", "archive", "unarchive", "delete"}
WRITING |= {"erase", "export", "merge", "undelete", "enable", "disable", "rotate", "rotate-signing", "revoke"}
WRITING |= {"cancel-lines", "edit", "hold", "resume", "complete", "fulfill", "note", "ship", "deliver"}
WRITING |= {"activate", "end", "generate", "redeliver", "pause", "test", "rotate-secret", "translate"}
WRITING |= {"invite", "link", "unlink", "reset-totp", "end-sessions"}
WRITING |= {"publish", "transfer", "reconcile", "reserve", "extend", "release", "restock", "commit"}
WRITING |= {"send", "accept", "expire"}


@each_command
def test_command_that_changes_something_has_a_dry_run(path: tuple[str, ...], command: object) -> None:
    assert ("--dry-run" in options(command)) == (path[-1] in WRITING or path[0] in {"api", "import"})


@each_command
def test_command_has_help_for_itself(path: tuple[str, ...], command: object, bare_cli: CommandLine) -> None:
    run = bare_cli(*path, "--help")
    assert run.code == 0
    assert "Example:" in run.out


@pytest.mark.parametrize("name", SOURCES)
def test_summary_in_the_help_is_that_of_the_command(name: str) -> None:
    assert " ".join(LOADED[name].help.split()).startswith(SOURCES[name].summary.rstrip("."))  # type: ignore[attr-defined]


@pytest.mark.parametrize("path", [(), ("orders",), ("orders", "list")])
def test_short_option_shows_the_help(path: tuple[str, ...], bare_cli: CommandLine) -> None:
    assert bare_cli(*path, "-h") == bare_cli(*path, "--help")


def test_version_is_the_distributions(bare_cli: CommandLine) -> None:
    assert bare_cli("--version").out == f"storekeep {metadata.version('storekeep')}\n"


SHELLS = {"bash": "complete_bash", "zsh": "#compdef storekeep", "fish": "complete_fish", "powershell": "-ScriptBlock"}


@pytest.mark.parametrize(("shell", "expected"), SHELLS.items())
def test_completion_prints_the_script_of_the_shell_that_is_named(
    shell: str, expected: str, bare_cli: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SHELL", "/bin/sh")
    run = bare_cli("completion", shell)
    assert (run.code, run.err) == (0, "")
    assert [name for name, part in SHELLS.items() if part in run.out] == [shell]
    assert expected in run.out


def test_completion_script_completes_in_bash(bare_cli: CommandLine, tmp_path: Path) -> None:
    script = tmp_path / "completion.bash"
    script.write_text(bare_cli("completion", "bash").out)
    ask = "COMP_WORDS=(storekeep ord); COMP_CWORD=1; _storekeep_completion storekeep; echo ${COMPREPLY[*]}"
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    run = subprocess.run(
        ["bash", "-c", f"source {script}; {ask}"],
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (run.stdout, run.stderr) == ("orders\n", "")


def test_completion_of_an_unknown_shell_is_refused(bare_cli: CommandLine) -> None:
    run = bare_cli("completion", "zhs")
    assert (run.code, run.out) == (2, "")
    assert "did you mean zsh?" in run.err


def test_completion_can_be_installed_and_is_shown_in_one_way(bare_cli: CommandLine) -> None:
    shown = bare_cli("--help").out
    assert "--install-completion" in shown
    assert "--show-completion" not in shown
    assert bare_cli("--show-completion", "zsh").code == 2
