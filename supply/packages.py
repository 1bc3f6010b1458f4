"""The packages of the locks: which are shipped, and the licence of each.

The packages that the server, its PostgreSQL driver and the command line need on Linux are shipped. The others build,
test and measure. A package with an unknown licence, or with one that does not allow shipping, is an error.
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
SHIPPED_EXTRAS = ("server", "postgres", "cli", "gateway")

PERMISSIVE = frozenset(
    {"0BSD", "Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "ISC", "MIT", "MIT-0", "MPL-2.0", "PSF-2.0", "Zlib"}
)
"""Licences that allow shipping without conditions. MPL-2.0 applies only to its own files, which are not modified."""

LESSER = {
    "psycopg": "LGPL-3.0-only",
    "psycopg-binary": "LGPL-3.0-only",
    "pycountry": "LGPL-2.1-only",
    "python-stdnum": "LGPL-2.1-or-later",
}
"""The shipped packages under the LGPL. Each is installed from its own unmodified wheel, so that users can replace it
with another version, as the LGPL requires. Other LGPL packages are rejected, so that each addition is a deliberate
decision."""

MANUAL_LICENSES = {
    "apsw": "Zlib",  # "any-OSI": its licence file allows zlib or any other licence that the OSI has approved
    "axe-playwright-python": "MIT",
    "grimp": "BSD-2-Clause",
    "import-linter": "BSD-2-Clause",
    "itsdangerous": "BSD-3-Clause",
    "jinja2": "BSD-3-Clause",
    "peewee": "MIT",
    "pysqlite3": "Zlib",
    "python-dateutil": "Apache-2.0 OR BSD-3-Clause",
    "python-stdnum": "LGPL-2.1-or-later",
    "segno": "BSD-3-Clause",
    "uvloop": "Apache-2.0 OR MIT",
}
"""The licences of packages with incomplete metadata, taken from their licence files."""

SPELLINGS = {
    "3-Clause BSD License": "BSD-3-Clause",
    "Apache 2.0": "Apache-2.0",
    "Apache License 2.0": "Apache-2.0",
    "ISC License": "ISC",
    "MIT License": "MIT",
    "MIT license": "MIT",
}
"""The SPDX id for each spelling in the free text `License` of package metadata."""

CLASSIFIERS = {
    "License :: OSI Approved :: Apache Software License": "Apache-2.0",
    "License :: OSI Approved :: ISC License (ISCL)": "ISC",
    "License :: OSI Approved :: MIT License": "MIT",
    "License :: OSI Approved :: Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
    "License :: OSI Approved :: Python Software Foundation License": "PSF-2.0",
}
"""Classifiers that identify one licence. "BSD License" does not, because it may have two or three clauses."""


def read_project() -> dict[str, list[str]]:
    """Return the requirements of `pyproject.toml` by extra. Those without an extra have the key ""."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras: dict[str, list[str]] = project["optional-dependencies"]
    return {"": project["dependencies"], **extras}


def find_package(name: str) -> Distribution | None:
    """Return the installed package, or None if it is only for other systems."""
    try:
        return distribution(name)
    except PackageNotFoundError:
        return None


def list_locked(lock: Path = LOCK) -> list[str]:
    """Return the canonical names of the packages of a lock that are installed on this system."""
    names = re.findall(r"^([a-z0-9-]+)==", lock.read_text(), re.MULTILINE)
    return sorted(name for name in names if find_package(name))


def list_requirements(package: Distribution, *, extras: Iterable[str]) -> list[Requirement]:
    """Return the requirements of a package with these extras, for Python 3.11."""
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
    queue = [Requirement(text) for extra in ("", *SHIPPED_EXTRAS) for text in project[extra]]
    seen: set[tuple[str, frozenset[str]]] = set()
    while queue:
        requirement = queue.pop()
        key = (canonicalize_name(requirement.name), frozenset(requirement.extras))
        if key not in seen and (package := find_package(requirement.name)):
            seen.add(key)
            queue += list_requirements(package, extras=requirement.extras)
    return tuple(sorted({name for name, _ in seen}))


def list_for_work() -> list[str]:
    """Return the packages that only build, test and measure."""
    return sorted(set(list_locked()) - set(list_shipped()))


def read_license(name: str) -> str:
    """Return the SPDX expression of an installed package's licence.

    Raises: ValueError if it cannot be determined from the metadata.
    """
    metadata = distribution(name).metadata
    text = metadata["License"].strip() if "License" in metadata else ""
    declared = {CLASSIFIERS[value] for value in metadata.get_all("Classifier", []) if value in CLASSIFIERS}
    if "License-Expression" in metadata:
        return metadata["License-Expression"]
    if name in MANUAL_LICENSES:
        return MANUAL_LICENSES[name]
    if text in PERMISSIVE or text in SPELLINGS:
        return SPELLINGS.get(text, text)
    if len(declared) == 1:
        return declared.pop()
    raise ValueError(
        f"{name}: unknown licence; read its licence file and add it to MANUAL_LICENSES in supply/packages.py"
    )


def is_permissive(expression: str) -> bool:
    """Whether an SPDX expression allows a choice of permissive licences."""
    choices = [choice.split(" AND ") for choice in expression.split(" OR ")]
    return any(all(part.strip() in PERMISSIVE for part in choice) for choice in choices)


def find_rejected(licenses: Mapping[str, str]) -> list[str]:
    """Return the packages whose licences do not allow shipping, with their licences.

    Args:
        licenses: SPDX expression by package.
    """
    return [
        f"{name} ({expression})"
        for name, expression in licenses.items()
        if not is_permissive(expression) and LESSER.get(name) != expression
    ]
