"""The lock files contain every package of pyproject.toml with hashes, and no address of a package index."""

from __future__ import annotations

import re
import tomllib

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.support.checkout import ROOT

INDEX_ADDRESS = re.compile(r"https?://|file:/|--(?:extra-)?index-url|--find-links|-i ")
LOCK = (ROOT / "requirements.lock").read_text()
RUN_LOCK = (ROOT / "requirements-run.lock").read_text()
ENTRY = re.compile(r"^([a-z0-9-]+)==([^ ]+)((?:.*\\\n)+.*)", re.MULTILINE)


def requirements() -> list[Requirement]:
    """Return the requirements of pyproject.toml with all extras."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    groups = [project["build-system"]["requires"], project["project"]["dependencies"]]
    groups += project["project"]["optional-dependencies"].values()
    return [Requirement(text) for group in groups for text in group]


def test_lock_names_no_address() -> None:
    assert not INDEX_ADDRESS.search(LOCK + RUN_LOCK)


@pytest.mark.parametrize("lock", [LOCK, RUN_LOCK], ids=["all", "run"])
def test_lock_has_hashes_for_every_package(lock: str) -> None:
    packages = re.findall(r"^[a-z0-9-]+==", lock, re.MULTILINE)
    hashed = [found for found in ENTRY.finditer(lock) if "--hash=sha256:" in found[3]]
    assert len(packages) == len(hashed) > 30


def hashes(lock: str) -> set[tuple[str, ...]]:
    """Return (name, version, hashes) of each package."""
    return {(found[1], found[2], *re.findall(r"sha256:\w+", found[3])) for found in ENTRY.finditer(lock)}


def test_run_lock_is_part_of_the_lock() -> None:
    assert hashes(RUN_LOCK) < hashes(LOCK)


def test_lock_has_what_the_project_asks_for() -> None:
    locked = {found[1]: found[2] for found in ENTRY.finditer(LOCK)}
    missing = [
        str(requirement)
        for requirement in requirements()
        if not requirement.specifier.contains(locked.get(canonicalize_name(requirement.name), "0"))
    ]
    assert not missing, "run `make lock`"
