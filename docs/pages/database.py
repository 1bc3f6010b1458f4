"""The database: a page of all tables with their columns and indexes, and the diagram of the technical design.

All of it is read from the models; what people wrote about them stands in the models' docstrings.
"""

from __future__ import annotations

import importlib
import pkgutil

import peewee

from docs.pages.markdown import code, head, table
from storekeep.server.store import tables
from storekeep.server.store.sql.transactions import Deletable, Table, Versioned, all_tables

TYPES = {
    "BIGAUTO": "INTEGER",
    "BIGINT": "INTEGER",
    "SMALLINT": "INTEGER",
    "BOOL": "INTEGER",
    "INT": "INTEGER",
    "CHAR": "TEXT",
}
"""What SQLite makes of the types that Peewee declares; the others it takes as they are."""
SOURCE = "the models in `server/storekeep/server/store/tables`"
INTRODUCTION = """The types are SQLite's; [section 2](../technical-design.md#2-database-design) of the technical design
says what PostgreSQL has instead.
"""
COLUMNS = ("column", "type", "may be NULL", "key")
INDEXES = ("index over", "why")


def models() -> list[type[Table]]:
    """Return all tables, those of a subject together."""
    for module in pkgutil.iter_modules(tables.__path__):
        importlib.import_module(f"{tables.__name__}.{module.name}")
    return sorted(all_tables(), key=lambda model: (model.__module__, model._meta.table_name))


def fields_of(model: type[Table]) -> list[peewee.Field]:
    """Return the columns of a table in the order of its class; those that resources share come last."""
    shared = Deletable._meta.fields.keys() - {"id"} if issubclass(model, Versioned) else ()
    return sorted(model._meta.sorted_fields, key=lambda field: field.name in shared)


def page() -> str:
    """Return the page of all tables."""
    return "\n".join([head("Tables", source=SOURCE), INTRODUCTION, *(describe(model) for model in models())])


def section() -> str:
    """Return the tables and their references, as Mermaid's `erDiagram`."""
    lines = ["```mermaid", "erDiagram"]
    for model in models():
        for field in model._meta.refs:
            lines.append(f"  {field.rel_model._meta.table_name} ||--o{{ {model._meta.table_name} : {field.column_name}")
    return "\n".join([*lines, "```", ""])


def describe(model: type[Table]) -> str:
    """One table: what a row is, its columns, its indexes and its checks."""
    meta = model._meta
    parts = [f"## {meta.table_name}\n", f"{' '.join((model.__doc__ or '').split())}\n"]
    parts.append(table(COLUMNS, [row_of(field) for field in fields_of(model)]))
    if rows := index_rows(model):
        parts.append(table(INDEXES, rows))
    constraints = [*(meta.constraints or ()), *(own for f in meta.sorted_fields for own in f.constraints or ())]
    checks = [constraint.sql for constraint in constraints if not constraint.sql.startswith("DEFAULT")]
    if checks:
        parts.append("Held by the database: " + "; ".join(code(check) for check in checks) + ".\n")
    return "\n".join(parts)


def row_of(field: peewee.Field) -> tuple[str, str, str, str]:
    """One column."""
    key = "primary" if is_key(field) else ""
    if isinstance(field, peewee.ForeignKeyField):
        target = f"{field.rel_model._meta.table_name}.{field.rel_field.column_name}"
        key = f"{key + ', ' if key else ''}of {code(target)}"
    return code(field.column_name), type_of(field), "yes" if field.null else "", key


def type_of(field: peewee.Field) -> str:
    """The column's type in SQLite."""
    source = field.rel_field if isinstance(field, peewee.ForeignKeyField) else field
    return TYPES.get(source.field_type, source.field_type)


def is_key(field: peewee.Field) -> bool:
    """Whether the column is the primary key, or part of it."""
    return any(field is key for key in field.model._meta.get_primary_keys())


def index_rows(model: type[Table]) -> list[tuple[str, str]]:
    """Each index beside the primary key, and what it is for."""
    rows = []
    for index in model._meta.fields_to_index():
        fields = list(index._expressions)
        if len(fields) > 1 or not is_key(fields[0]):
            rows.append((", ".join(code(told(field)) for field in fields), reason_of(fields, unique=index._unique)))
    return rows


def told(field: peewee.Field | peewee.SQL) -> str:
    """A column of an index, or what it has in place of one."""
    name: str = field.sql if isinstance(field, peewee.SQL) else field.column_name
    return name


def reason_of(fields: list[peewee.Field | peewee.SQL], *, unique: bool) -> str:
    """What an index over these columns serves: the last column of one for pages breaks ties."""
    names = [told(field) for field in fields]
    if isinstance(fields[0], peewee.SQL):
        return f"look-up by {' and '.join(names[1:])}, in each {names[0]}"
    if unique:
        return f"at most one row for each; look-up by {' and '.join(names)}"
    if len(names) == 1:
        return f"look-up by {names[0]}"
    if len(names) == 2:
        return f"pages in the order of {names[0]}; look-up by {names[0]}"
    return f"pages of one {names[0]}, in the order of {names[1]}"
