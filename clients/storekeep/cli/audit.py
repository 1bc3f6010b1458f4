"""`storekeep audit`: who changed what, when, before and after."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from storekeep.cli.checkpoints import read_checkpoint_file, write_checkpoint_file
from storekeep.cli.commands import command, new_group
from storekeep.cli.exits import Exit
from storekeep.cli.listings import ResourceListing, add_listing
from storekeep.cli.names import full_name
from storekeep.cli.sessions import Session

COLUMNS = ("sequence", "create_time", "actor", "api_key", "method", "resource", "request_id")
LISTING = ResourceListing(
    "List audit entries, newest first.",
    example="storekeep audit list --filter 'resource = \"products/chai\"'",
    method=lambda session: session.client.audit.list,
    columns=COLUMNS,
)

entry_name = partial(full_name, "auditEntries")


def add_audit(app: typer.Typer) -> None:
    """Add the group to the command line."""
    group = new_group(app, "audit", help="Who changed what, when, before and after.", example="storekeep audit list")
    add_listing(group, LISTING)
    command(group, "show", example="storekeep audit show 42")(show_entry)
    command(group, "checkpoint", example="storekeep audit checkpoint monday.checkpoint")(write_checkpoint)
    command(group, "verify", example="storekeep audit verify --timeout 300")(verify_chain)


def show_entry(session: Session, name: Annotated[str, typer.Argument(help="Its number or full name.")]) -> None:
    """Show one audit entry with the resource before and after."""
    session.screen.show_message(session.client.audit.get(entry_name(name)))


def write_checkpoint(
    session: Session, file: Annotated[Path, typer.Argument(help="Where it goes.", dir_okay=False)]
) -> None:
    """Write the newest signed checkpoint of the log to a file, to be kept elsewhere."""
    newest = next(iter(session.client.audit.list_checkpoints(page_size=1)), None)
    if newest is None:
        raise typer.BadParameter("There is no checkpoint yet; the server makes one soon after it started")
    write_checkpoint_file(file, newest)
    session.screen.show_message(newest)


def verify_chain(
    session: Session,
    since: Annotated[
        Path | None,
        typer.Option(help="A checkpoint that was kept elsewhere; the log has to have it.", dir_okay=False, exists=True),
    ] = None,
) -> None:
    """Walk the chain of hashes, all of it or since a checkpoint; exit code 1 when an entry does not hold."""
    checkpoint = None if since is None else read_checkpoint_file(since)
    verdict = session.client.audit.verify_chain(since=checkpoint)
    session.screen.show_message(verdict)
    if not verdict.valid:
        raise typer.Exit(Exit.REFUSED)
