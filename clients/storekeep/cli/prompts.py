"""Prompts for required options and arguments that are missing, on a terminal only: a program never waits for input."""

from __future__ import annotations

import sys
from typing import Any

import typer
from typer.core import TyperCommand

MISSING = "MissingParameter"
"""Name of typer's error for a required parameter without a value."""


class PromptingCommand(TyperCommand):
    """A command that asks for what is missing if a person can answer. Its help has a section for each panel."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write the arguments and options to the help: own ones first, then those of each panel."""
        sections: dict[str, list[tuple[str, str]]] = {"Arguments": [], "Options": []}
        for parameter in self.get_params(ctx):
            default = "Arguments" if parameter.param_type_name == "argument" else "Options"
            panel = getattr(parameter, "rich_help_panel", None) or default
            if record := parameter.get_help_record(ctx):
                sections.setdefault(panel, []).append(record)
        for title, records in sections.items():
            if records:
                with formatter.section(title):
                    formatter.write_dl(records)

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the arguments, with the answers to prompts after them.

        Raises: typer.BadParameter.
        """
        while True:
            try:
                return super().parse_args(ctx, list(args))
            except typer.BadParameter as error:
                parameter: Any = error.param
                if type(error).__name__ != MISSING or parameter is None or not can_prompt():
                    raise
            ctx.params.clear()
            args = _add_answers(args, parameter)


def can_prompt() -> bool:
    """Return whether a person can read a prompt and answer it."""
    return sys.stdin.isatty() and sys.stderr.isatty()


def ask(label: str, *, hint: str = "", optional: bool = False) -> str:
    """Ask for a text until it is not empty, or once if it is `optional`.

    Raises: typer.Abort at the end of the input.
    """
    text = f"{label} ({hint.strip().rstrip('.')})" if hint else label
    answer: str = typer.prompt(text, default="" if optional else None, show_default=False, err=True)
    return answer


def _add_answers(args: list[str], parameter: Any) -> list[str]:
    """Return the arguments with what the user types for one more parameter."""
    is_argument = parameter.param_type_name == "argument"
    label = str(parameter.metavar or parameter.name).removesuffix("...") if is_argument else parameter.opts[0]
    hint = parameter.help or ("" if is_argument else parameter.metavar) or ""
    answers = [ask(label, hint=hint)]
    if parameter.multiple or parameter.nargs == -1:
        while more := ask(f"{label}, or Enter to go on", optional=True):
            answers.append(more)
    if not is_argument:
        return [*(f"{label}={answer}" for answer in answers), *args]
    return [*args, *(() if "--" in args else ("--",)), *answers]
