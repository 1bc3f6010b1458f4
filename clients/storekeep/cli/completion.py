"""`storekeep completion`: the script that completes commands, options and their values in a shell."""

from __future__ import annotations

import sys
from enum import StrEnum
from typing import Annotated

import typer


class Shell(StrEnum):
    """A shell with a completion script."""

    BASH = "bash"
    ZSH = "zsh"
    FISH = "fish"
    POWERSHELL = "powershell"


def add_completion(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command("completion", epilog="Example: storekeep completion bash")(print_completion)


def print_completion(shell: Annotated[Shell, typer.Argument(metavar="SHELL", help="Name of the shell.")]) -> None:
    """Print the completion script of a shell: bash, zsh, fish or powershell.

    It completes commands, options and their values. `storekeep --install-completion` installs it for the current shell.
    """
    from typer._completion_shared import get_completion_script

    script = get_completion_script(prog_name="storekeep", complete_var="_STOREKEEP_COMPLETE", shell=shell.value)
    sys.stdout.write(f"{script}\n")
