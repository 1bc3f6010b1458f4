"""`storekeep categories`: the tree that groups products."""

from __future__ import annotations

from functools import partial
from typing import Annotated

import typer

from storekeep.cli.changes import changes_of
from storekeep.cli.commands import Etag, command, new_group
from storekeep.cli.listings import ResourceListing, add_listing
from storekeep.cli.names import full_name
from storekeep.cli.sessions import Session
from storekeep.cli.steps import Step, add_steps
from storekeep.client import Category

COLUMNS = ("name", "display_name", "parent_category", "state", "update_time")
LISTING = ResourceListing(
    "List categories.",
    example="storekeep categories list --order-by display_name",
    method=lambda session: session.client.categories.list,
    columns=COLUMNS,
    soft_deletion=True,
)

STEPS = (
    Step("archive", "Take categories off sale; products stay as they are.", lambda s: s.client.categories.archive),
    Step("unarchive", "Put archived categories back on sale.", lambda s: s.client.categories.unarchive),
    Step("delete", "Delete categories; they can be undeleted.", lambda s: s.client.categories.delete),
    Step("undelete", "Bring deleted categories back.", lambda s: s.client.categories.undelete),
)

category_name = partial(full_name, "categories")


def add_categories(app: typer.Typer) -> None:
    """Add the group to the command line."""
    group = new_group(app, "categories", help="The tree that groups products.", example="storekeep categories list")
    add_listing(group, LISTING)
    command(group, "show", example="storekeep categories show drinks")(show_category)
    create = 'storekeep categories create --id tea --name "Tea" --parent drinks'
    command(group, "create", example=create, writes=True)(create_category)
    update = 'storekeep categories update tea --name "Teas and infusions"'
    command(group, "update", example=update, writes=True)(update_category)
    add_steps(group, STEPS, noun="categories", example_name="tea", to_name=category_name, columns=COLUMNS)


def show_category(session: Session, name: Annotated[str, typer.Argument(help="Its id or full name.")]) -> None:
    """Show one category."""
    session.screen.show_message(session.client.categories.get(category_name(name)))


def create_category(
    session: Session,
    display_name: Annotated[str, typer.Option("--name", help="What people read.")],
    category_id: Annotated[str, typer.Option("--id", help="Its id; the server chooses one without.")] = "",
    description: Annotated[str, typer.Option("--description")] = "",
    parent: Annotated[str, typer.Option("--parent", help="The category above it.")] = "",
) -> None:
    """Create a category."""
    category = Category(
        display_name=display_name, description=description, parent_category=category_name(parent) if parent else ""
    )
    created = session.client.categories.create(category, category_id=category_id, **session.write_options)
    session.screen.show_message(created)


def update_category(
    session: Session,
    name: Annotated[str, typer.Argument(help="Its id or full name.")],
    display_name: Annotated[str | None, typer.Option("--name", help="What people read.")] = None,
    description: Annotated[str | None, typer.Option("--description")] = None,
    parent: Annotated[str | None, typer.Option("--parent", help="The category above it; empty for none.")] = None,
    etag: Etag = "",
) -> None:
    """Change the given fields of a category."""
    wanted, mask = changes_of(
        Category,
        category_name(name),
        etag=etag,
        display_name=display_name,
        description=description,
        parent_category=category_name(parent) if parent else parent,
    )
    session.screen.show_message(session.client.categories.update(wanted, update_mask=mask, **session.write_options))
