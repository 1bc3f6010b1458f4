"""`storekeep audit`: commands that read and verify the audit log."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from storekeep.cli.checkpoints import read_checkpoint_file, write_checkpoint_file
from storekeep.cli.commands import command, new_group
from storekeep.cli.exits import Exit
from storekeep.cli.listings import ResourceListing, add_listing
from storekeep.cli.sessions import Session
from storekeep.client.names import to_entry_name

COLUMNS = ("sequence", "create_time", "actor", "api_key", "method", "resource", "request_id")
LISTING = ResourceListing(
    "List audit entries, newest first.",
    example="storekeep audit list --filter 'resource = \"products/chai\"'",
    method=lambda session: session.client.audit.list,
    columns=COLUMNS,
    filters=("actor = serviceAccounts/admin", 'resource = "products/chai*"'),
    is_time_ordered=True,
)


def add_audit(app: typer.Typer) -> None:
    """Add the group to the command line."""
    group = new_group(app, "audit", help="Read and verify the audit log.", example="storekeep audit list")
    add_listing(group, LISTING)
    command(group, "show", example="storekeep audit show 42")(show_entry)
    command(group, "checkpoint", example="storekeep audit checkpoint monday.checkpoint", shows=False)(write_checkpoint)
    command(group, "verify", example="storekeep audit verify --timeout 300")(verify_chain)


def show_entry(session: Session, name: Annotated[str, typer.Argument(help="Sequence number or full name.")]) -> None:
    """Show one audit entry with the state of the resource before and after."""
    session.screen.show_message(session.client.audit.get(to_entry_name(name)))


def write_checkpoint(
    session: Session, file: Annotated[Path, typer.Argument(help="File to write.", dir_okay=False)]
) -> None:
    """Write the latest signed checkpoint of the log to a file. Store it on another system."""
    newest = next(iter(session.client.audit.list_checkpoints(page_size=1)), None)
    if newest is None:
        raise typer.BadParameter("there is no checkpoint yet; the server writes one soon after it starts")
    write_checkpoint_file(file, newest)
    session.screen.show_message(newest)


def verify_chain(
    session: Session,
    since: Annotated[
        Path | None,
        typer.Option(help="Checkpoint file that the log must contain.", dir_okay=False, exists=True),
    ] = None,
) -> None:
    """Verify the hash chain of the log, or the part after a checkpoint; exit with code 1 if an entry is invalid."""
    checkpoint = None if since is None else read_checkpoint_file(since)
    verdict = session.client.audit.verify_chain(since=checkpoint)
    session.screen.show_message(verdict)
    if not verdict.valid:
        raise typer.Exit(Exit.REFUSED)
