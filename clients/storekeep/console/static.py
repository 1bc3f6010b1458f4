"""The console's own style sheet and script. Their paths contain a hash of the content: browsers keep them for good."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from importlib.resources import files

KINDS = {"console.css": b"text/css; charset=utf-8", "console.js": b"text/javascript; charset=utf-8"}
ICON = (
    b'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 32 32"><rect width="32" height="32" rx="8" fill="#0f766e"/>'
    b'<path d="M9 12h14v12H9z" fill="none" stroke="#fff" stroke-width="2.5"/>'
    b'<path d="M12 12V9a4 4 0 0 1 8 0v3" fill="none" stroke="#fff" stroke-width="2.5"/></svg>'
)


@lru_cache(maxsize=1)
def read_static() -> dict[str, tuple[bytes, bytes]]:
    """Return content type and content of each file by its path."""
    folder = files(__package__ or "storekeep.console") / "static"
    found = {get_path(name): (kind, (folder / name).read_bytes()) for name, kind in KINDS.items()}
    return {**found, "/static/icon.svg": (b"image/svg+xml", ICON)}


@lru_cache(maxsize=8)
def get_path(name: str) -> str:
    """Return the path of a file."""
    content = (files(__package__ or "storekeep.console") / "static" / name).read_bytes()
    stem, _, ending = name.partition(".")
    return f"/static/{stem}-{hashlib.sha256(content).hexdigest()[:12]}.{ending}"
