"""Changes of accounts, keys and roles happen in few modules, and each checks the caller's own permissions."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from tests.support.checkout import python_files, text

CHANGE_ACCESS = {
    "accounts.py",
    "api_keys.py",
    "identities.py",
    "password_links.py",
    "roles.py",
    "sign_ins.py",
    "signing_keys.py",
    "user_sessions.py",
    "users.py",
}
"""The domain modules that write the tables of access for a caller's mutation."""
WRITE_BY_THEMSELVES = {
    "user_secrets.py",
    "permissions.py",
    "personal_data.py",
    "bootstrap.py",
    "server_secrets.py",
    "sessions.py",
    "tokens.py",
}
"""The domain modules that write them for the server itself, or for the holder of a key or token."""
CHANGE_THROUGH_OTHERS = {"user_updates.py"}
"""The domain modules that change access for a caller through a module that writes the tables."""
READ_ONLY = {"audited_rows.py", "audited_sessions.py", "user_secrets.py"}
"""The domain modules that only compare them with the audit log."""
COLLECTIONS = ("SERVICE_ACCOUNTS", "API_KEYS", "ROLES", "USERS")
STEPS = ("create", "update", "archive", "unarchive", "delete", "undelete")
"""The methods of a `Collection` that are complete mutations."""


def domain() -> list[Path]:
    return [path for path in python_files("server") if "domain" in path.parts]


def calls(path: Path) -> Iterator[ast.Call]:
    return (node for node in ast.walk(ast.parse(text(path))) if isinstance(node, ast.Call))


def is_mutation(call: ast.Call, *, everywhere: bool) -> bool:
    """Whether a call runs a mutation of accounts, keys or roles; `mutate` counts only if `everywhere` is set."""
    name = ast.unparse(call.func)
    return (everywhere and name == "mutate") or name in {f"{one}.{step}" for one in COLLECTIONS for step in STEPS}


def test_tables_of_access_are_written_by_few_modules() -> None:
    tables = re.compile(r"from storekeep\.server\.store\.tables import (access|users)\b")
    using = {path.name for path in domain() if tables.search(text(path))}
    assert using == CHANGE_ACCESS | WRITE_BY_THEMSELVES | READ_ONLY


def test_every_mutation_of_who_may_call_has_a_check_of_access() -> None:
    found, unchecked = 0, []
    for path in python_files("server"):
        changes_access = path.parent.name == "access" and path.name in CHANGE_ACCESS | CHANGE_THROUGH_OTHERS
        for call in calls(path):
            if is_mutation(call, everywhere=changes_access):
                found += 1
                if not any(keyword.arg == "check_access" for keyword in call.keywords):
                    unchecked.append(f"{path}:{call.lineno}: {ast.unparse(call.func)}")
    assert unchecked == []
    assert found >= 10
