"""Steps: commands that move resources from one state to another by name: archive, delete, revoke and their kin.

One command takes any number of names. More than one is a dry run unless told `--yes`; the first that fails ends it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated

import typer
from google.protobuf.message import Message

from storekeep.cli.commands import Etag, Yes, command
from storekeep.cli.sessions import Session


@dataclass(frozen=True)
class Step:
    """A command that takes names and moves each resource on."""

    verb: str
    """The command's name."""
    help: str
    """What it does."""
    method: Callable[[Session], Callable[..., Message]]
    """The client's method, which takes a name, an etag and the options of a mutation."""


def add_steps(
    group: typer.Typer,
    steps: tuple[Step, ...],
    *,
    noun: str,
    example_name: str,
    to_name: Callable[[str], str],
    columns: tuple[str, ...],
) -> None:
    """Add one command per step to a group; `to_name` makes a resource name of what was typed."""
    for step in steps:
        _add_step(group, step, example=f"storekeep {noun} {step.verb} {example_name}", to_name=to_name, columns=columns)


def _add_step(
    group: typer.Typer, step: Step, *, example: str, to_name: Callable[[str], str], columns: tuple[str, ...]
) -> None:
    def run(
        session: Session,
        names: Annotated[list[str], typer.Argument(metavar="NAME...", help="Ids or full names.")],
        etag: Etag = "",
        yes: Yes = False,
    ) -> None:
        if etag and len(names) > 1:
            raise typer.BadParameter("An etag belongs to one resource: give one name.")
        session.hold_back(what=f"{step.verb} of {len(names)}", yes=yes or len(names) == 1)
        move, moved = step.method(session), list[Message]()
        try:
            for name in names:
                moved.append(move(to_name(name), etag=etag, **session.write_options))
        finally:
            if moved:
                session.screen.show_messages(moved, columns=columns)

    run.__doc__ = step.help
    command(group, step.verb, example=example, writes=True)(run)
