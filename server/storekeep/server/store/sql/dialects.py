"""SQL dialects: compile one statement for each engine.

A statement is written once, with named parameters (`:name`). Constructs that the engines write differently are macros,
such as the table `TEXTS(:skus) AS requested`, which are expanded when the statement is compiled.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import peewee

TABLE = re.compile(r"\b(TEXTS|ROWS|PAIRS)\(([\w.:\"]+)\) AS (\w+)")
"""Matches a table macro, which reads JSON as rows. `TEXTS` reads an array of strings and `ROWS` an array of arrays, as
`key` (the index) and `value`. `PAIRS` reads an object, as `key` and `value` of each member. `ROWS` uses `jsonb`,
because PostgreSQL parses `json` again for each value that is extracted from it."""
ONE_OF = re.compile(r"\bIN TEXTS\(([\w.:]+)\)")
"""Matches a macro that tests whether a value is in a JSON array of strings. A join with `TEXTS` is equivalent, but
PostgreSQL estimates it at a hundred rows and then prefers a sequential scan of a table with some thousand rows."""
MEMBER = re.compile(r"\bMEMBER\(([\w.:\"]+), '(\w+)'\)")
"""Matches a macro for a member of a JSON object, as text; NULL if it is missing or the JSON is no object."""
NAMED_PARAMETER = re.compile(r"(?<![:\w]):([a-z]\w*)")
QUERY_PARAMETER = re.compile(r"%s|%%")


class Parameter:
    """A named parameter of a statement."""

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name = name


Compiled = tuple[str, Sequence[Any] | None]
"""SQL and its arguments, each a fixed value or a `Parameter`; None if the engine binds by name."""


@dataclass(frozen=True, eq=False, slots=True)
class Dialect:
    """The SQL of one engine.

    Attributes:
        name: name of the engine, as in its URL scheme.
        database: compiles Peewee queries; never connected.
        tables: expansion of each table macro; `{0}` is the JSON, `{1}` the alias.
        one_of: expansion of `IN TEXTS`; `{0}` is the JSON.
        member: expansion of `MEMBER`; `{0}` is the JSON, `{1}` the name of the member.
        number_parameters: replaces named parameters with the engine's own.
    """

    name: str
    database: peewee.Database
    tables: Mapping[str, str]
    one_of: str
    member: str
    number_parameters: Callable[[str], Compiled]

    def compile(self, query: peewee.Query) -> tuple[str, Sequence[Any]]:
        """Return a Peewee query as executable SQL, and its arguments."""
        if isinstance(query, peewee.Insert):
            query = query.returning()  # Peewee would ask PostgreSQL for the generated keys
        sql, parameters = self.database.get_sql_context().sql(query).query()
        sql = self._expand_macros(sql)
        if self.database.param == "?":
            return sql, parameters
        return _number_query_parameters(sql), parameters

    def compile_text(self, text: str) -> Compiled:
        """Return SQL text with macros and named parameters as executable SQL, and its arguments."""
        return self.number_parameters(self._expand_macros(text))

    def _expand_macros(self, sql: str) -> str:
        sql = ONE_OF.sub(lambda match: self.one_of.format(match[1]), sql)
        sql = MEMBER.sub(lambda match: self.member.format(match[1], match[2]), sql)
        return TABLE.sub(lambda match: self.tables[match[1]].format(match[2], match[3]), sql)


def _number_query_parameters(sql: str) -> str:
    """Replace Peewee's `%s` with PostgreSQL's `$1`, `$2` and so on."""
    number = 0

    def replace(match: re.Match[str]) -> str:
        nonlocal number
        if match[0] == "%%":
            return "%"
        number += 1
        return f"${number}"

    return QUERY_PARAMETER.sub(replace, sql)


def _number_named_parameters(sql: str) -> Compiled:
    """Replace `:name` with `$1`, `$2` and so on, with one number per name."""
    names: dict[str, int] = {}
    numbered = NAMED_PARAMETER.sub(lambda match: f"${names.setdefault(match[1], len(names) + 1)}", sql)
    return numbered, [Parameter(name) for name in names]


SQLITE = Dialect(
    "sqlite",
    peewee.SqliteDatabase(None),
    dict.fromkeys(("TEXTS", "ROWS", "PAIRS"), "json_each({0}) AS {1}"),
    "IN (SELECT value FROM json_each({0}))",
    "({0} ->> '{1}')",
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
    """((CAST({0} AS json) ->> '{1}') COLLATE "C")""",
    _number_named_parameters,
)
