"""Categories of imported products, found by id or name and created if missing.

A name always leads to the same category. Names that would get the same id get a suffix; a deleted category is reported
and never replaced.
"""

from __future__ import annotations

import unicodedata

from storekeep.cli.imports.columns import InvalidCell
from storekeep.cli.imports.ids import add_suffix, make_slug
from storekeep.cli.names import to_category_name
from storekeep.client import AlreadyExists, Category, Refused, Storekeep, WriteOptions


class CategoryIndex:
    """The categories of the server by id and by name, loaded on first use. Not thread-safe."""

    def __init__(self, client: Storekeep, *, write_options: WriteOptions) -> None:
        self._client = client
        self._write_options = write_options
        self._loaded = False
        self._by_id: dict[str, Category] = {}
        self._by_name: dict[str, Category] = {}

    def find_or_create(self, text: str) -> str | InvalidCell:
        """Return the resource name of a category given by id or name. Create it if it does not exist.

        If it cannot be used or created, return the error for the rows that name it. In a dry run, return an empty
        string for a category that would be created.
        """
        if not self._loaded:
            self._load()
        category = self._by_id.get(text, self._by_name.get(_fold(text)))
        if category is None:
            created = self._create(text)
            if isinstance(created, InvalidCell):
                return created
            category = created
        if category.HasField("delete_time"):
            return InvalidCell(f"category: {category.name} ({category.display_name}) is deleted; undelete it first")
        return category.name

    def _load(self) -> None:
        """Load all categories. Existing ones take precedence over deleted ones of the same name."""
        categories = list(self._client.categories.list(page_size=1000, show_deleted=True))
        for category in sorted(categories, key=lambda one: one.HasField("delete_time")):
            self._add(category, category.name.removeprefix(to_category_name("")))
        self._loaded = True

    def _add(self, category: Category, category_id: str) -> None:
        self._by_id[category_id] = category
        self._by_name.setdefault(_fold(category.display_name), category)

    def _create(self, text: str) -> Category | InvalidCell:
        slug = make_slug(text)
        category_id = add_suffix(slug, text) if slug in self._by_id else slug
        try:
            created = self._client.categories.create(
                Category(display_name=text), category_id=category_id, **self._write_options
            )
        except AlreadyExists:
            return self._reload(text, category_id)
        except Refused as error:
            return InvalidCell(f"category {text!r}: {error}")
        if self._write_options.get("validate_only"):
            created = Category(display_name=created.display_name)
        self._add(created, category_id)
        return created

    def _reload(self, text: str, category_id: str) -> Category | InvalidCell:
        """Return the category that another client created meanwhile."""
        self._load()
        category = self._by_id.get(text, self._by_name.get(_fold(text)))
        return category or InvalidCell(f"category {text!r}: its id {category_id} is taken")


def _fold(text: str) -> str:
    return unicodedata.normalize("NFC", text).casefold()
