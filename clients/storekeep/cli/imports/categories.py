"""Categories of imported products, found by id or name and created if missing."""

from __future__ import annotations

from storekeep.cli.imports.columns import InvalidCell
from storekeep.cli.imports.ids import make_slug
from storekeep.cli.names import to_category_name
from storekeep.client import Category, Refused, Storekeep, WriteOptions


class CategoryIndex:
    """The categories of the server by id and by name, loaded on first use. Not thread-safe."""

    def __init__(self, client: Storekeep, *, write_options: WriteOptions) -> None:
        self._client = client
        self._write_options = write_options
        self._names: dict[str, str] | None = None

    def find_or_create(self, text: str) -> str | InvalidCell:
        """Return the resource name of a category given by id or name. Create it if it does not exist.

        If it cannot be created, return the error for the rows that name it. In a dry run, return an empty string for
        a category that would be created.
        """
        if self._names is None:
            self._names = self._load()
        name = self._names.get(text, self._names.get(text.casefold()))
        if name is not None:
            return name
        created = self._create(text)
        if isinstance(created, str):
            self._names[text.casefold()] = created
        return created

    def _load(self) -> dict[str, str]:
        names: dict[str, str] = {}
        for category in self._client.categories.list(page_size=1000):
            names.setdefault(category.display_name.casefold(), category.name)
            names[category.name.removeprefix(to_category_name(""))] = category.name
        return names

    def _create(self, text: str) -> str | InvalidCell:
        try:
            created = self._client.categories.create(
                Category(display_name=text), category_id=make_slug(text, target="category"), **self._write_options
            )
        except InvalidCell as error:
            return error
        except Refused as error:
            return InvalidCell(f"category {text!r}: {error}")
        return "" if self._write_options.get("validate_only") else created.name
