"""The packages of the locks: which of them are shipped, and under which licence each one is.

Shipped is what the server, its PostgreSQL driver and the command line import, with all that those need on Linux. The
rest builds, tests and measures. A package whose licence cannot be told, or one that may not be shipped, is an error.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Mapping
from functools import cache
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
LOCK = ROOT / "requirements.lock"
SHIPPED_EXTRAS = ("server", "postgres", "cli")

PERMISSIVE = frozenset(
    {"0BSD", "Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "ISC", "MIT", "MIT-0", "MPL-2.0", "PSF-2.0", "Zlib"}
)
"""What may be shipped without a further word. MPL-2.0 binds only its own files, which are not changed here."""

LESSER = {
    "psycopg": "LGPL-3.0-only",
    "psycopg-binary": "LGPL-3.0-only",
    "pycountry": "LGPL-2.1-only",
}
"""The packages under the LGPL that are shipped. Each is installed from its own unchanged wheel and imported from there,
so that anybody can put another version in its place, as the LGPL asks of a program that uses a library. Others are
refused, so that the next one is a decision again."""

READ_BY_PEOPLE = {
    "apsw": "Zlib",  # "any-OSI": its licence file is zlib's, and allows any other that the OSI has approved
    "grimp": "BSD-2-Clause",
    "import-linter": "BSD-2-Clause",
    "peewee": "MIT",
    "pysqlite3": "Zlib",
    "python-dateutil": "Apache-2.0 OR BSD-3-Clause",
    "uvloop": "Apache-2.0 OR MIT",
}
"""The licences of packages whose metadata do not say which one exactly; from the licence file in each."""

SPELLINGS = {
    "3-Clause BSD License": "BSD-3-Clause",
    "Apache 2.0": "Apache-2.0",
    "Apache License 2.0": "Apache-2.0",
    "ISC License": "ISC",
    "MIT License": "MIT",
    "MIT license": "MIT",
}
"""How the free text `License` of a package's metadata spells an SPDX id."""

CLASSIFIERS = {
    "License :: OSI Approved :: Apache Software License": "Apache-2.0",
    "License :: OSI Approved :: ISC License (ISCL)": "ISC",
    "License :: OSI Approved :: MIT License": "MIT",
    "License :: OSI Approved :: Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
    "License :: OSI Approved :: Python Software Foundation License": "PSF-2.0",
}
"""Classifiers that mean one licence. "BSD License" does not: it has two and three clauses."""


def read_project() -> dict[str, list[str]]:
    """Return the requirements of `pyproject.toml` by extra; those without an extra under the empty name."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras: dict[str, list[str]] = project["optional-dependencies"]
    return {"": project["dependencies"], **extras}


def find(name: str) -> Distribution | None:
    """Return the installed package; None for one that only other systems have."""
    try:
        return distribution(name)
    except PackageNotFoundError:
        return None


def list_locked(lock: Path = LOCK) -> list[str]:
    """Return the canonical names of the packages in a lock that this system has."""
    names = re.findall(r"^([a-z0-9-]+)==", lock.read_text(), re.MULTILINE)
    return sorted(name for name in names if find(name))


def list_needs(package: Distribution, *, extras: Iterable[str]) -> list[Requirement]:
    """Return what a package requires with these extras, whichever Python runs this."""
    requirements = [Requirement(text) for text in package.requires or []]
    environments = [{"extra": extra, "python_version": "3.11"} for extra in ("", *extras)]
    return [
        requirement
        for requirement in requirements
        if requirement.marker is None or any(map(requirement.marker.evaluate, environments))
    ]


@cache
def list_shipped() -> tuple[str, ...]:
    """Return the canonical names of all packages that are shipped."""
    project = read_project()
    waiting = [Requirement(text) for extra in ("", *SHIPPED_EXTRAS) for text in project[extra]]
    seen: set[tuple[str, frozenset[str]]] = set()
    while waiting:
        requirement = waiting.pop()
        key = (canonicalize_name(requirement.name), frozenset(requirement.extras))
        if key not in seen and (package := find(requirement.name)):
            seen.add(key)
            waiting += list_needs(package, extras=requirement.extras)
    return tuple(sorted({name for name, _ in seen}))


def list_for_work() -> list[str]:
    """Return the packages that only build, test and measure."""
    return sorted(set(list_locked()) - set(list_shipped()))


def read_license(name: str) -> str:
    """Return the SPDX expression of an installed package's licence.

    Raises: ValueError where its metadata do not tell it.
    """
    metadata = distribution(name).metadata
    text = metadata["License"].strip() if "License" in metadata else ""
    declared = {CLASSIFIERS[value] for value in metadata.get_all("Classifier", []) if value in CLASSIFIERS}
    if "License-Expression" in metadata:
        return metadata["License-Expression"]
    if name in READ_BY_PEOPLE:
        return READ_BY_PEOPLE[name]
    if text in PERMISSIVE or text in SPELLINGS:
        return SPELLINGS.get(text, text)
    if len(declared) == 1:
        return declared.pop()
    raise ValueError(f"{name}: the licence is not clear; read it, and name it in READ_BY_PEOPLE of supply/packages.py")


def is_permissive(expression: str) -> bool:
    """Whether an SPDX expression leaves a choice under which the package may be shipped."""
    choices = [choice.split(" AND ") for choice in expression.split(" OR ")]
    return any(all(part.strip() in PERMISSIVE for part in choice) for choice in choices)


def find_refused(licenses: Mapping[str, str]) -> list[str]:
    """Name the packages, of those with these licences, that may not be shipped."""
    return [
        f"{name} ({expression})"
        for name, expression in licenses.items()
        if not is_permissive(expression) and LESSER.get(name) != expression
    ]
