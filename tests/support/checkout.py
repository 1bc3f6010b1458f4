"""The checkout as the house tests read it: its committed and new files, without ignored ones."""

from __future__ import annotations

import subprocess
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
PYTHON_ROOTS = ("benchmarks", "clients", "docs", "protos", "server", "supply", "tests")


@cache
def files() -> tuple[Path, ...]:
    """Return every file of the project, relative to its root."""
    listing = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT,
        capture_output=True,
        check=True,
        timeout=30,
    )
    names = sorted(set(listing.stdout.decode().split("\0")) - {""})
    return tuple(Path(name) for name in names if (ROOT / name).is_file())


def python_files(*roots: str) -> tuple[Path, ...]:
    """Return the handwritten Python files below `roots`, or in the whole project."""
    return tuple(path for path in files() if path.suffix == ".py" and path.parts[0] in (roots or PYTHON_ROOTS))


@cache
def text(path: Path) -> str:
    """Return the text of a file; empty for a binary file."""
    try:
        return (ROOT / path).read_text()
    except UnicodeDecodeError:
        return ""
