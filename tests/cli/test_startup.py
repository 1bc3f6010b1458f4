"""A command imports only what it needs: most of the time of a short command is spent on imports."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from storekeep.cli.groups import SOURCES
from tests.support.processes import ServerProcess

LISTING = """
import sys
from storekeep.cli.__main__ import main
sys.argv = ["storekeep", *sys.argv[1:]]
try:
    main()
finally:
    imported = [name for name, module in sys.modules.items() if type(module).__name__ != "PostponedModule"]
    sys.stderr.write("\\n" + "\\n".join(imported))
"""
HEAVY = {
    "asyncio.base_events",
    "google.protobuf.text_format",
    "grpc.aio._call",
    "pydantic",
    "pycountry",
    "pygments",
    "rich.markdown",
    "rich.progress",
    "rich.traceback",
    "sqlite3",
    "ssl",
    "storekeep.cli.imports",
    "storekeep.imports.rows",
}
"""Modules that no short command needs."""
MODULES_MAX = 330
"""Maximum number of modules before a call. With 310 of them, `orders list` takes 0.17 s of CPU (2026-11-30)."""
MODULES_OF_IMPORTS_MAX = 420
"""Maximum number of modules before an import."""
REMOTE = {"google.protobuf", "grpc", "rich", "storekeep.client", "uuid_utils"}
"""Modules that a command needs only if it loads its group, or calls the server."""
OTHER_SERVICES = {"storekeep.v1.products_pb2", "storekeep.v1.inventory_pb2", "storekeep.v1.audit_pb2"}


def list_modules(arguments: list[str], environment: dict[str, str]) -> set[str]:
    """Return the modules that a run imports, without those that it only postpones."""
    run = subprocess.run(
        [sys.executable, "-c", LISTING, *arguments],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=600,
    )
    return set(run.stderr.splitlines())


@pytest.mark.parametrize(
    ("arguments", "forbidden"),
    [
        (["--version"], HEAVY | REMOTE),
        (["--help"], HEAVY | REMOTE),
        (["ordrs"], HEAVY | REMOTE - {"storekeep.client"}),
        (["orders", "lst"], HEAVY | {"rich"}),
        (["orders", "list"], HEAVY | OTHER_SERVICES),
        (["orders", "list", "--json"], HEAVY | OTHER_SERVICES | {"rich"}),
    ],
)
def test_command_does_not_import_what_it_does_not_need(
    arguments: list[str], forbidden: set[str], server: ServerProcess, tmp_path: Path
) -> None:
    access = {"STOREKEEP_ADDRESS": server.address, "STOREKEEP_API_KEY": server.admin_key}
    modules = list_modules(arguments, access | {"XDG_CONFIG_HOME": str(tmp_path)})
    assert "storekeep.cli.app" in modules
    assert modules & forbidden == set()


@pytest.mark.parametrize("name", SOURCES)
def test_help_of_each_group_imports_few_modules(name: str) -> None:
    modules = list_modules([name, "--help"], {})
    importing = {"storekeep.cli.imports", "storekeep.imports.rows"} if name == "import" else set()
    assert modules & (HEAVY | {"rich"}) <= importing
    assert len(modules) < (MODULES_OF_IMPORTS_MAX if importing else MODULES_MAX)


def test_first_call_is_made_with_few_modules(tmp_path: Path) -> None:
    """The modules of a command up to its call, which nobody answers here."""
    nobody = {"STOREKEEP_ADDRESS": f"unix:{tmp_path}/nobody", "STOREKEEP_API_KEY": "sk_none"}
    modules = list_modules(["orders", "list", "--timeout", "0.01"], nobody)
    assert "storekeep.client.orders" in modules
    assert modules & (HEAVY | OTHER_SERVICES | {"rich"}) == set()
    assert len(modules) < MODULES_MAX


@pytest.mark.parametrize(
    ("line", "offered", "forbidden"),
    [
        ("storekeep or", "orders", HEAVY | REMOTE),
        ("storekeep orders li", "list", HEAVY | OTHER_SERVICES),
        ("storekeep orders list --si", "--since", HEAVY | OTHER_SERVICES),
        ("storekeep orders list --output cs", "csv", HEAVY | OTHER_SERVICES),
    ],
)
def test_completion_offers_words_without_heavy_imports(line: str, offered: str, forbidden: set[str]) -> None:
    completion = {"_STOREKEEP_COMPLETE": "complete_bash", "COMP_WORDS": line, "COMP_CWORD": str(line.count(" "))}
    run = subprocess.run(
        [sys.executable, "-c", LISTING], env={**os.environ, **completion}, capture_output=True, text=True, timeout=600
    )
    assert run.stdout.split() == [offered]
    assert set(run.stderr.splitlines()) & forbidden == set()


USE = """
from storekeep.cli.postponed_modules import postpone_modules
postpone_modules()
postpone_modules()
import grpc, sqlite3, sys
print(sorted(name for name in ("asyncio.base_events", "grpc.aio._call", "_sqlite3") if name in sys.modules))
import asyncio
from grpc import aio
async def call():
    async with aio.insecure_channel("127.0.0.1:1") as channel:
        return channel.get_state()
print(asyncio.run(call()).name, sqlite3.connect(":memory:").execute("SELECT 1").fetchone())
print(hasattr(asyncio, "bogus"), "asyncio.base_events" in sys.modules)
"""


COUNTRIES = """
from storekeep.cli.postponed_modules import POSTPONED, postpone_modules
postpone_modules()
import importlib, sys
print([bool(importlib.import_module(name).__doc__ or dir(sys.modules[name])) for name in POSTPONED].count(False))
from storekeep.cli.addresses import parse_country
print(parse_country("Germany", option="--country"), sys.modules["pycountry"].LOCALES_DIR != "")
"""


def test_postponed_package_reads_its_files() -> None:
    run = subprocess.run([sys.executable, "-c", COUNTRIES], capture_output=True, text=True, timeout=600)
    assert run.stdout.splitlines() == ["0", "DE True"], run.stderr


def test_postponed_module_is_executed_when_it_is_used() -> None:
    run = subprocess.run([sys.executable, "-c", USE], capture_output=True, text=True, timeout=600)
    assert run.stdout.splitlines() == ["[]", "IDLE (1,)", "False True"], run.stderr
