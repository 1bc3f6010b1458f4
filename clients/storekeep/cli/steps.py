"""Commands that change the state of named resources: archive, delete, revoke and others.

A command takes any number of names. With more than one it is a dry run unless `--yes` is given. It stops at the first
failure.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any

import typer
from google.protobuf.message import Message

from storekeep.cli.commands import Etag, Yes, command
from storekeep.cli.sessions import Session


@dataclass(frozen=True)
class Step:
    """A command that changes the state of each named resource."""

    verb: str
    """Name of the command."""
    help: str
    """Help text."""
    method: Callable[[Session], Callable[..., Message]]
    """Returns the client method, which takes a name, an etag and `WriteOptions`."""


def add_steps(
    group: typer.Typer,
    steps: tuple[Step, ...],
    *,
    noun: str,
    example_name: str,
    to_name: Callable[[str], str],
    columns: tuple[str, ...],
    show_one: Callable[[Session, Any], None] | None = None,
) -> None:
    """Add one command per step to a group.

    Args:
        to_name: converts an argument to a resource name.
        show_one: shows a resource as the other commands of the group do, if it is the only one (default: as a row).
    """
    for step in steps:
        example = f"storekeep {noun} {step.verb} {example_name}"
        _add_step(group, step, example=example, to_name=to_name, columns=columns, show_one=show_one)


def _add_step(
    group: typer.Typer,
    step: Step,
    *,
    example: str,
    to_name: Callable[[str], str],
    columns: tuple[str, ...],
    show_one: Callable[[Session, Any], None] | None,
) -> None:
    def run(
        session: Session,
        names: Annotated[list[str], typer.Argument(metavar="NAME...", help="Ids or full names.")],
        etag: Etag = "",
        yes: Yes = False,
    ) -> None:
        if etag and len(names) > 1:
            raise typer.BadParameter("--etag requires a single name, because an etag belongs to one resource")
        session.default_to_dry_run(action=f"{step.verb} with {len(names)} names", yes=yes, many=len(names) > 1)
        apply, changed = step.method(session), list[Message]()
        try:
            for name in names:
                changed.append(apply(to_name(name), etag=etag, **session.write_options))
        finally:
            if changed and show_one is not None and len(names) == 1 and session.screen.has_default_layout:
                show_one(session, changed[0])
            elif changed:
                session.screen.show_messages(changed, columns=columns)

    run.__doc__ = step.help
    command(group, step.verb, example=example, writes=True)(run)
