"""Passwords and links have the permissions that they give at most. Those of before give what their users have now."""

from __future__ import annotations

import json
from typing import Any


def up(_migrator: Any, database: Any) -> None:
    """Add the columns. Administrators get all permissions, also those of later releases."""
    text = "TEXT" if database.param == "?" else 'TEXT COLLATE "C"'
    roles = {role_id: json.loads(names) for role_id, names in _read(database, "SELECT id, permissions FROM roles")}
    for table in ("user_secrets", "password_links"):
        database.execute_sql(f"""ALTER TABLE "{table}" ADD COLUMN "permissions" {text} NOT NULL DEFAULT '[]'""")
        users = f'SELECT id, roles FROM users WHERE id IN (SELECT user_id FROM "{table}")'  # noqa: S608 - fixed names
        update = f'UPDATE "{table}" SET "permissions" = {database.param} WHERE "user_id" = {database.param}'  # noqa: S608 - fixed names
        for user_id, role_ids in _read(database, users):
            limit = _find_limit(json.loads(role_ids), roles)
            database.execute_sql(update, (json.dumps(limit, separators=(",", ":")), user_id))


def _find_limit(role_ids: list[str], roles: dict[str, list[str]]) -> list[str]:
    if "admin" in role_ids:
        return ["*"]
    return sorted({name for role_id in role_ids for name in roles.get(role_id, ())})


def _read(database: Any, query: str) -> list[Any]:
    return list(database.execute_sql(query).fetchall())
