"""The database as the technical design shows it: a diagram of the tables, and each with its columns and indexes.

All of it is read from the models, and what people wrote about them stands in the models' docstrings.
"""

from __future__ import annotations

import importlib
import pkgutil

import peewee

from docs.pages.markdown import code, table
from storekeep.server import store
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
COLUMNS = ("column", "type", "may be NULL", "key")
INDEXES = ("index over", "why")


def models() -> list[type[Table]]:
    """All tables, those of a subject together."""
    for module in pkgutil.iter_modules(store.__path__):
        if module.name != "migrations":
            importlib.import_module(f"{store.__name__}.{module.name}")
    return sorted(all_tables(), key=lambda model: (model.__module__, model._meta.table_name))


def fields_of(model: type[Table]) -> list[peewee.Field]:
    """The columns of a table in the order of its class; those that resources share come last."""
    shared = Deletable._meta.fields.keys() - {"id"} if issubclass(model, Versioned) else ()
    return sorted(model._meta.sorted_fields, key=lambda field: field.name in shared)


def section() -> str:
    """The diagram, and every table."""
    return "\n".join([diagram(), *(describe(model) for model in models())])


def diagram() -> str:
    """The tables and what refers to what, as Mermaid's `erDiagram`."""
    lines = ["```mermaid", "erDiagram"]
    for model in models():
        columns = [f"    {type_of(f)} {f.column_name} {marks(f)}".rstrip() for f in fields_of(model)]
        lines += [f"  {model._meta.table_name} {{", *columns, "  }"]
    for model in models():
        for field in model._meta.refs:
            lines.append(f"  {field.rel_model._meta.table_name} ||--o{{ {model._meta.table_name} : {field.column_name}")
    return "\n".join([*lines, "```", ""])


def marks(field: peewee.Field) -> str:
    """`PK`, `FK`, both or neither."""
    return ", ".join(mark for mark, holds in (("PK", is_key(field)), ("FK", is_reference(field))) if holds)


def describe(model: type[Table]) -> str:
    """One table: what a row is, its columns, its indexes and its checks."""
    meta = model._meta
    parts = [f"#### {meta.table_name}\n", f"{' '.join((model.__doc__ or '').split())}\n"]
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


def is_reference(field: peewee.Field) -> bool:
    """Whether the column refers to another table."""
    return isinstance(field, peewee.ForeignKeyField)


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
