"""The page of permissions: which RPC asks for which."""

from __future__ import annotations

from contract import Method, read_contract

from docs.pages.markdown import code, head, table

CONTRACT = read_contract()
INTRODUCTION = """
Every RPC states the permission that it asks for; without one it is refused to everybody. Two values are not
permissions but classes of callers: `public` is anyone, `authenticated` is anyone with a valid token. A role is a set of
permissions, and a caller has those of all its roles, limited to the scopes of its API key where the key has any.
"""


def linked(method: Method) -> str:
    """The method, linked to its page."""
    noun = next(service.noun for service in CONTRACT.services if service.name == method.service)
    return f"[`{method.name}`](api/{noun}.md#{method.name.lower()})"


def page() -> str:
    """The whole page."""
    permissions = sorted({method.permission for method in CONTRACT.methods})
    rows = [
        (code(name), ", ".join(linked(method) for method in CONTRACT.methods if method.permission == name))
        for name in permissions
    ]
    head_text = head("Permissions", source="the contract's `permission` options")
    return f"{head_text}{INTRODUCTION}\n{table(('Permission', 'RPCs'), rows)}"
