"""`storekeep health`: the serving status of the server and its services."""

from __future__ import annotations

import typer

from storekeep.cli.commands import command
from storekeep.cli.exits import Exit
from storekeep.cli.sessions import Session
from storekeep.client import HealthStatus


def add_health(app: typer.Typer) -> None:
    """Add the command to the command line."""
    command(app, "health", example="storekeep health --address 127.0.0.1:50051")(show_health)


def show_health(session: Session) -> None:
    """Show the status of each service; exit with code 1 unless all are serving. Requires no login."""
    statuses = session.client.health.list()
    rows = [(name or "(server)", statuses[name].name) for name in sorted(statuses)]
    session.screen.show_rows(rows, columns=("service", "status"))
    if any(status is not HealthStatus.SERVING for status in statuses.values()):
        raise typer.Exit(Exit.REFUSED)
