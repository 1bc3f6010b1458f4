"""`storekeep import categories`, and the categories of imported products, which are found by id or name.

A name always leads to the same category. Names that would get the same id get a suffix; a deleted category is reported
and never replaced.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Mapping, Sequence
from functools import partial

from storekeep.client import AlreadyExists, Category, Refused, ServerError, Storekeep, WriteOptions
from storekeep.client.names import to_category_name
from storekeep.imports.columns import InvalidCell, Target, Values
from storekeep.imports.ids import add_suffix, make_slug, parse_id
from storekeep.imports.lookups import require_existing
from storekeep.imports.sku_maps import SkuMap
from storekeep.imports.writes import Outcome, Write, run_writes

TARGETS = (
    Target("id", "Id of the category: 1 to 63 letters, digits and _.-", required=True),
    Target("name", "Display name.", required=True),
    Target("description", "At most 5,000 characters."),
    Target("parent", "Id of the category that it is in, which is above it in the file or exists (default: none)."),
)
FIELDS = ("display_name", "description", "parent_category")
"""The fields that an update can change."""
COLLECTION = to_category_name("")
"""What the resource names of categories begin with."""


class CategoryImporter:
    """Creates and updates categories from rows, one after the other, because a row may need the one above it."""

    def __init__(self, client: Storekeep, *, write_options: WriteOptions, skus: SkuMap) -> None:
        self._categories = client.categories
        self._dry_run = write_options.get("validate_only", False)
        self._existing: dict[str, Category] | None = None
        self._planned = set[str]()

    def parse(self, values: Values) -> Category:
        """Parse a row. Raises: InvalidCell."""
        parent = values.text("parent")
        return Category(
            name=to_category_name(parse_id(values.require("id"), target="id")),
            display_name=values.require("name"),
            description=values.text("description") or "",
            parent_category=to_category_name(parse_id(parent, target="parent")) if parent else "",
        )

    def key(self, item: Category) -> str:
        """Return the key of an item, which must be unique in a file."""
        return item.name

    def list_shared_cells(self, item: Category) -> tuple[str, Mapping[str, str]]:
        """Return the resource of an item, and the cells that all rows of the resource must share: none."""
        return item.name, {}

    def look_up(self, items: Sequence[Category]) -> Callable[[Category], Outcome]:
        """Write a chunk. Return the function that returns the outcome of an item, or raises its error."""
        if self._existing is None:
            listed = self._categories.list(page_size=1000, show_deleted=True)
            self._existing = {category.name: category for category in listed}
        results = {item.name: self._write(item, self._existing.get(item.name)) for item in items}

        def get_result(item: Category) -> Outcome:
            result = results[item.name]
            if isinstance(result, Exception):
                raise result
            return result

        return get_result

    def _write(self, item: Category, current: Category | None) -> Outcome | Refused | InvalidCell:
        try:
            outcome = run_writes(self._plan(item, current), dry_run=self._dry_run)
        except ServerError:
            raise
        except (Refused, InvalidCell) as error:
            return error
        if outcome is Outcome.CREATED:
            self._planned.add(item.name)
        return outcome

    def _plan(self, item: Category, current: Category | None) -> list[Write]:
        """Return the call that creates or updates a category; none if it has all values of the file.

        Raises: InvalidCell if the category is deleted.
        """
        sent = Category()
        sent.CopyFrom(item)
        if self._dry_run and item.parent_category in self._planned:
            sent.ClearField("parent_category")  # it does not exist, as its row was a dry run too
        if current is None:
            create = partial(self._categories.create, sent, category_id=item.name.partition("/")[2])
            return [Write(lambda options: create(**options), Outcome.CREATED)]
        require_existing(current)
        present = {descriptor.name for descriptor, _ in item.ListFields()}
        changed = [name for name in FIELDS if name in present and getattr(current, name) != getattr(item, name)]
        update = partial(self._categories.update, sent, update_mask=changed)
        return [Write(lambda options: update(**options), Outcome.UPDATED)] if changed else []


class CategoryIndex:
    """The categories of the server by id and by name, loaded on first use. Not thread-safe."""

    def __init__(self, client: Storekeep, *, write_options: WriteOptions) -> None:
        self._client = client
        self._write_options = write_options
        self._loaded = False
        self._by_id: dict[str, Category] = {}
        self._by_name: dict[str, Category] = {}

    def find_or_create(self, text: str) -> str | InvalidCell:
        """Return the resource name of a category given by id, name or resource name. Create it if it does not exist.

        If it cannot be used or created, return the error for the rows that name it. In a dry run, return an empty
        string for a category that would be created.
        """
        if not self._loaded:
            self._load()
        category = self._by_id.get(text.removeprefix(COLLECTION), self._by_name.get(_fold(text)))
        if category is None and text.startswith(COLLECTION):
            return InvalidCell(f"category: no such category: {text}")
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
            self._add(category, category.name.removeprefix(COLLECTION))
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
