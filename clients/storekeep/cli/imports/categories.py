"""Categories that an import of products names: found by id or name, created where there are none."""

from __future__ import annotations

from storekeep.cli.categories import category_name
from storekeep.cli.imports.columns import CellRefused
from storekeep.cli.imports.ids import slug_of
from storekeep.client import Category, Refused, Storekeep, WriteOptions


class CategoryIndex:
    """The categories of the server, by id and by name. Read once, when the first is asked for; not thread-safe."""

    def __init__(self, client: Storekeep, *, write_options: WriteOptions) -> None:
        self._client = client
        self._write_options = write_options
        self._names: dict[str, str] | None = None

    def name_of(self, text: str) -> str | CellRefused:
        """Return the resource name of the category that `text` stands for, creating it when there is none.

        What a row that names it is to be told, when it cannot be created, is returned rather than raised. In a dry
        run, a category that would be created has no name: the empty string.
        """
        if self._names is None:
            self._names = self._read()
        known = self._names.get(text, self._names.get(text.casefold()))
        if known is not None:
            return known
        created = self._create(text)
        if isinstance(created, str):
            self._names[text.casefold()] = created
        return created

    def _read(self) -> dict[str, str]:
        names: dict[str, str] = {}
        for category in self._client.categories.list(page_size=1000):
            names.setdefault(category.display_name.casefold(), category.name)
            names[category.name.removeprefix(category_name(""))] = category.name
        return names

    def _create(self, text: str) -> str | CellRefused:
        try:
            created = self._client.categories.create(
                Category(display_name=text), category_id=slug_of(text, target="category"), **self._write_options
            )
        except CellRefused as error:
            return error
        except Refused as error:
            return CellRefused(f"category {text!r}: {error}")
        return "" if self._write_options.get("validate_only") else created.name
