"""Modules that are executed when one of their names is first used, instead of when they are imported.

A library imports them for a part of it that few commands use. Any code can use them as if they were imported normally.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any

POSTPONED = {
    "asyncio": "grpc imports it for grpc.aio",
    "grpc.aio": "the client library makes no asynchronous calls",
    "google.protobuf.internal.python_message": "messages are implemented in C",
    "sqlite3": "only an import of orders stores its rows",
    "pycountry": "only names of countries need its data",
    "shellingham": "typer detects the shell with it to install the completion",
}
"""Name of each module -> why a command does not need it. Together they take 50 of the 190 ms before a call."""


class PostponedModule(ModuleType):
    """A module that has been found, but not executed."""

    def __getattr__(self, name: str) -> Any:
        """Execute the module, and return one of its names.

        Raises: AttributeError, and what the module raises.
        """
        loader: Any = self.__spec__.loader if self.__spec__ else None
        if isinstance(loader, PostponingLoader):
            loader.execute(self)
        return super().__getattribute__(name)


class PostponingLoader(Loader):
    """Creates a `PostponedModule`, and executes it on demand, once."""

    def __init__(self, loader: Loader) -> None:
        self._loader = loader
        self._lock = threading.RLock()
        self._is_due = False

    def __getattr__(self, name: str) -> Any:
        """Return what else the loader can do, such as read the files of the package. Raises: AttributeError."""
        return getattr(self._loader, name)

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        """Return the module. The import system sets its attributes, such as `__path__`."""
        return PostponedModule(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        """Execute the module from now on if it is used. Before, the import system only looks for its attributes."""
        self._is_due = True

    def execute(self, module: ModuleType) -> None:
        """Execute a module, unless it is not imported yet, or was executed before, or is just executing itself."""
        with self._lock:
            if self._is_due:
                self._is_due = False
                self._loader.exec_module(module)


class PostponingFinder(MetaPathFinder):
    """Finds the modules of `POSTPONED`, and no others."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return the spec of a postponed module; None for any other, which the import system then finds."""
        spec = PathFinder.find_spec(fullname, path, target) if fullname in POSTPONED else None
        if spec is not None and spec.loader is not None:
            spec.loader = PostponingLoader(spec.loader)
        return spec


def postpone_modules() -> None:
    """Postpone the modules of `POSTPONED` that are not imported yet."""
    if not any(isinstance(finder, PostponingFinder) for finder in sys.meta_path):
        sys.meta_path.insert(0, PostponingFinder())
