"""Reference page of the database tables, and the diagram in the technical design.

Both are generated from the models and their docstrings.
"""

from __future__ import annotations

import importlib
import pkgutil

import peewee

from docs.pages.markdown import code, head, table
from storekeep.server.store import tables
from storekeep.server.store.sql.transactions import Deletable, Table, Versioned, list_tables

TYPES = {
    "BIGAUTO": "INTEGER",
    "BIGINT": "INTEGER",
    "SMALLINT": "INTEGER",
    "BOOL": "INTEGER",
    "INT": "INTEGER",
    "CHAR": "TEXT",
}
"""SQLite's types for the types that Peewee declares. Types that are not listed are the same in SQLite."""
SOURCE = "the models in `server/storekeep/server/store/tables`"
INTRODUCTION = """The types are those of SQLite. [Section 2](../technical-design.md#2-database-design) of the technical
design describes the differences in PostgreSQL.
"""
COLUMNS = ("column", "type", "may be NULL", "key")
INDEXES = ("index on", "purpose")


def list_models() -> list[type[Table]]:
    """Return all tables, grouped by module."""
    for module in pkgutil.iter_modules(tables.__path__):
        importlib.import_module(f"{tables.__name__}.{module.name}")
    return sorted(list_tables(), key=lambda model: (model.__module__, model._meta.table_name))


def list_fields(model: type[Table]) -> list[peewee.Field]:
    """Return the columns of a table in the order of its class, with the columns shared by all resources last."""
    shared = Deletable._meta.fields.keys() - {"id"} if issubclass(model, Versioned) else ()
    return sorted(model._meta.sorted_fields, key=lambda field: field.name in shared)


def build_page() -> str:
    """Return the page of all tables."""
    return "\n".join([head("Tables", source=SOURCE), INTRODUCTION, *(describe(model) for model in list_models())])


def build_section() -> str:
    """Return the tables and their references, as Mermaid's `erDiagram`."""
    lines = ["```mermaid", "erDiagram"]
    for model in list_models():
        for field in model._meta.refs:
            lines.append(f"  {field.rel_model._meta.table_name} ||--o{{ {model._meta.table_name} : {field.column_name}")
    return "\n".join([*lines, "```", ""])


def describe(model: type[Table]) -> str:
    """Return the section of one table: description, columns, indexes and checks."""
    meta = model._meta
    parts = [f"## {meta.table_name}\n", f"{' '.join((model.__doc__ or '').split())}\n"]
    parts.append(table(COLUMNS, [build_row(field) for field in list_fields(model)]))
    if rows := list_index_rows(model):
        parts.append(table(INDEXES, rows))
    constraints = [*(meta.constraints or ()), *(own for f in meta.sorted_fields for own in f.constraints or ())]
    checks = [constraint.sql for constraint in constraints if not constraint.sql.startswith("DEFAULT")]
    if checks:
        parts.append("Enforced by the database: " + "; ".join(code(check) for check in checks) + ".\n")
    return "\n".join(parts)


def build_row(field: peewee.Field) -> tuple[str, str, str, str]:
    """Return the table row of one column."""
    key = "primary" if is_key(field) else ""
    if isinstance(field, peewee.ForeignKeyField):
        target = f"{field.rel_model._meta.table_name}.{field.rel_field.column_name}"
        key = f"{key + ', ' if key else ''}references {code(target)}"
    return code(field.column_name), get_type(field), "yes" if field.null else "", key


def get_type(field: peewee.Field) -> str:
    """Return the column's type in SQLite."""
    source = field.rel_field if isinstance(field, peewee.ForeignKeyField) else field
    return TYPES.get(source.field_type, source.field_type)


def is_key(field: peewee.Field) -> bool:
    """Whether the column is the primary key, or part of it. The expression of an index is not."""
    return isinstance(field, peewee.Field) and any(field is key for key in field.model._meta.get_primary_keys())


def list_index_rows(model: type[Table]) -> list[tuple[str, str]]:
    """Return the columns and the purpose of each index except the primary key."""
    rows = []
    for index in model._meta.fields_to_index():
        fields = list(index._expressions)
        if len(fields) > 1 or not is_key(fields[0]):
            columns = ", ".join(code(get_column_name(field)) for field in fields)
            rows.append((columns, describe_index(fields, unique=index._unique)))
    return rows


def get_column_name(field: peewee.Field | peewee.SQL) -> str:
    """Return the name of an indexed column, or the indexed expression."""
    name: str = field.sql if isinstance(field, peewee.SQL) else field.column_name
    return name


def describe_index(fields: list[peewee.Field | peewee.SQL], *, unique: bool) -> str:
    """Return the purpose of an index. The last column of an index for pages breaks ties."""
    names = [get_column_name(field) for field in fields]
    if isinstance(fields[0], peewee.SQL) and len(fields) > 1:
        return f"look-up by {' and '.join(names[1:])}, within each {names[0]}"
    if unique:
        return f"uniqueness; look-up by {' and '.join(names)}"
    if len(names) == 1:
        return f"look-up by {names[0]}"
    if len(names) == 2:
        return f"pages sorted by {names[0]}; look-up by {names[0]}"
    return f"pages of one {names[0]}, sorted by {names[1]}"
