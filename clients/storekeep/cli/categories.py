"""`storekeep categories`: commands for the category tree."""

from __future__ import annotations

from typing import Annotated

import typer

from storekeep.cli.changes import build_update
from storekeep.cli.commands import Etag, command, new_group
from storekeep.cli.listings import ResourceListing, add_listing
from storekeep.cli.sessions import Session
from storekeep.cli.steps import Step, add_steps
from storekeep.cli.translations import Description, Language, Name, Remove, Tag, translate
from storekeep.client import Category, CategoryState
from storekeep.client.names import to_category_name

COLUMNS = ("name", "display_name", "parent_category", "state", "update_time")
LISTING = ResourceListing(
    "List categories.",
    example="storekeep categories list --order-by display_name",
    method=lambda session: session.client.categories.list,
    columns=COLUMNS,
    filters=("state = ACTIVE", "-parent_category:*"),
    states=lambda: CategoryState,
    soft_deletion=True,
    has_languages=True,
)

STEPS = (
    Step("archive", "Archive categories; their products do not change.", lambda s: s.client.categories.archive),
    Step("unarchive", "Unarchive categories.", lambda s: s.client.categories.unarchive),
    Step("delete", "Delete categories; they can be undeleted.", lambda s: s.client.categories.delete),
    Step("undelete", "Restore deleted categories.", lambda s: s.client.categories.undelete),
)


def add_categories(app: typer.Typer) -> None:
    """Add the group to the command line."""
    group = new_group(
        app, "categories", help="Manage the category tree of products.", example="storekeep categories list"
    )
    add_listing(group, LISTING)
    command(group, "show", example="storekeep categories show drinks")(show_category)
    create = 'storekeep categories create --id tea --name "Tea" --parent drinks'
    command(group, "create", example=create, writes=True)(create_category)
    update = 'storekeep categories update tea --name "Teas and infusions"'
    command(group, "update", example=update, writes=True)(update_category)
    translate_example = 'storekeep categories translate tea de --name "Tee"'
    command(group, "translate", example=translate_example, writes=True)(translate_category)
    add_steps(group, STEPS, noun="categories", example_name="tea", to_name=to_category_name, columns=COLUMNS)


def show_category(
    session: Session, name: Annotated[str, typer.Argument(help="Id or full name.")], language: Language = ""
) -> None:
    """Show one category."""
    session.screen.show_message(session.client.categories.get(to_category_name(name), accept_language=language))


def create_category(
    session: Session,
    display_name: Annotated[str, typer.Option("--name", help="Display name.")],
    category_id: Annotated[str, typer.Option("--id", help="Its id (default: chosen by the server).")] = "",
    description: Annotated[str, typer.Option("--description", help="At most 5,000 characters.")] = "",
    parent: Annotated[str, typer.Option("--parent", help="Id or full name of the parent category.")] = "",
) -> None:
    """Create a category."""
    category = Category(
        display_name=display_name, description=description, parent_category=to_category_name(parent) if parent else ""
    )
    created = session.client.categories.create(category, category_id=category_id, **session.creation_options)
    session.screen.show_message(created)


def update_category(
    session: Session,
    name: Annotated[str, typer.Argument(help="Id or full name.")],
    display_name: Annotated[str | None, typer.Option("--name", help="Display name.")] = None,
    description: Annotated[str | None, typer.Option("--description", help="At most 5,000 characters.")] = None,
    parent: Annotated[
        str | None, typer.Option("--parent", help="Id or full name of the parent category; empty for none.")
    ] = None,
    etag: Etag = "",
) -> None:
    """Change the given fields of a category."""
    changes, mask = build_update(
        Category,
        to_category_name(name),
        etag=etag,
        display_name=display_name,
        description=description,
        parent_category=to_category_name(parent) if parent else parent,
    )
    session.screen.show_message(session.client.categories.update(changes, update_mask=mask, **session.write_options))


def translate_category(
    session: Session,
    name: Annotated[str, typer.Argument(help="Id or full name.")],
    language: Tag,
    display_name: Name = None,
    description: Description = None,
    remove: Remove = False,
) -> None:
    """Change the name and the description of a category in one language. Other languages do not change."""
    category = session.client.categories.get(to_category_name(name))
    update = session.client.categories.update
    texts = {"display_name": display_name, "description": description}
    translate(session, category, language, update=update, remove=remove, **texts)
