"""The dialects of SQL: what each engine calls the same thing.

Statements are written once. What the engines write differently stands in them as a table of our own, such as
`TEXTS(:skus) AS wanted`, and is spelt out when a statement is compiled. Values have the places `:name`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import peewee

TABLE = re.compile(r"\b(TEXTS|ROWS|PAIRS)\(([\w.:]+)\) AS (\w+)")
"""A table that JSON is read as. `TEXTS` is an array of texts and `ROWS` one of arrays: `key` counts them and `value` is
each. `PAIRS` is an object: `key` and `value` of each member. PostgreSQL parses `jsonb` once, and `json` for each value
that is taken out of it."""
ONE_OF = re.compile(r"\bIN TEXTS\(([\w.:]+)\)")
"""Whether a value is one of a JSON array of texts. A join with `TEXTS` would mean the same; but PostgreSQL takes the
array for a hundred texts then, and rather reads a table of some thousand rows whole."""
NAMED_PLACE = re.compile(r"(?<![:\w]):([a-z]\w*)")
QUERY_PLACE = re.compile(r"%s|%%")


class Place:
    """A place in a statement that the value called `name` is bound to when it runs."""

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name = name


Compiled = tuple[str, Sequence[Any] | None]
"""SQL, and what stands in its places: values, and `Place`s; None where the engine binds by name itself."""


@dataclass(frozen=True, eq=False, slots=True)
class Dialect:
    """One engine's SQL.

    Attributes:
        name: of the engine, as it begins a URL.
        database: makes SQL of Peewee's queries; it is never connected.
        tables: what stands for each table of our own; `{0}` is the JSON, `{1}` the table's name.
        one_of: what stands for `IN TEXTS`; `{0}` is the JSON.
        number_places: makes the places of SQL what the engine takes.
    """

    name: str
    database: peewee.Database
    tables: Mapping[str, str]
    one_of: str
    number_places: Callable[[str], Compiled]

    def compile(self, query: peewee.Query) -> tuple[str, Sequence[Any]]:
        """A Peewee query as SQL that can be run, and what stands in its places."""
        if isinstance(query, peewee.Insert):
            query = query.returning()  # Peewee would ask PostgreSQL for keys that nobody wants
        sql, parameters = self.database.get_sql_context().sql(query).query()
        if self.database.param == "?":
            return sql, parameters
        return _dollars(sql), parameters

    def spell_out(self, text: str) -> Compiled:
        """SQL text with tables of our own and `:name` places as SQL that can be run."""
        text = ONE_OF.sub(lambda found: self.one_of.format(found[1]), text)
        return self.number_places(TABLE.sub(lambda found: self.tables[found[1]].format(found[2], found[3]), text))


def _dollars(sql: str) -> str:
    """Peewee's places as PostgreSQL's protocol has them: `%s` as `$1`, `$2` and so on."""
    number = 0

    def place(found: re.Match[str]) -> str:
        nonlocal number
        if found[0] == "%%":
            return "%"
        number += 1
        return f"${number}"

    return QUERY_PLACE.sub(place, sql)


def _numbered(sql: str) -> Compiled:
    """`:name` places as `$1`, the same number for the same name."""
    names: dict[str, int] = {}
    numbered = NAMED_PLACE.sub(lambda found: f"${names.setdefault(found[1], len(names) + 1)}", sql)
    return numbered, [Place(name) for name in names]


SQLITE = Dialect(
    "sqlite",
    peewee.SqliteDatabase(None),
    dict.fromkeys(("TEXTS", "ROWS", "PAIRS"), "json_each({0}) AS {1}"),
    "IN (SELECT value FROM json_each({0}))",
    lambda sql: (sql, None),
)
POSTGRESQL = Dialect(
    "postgresql",
    peewee.PostgresqlDatabase(None, prefer_psycopg3=True),
    {
        "TEXTS": "json_array_elements_text(CAST({0} AS json)) WITH ORDINALITY AS {1} (value, key)",
        "ROWS": "jsonb_array_elements(CAST({0} AS jsonb)) WITH ORDINALITY AS {1} (value, key)",
        "PAIRS": "json_each_text(CAST({0} AS json)) AS {1} (key, value)",
    },
    "= ANY(ARRAY(SELECT json_array_elements_text(CAST({0} AS json))))",
    _numbered,
)
