"""The typed client of Storekeep: `with Storekeep() as client: client.orders.place(...)`.

`__all__` is the public interface, and a test guards it; anything else may change without notice. The message types
are those of the contract, `storekeep.v1`. A name is imported when it is first used, so that a program loads only the
services that it calls. `__init__.pyi` says where each name is defined.
"""

from __future__ import annotations

import ast
from importlib import import_module
from pkgutil import get_data

_STUB = "__init__.pyi"


def _read_homes() -> dict[str, str]:
    """Return the module that defines each public name."""
    tree = ast.parse(get_data(__name__, _STUB) or b"")
    imports = (node for node in tree.body if isinstance(node, ast.ImportFrom))
    return {alias.name: str(node.module) for node in imports for alias in node.names}


_HOMES = _read_homes()
__all__ = sorted(_HOMES)


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value: object = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
