"""Reference page of the permissions and the RPCs that require them."""

from __future__ import annotations

from contract import Method, read_contract

from docs.pages.markdown import code, head, table

CONTRACT = read_contract()
INTRODUCTION = """
Every RPC requires the permission below. Two values are classes of callers instead: `public` means anyone, and
`authenticated` means any caller with a valid token. A role is a set of permissions. A caller has the permissions of all
its roles, limited by the scopes of its API key.
"""


def link_method(method: Method) -> str:
    """Return the method as a link to its section."""
    noun = next(service.noun for service in CONTRACT.services if service.name == method.service)
    return f"[`{method.name}`](api/{noun}.md#{method.name.lower()})"


def build_page() -> str:
    """Return the page."""
    permissions = sorted({method.permission for method in CONTRACT.methods})
    rows = [
        (code(name), ", ".join(link_method(method) for method in CONTRACT.methods if method.permission == name))
        for name in permissions
    ]
    rows.append((code("customers.personal.read"), "the [personal data](personal-data.md) in the replies of all RPCs"))
    rows.sort()
    head_text = head("Permissions", source="the contract's `permission` options")
    return f"{head_text}{INTRODUCTION}\n{table(('Permission', 'RPCs'), rows)}"
