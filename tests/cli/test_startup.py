"""A command imports only what it needs: most of the time of a short command is spent on imports."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.processes import ServerProcess

LISTING = """
import sys
from storekeep.cli.__main__ import main
sys.argv = ["storekeep", *sys.argv[1:]]
try:
    main()
finally:
    sys.stderr.write("\\n".join(sys.modules))
"""
HEAVY = {"pydantic", "pycountry", "pygments", "rich.markdown", "rich.progress", "sqlite3", "storekeep.cli.imports"}
"""Modules that no short command needs."""
REMOTE = {"asyncio", "google.protobuf", "grpc", "rich", "storekeep.client", "uuid_utils"}
"""Modules that a command needs only if it calls the server."""
OTHER_SERVICES = {"storekeep.v1.products_pb2", "storekeep.v1.inventory_pb2", "storekeep.v1.audit_pb2"}


@pytest.mark.parametrize(
    ("arguments", "forbidden"),
    [
        (["--version"], HEAVY | REMOTE),
        (["orders", "lst"], HEAVY),
        (["orders", "list"], HEAVY | OTHER_SERVICES),
        (["orders", "list", "--json"], HEAVY | OTHER_SERVICES | {"rich"}),
    ],
)
def test_command_does_not_import_what_it_does_not_need(
    arguments: list[str], forbidden: set[str], server: ServerProcess, tmp_path: Path
) -> None:
    access = {"STOREKEEP_ADDRESS": server.address, "STOREKEEP_API_KEY": server.admin_key}
    run = subprocess.run(
        [sys.executable, "-c", LISTING, *arguments],
        env={**os.environ, **access, "XDG_CONFIG_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    modules = set(run.stderr.splitlines())
    assert "storekeep.cli.app" in modules
    assert modules & forbidden == set()


@pytest.mark.parametrize(
    ("line", "offered", "forbidden"),
    [
        ("storekeep o", "orders", HEAVY | REMOTE),
        ("storekeep orders li", "list", HEAVY | OTHER_SERVICES),
        ("storekeep orders list --si", "--since", HEAVY | OTHER_SERVICES),
        ("storekeep orders list --output cs", "csv", HEAVY | OTHER_SERVICES),
    ],
)
def test_completion_offers_words_without_heavy_imports(line: str, offered: str, forbidden: set[str]) -> None:
    completion = {"_STOREKEEP_COMPLETE": "complete_bash", "COMP_WORDS": line, "COMP_CWORD": str(line.count(" "))}
    run = subprocess.run(
        [sys.executable, "-c", LISTING], env={**os.environ, **completion}, capture_output=True, text=True, timeout=60
    )
    assert run.stdout.split() == [offered]
    assert set(run.stderr.splitlines()) & forbidden == set()
