"""Reference page of the licences of all packages, shipped or not."""

from __future__ import annotations

from collections.abc import Iterable
from importlib.metadata import version

from docs.pages.markdown import head, table
from supply.packages import find_rejected, list_for_work, list_shipped, read_license

INTRODUCTION = """
Storekeep itself is under the Apache License 2.0 ([LICENSE](../../LICENSE)). Licences are given as SPDX expressions.

## Shipped

These packages are required by the server, its PostgreSQL driver and the command line on Linux. None is under the GPL or
the AGPL; `make check` fails if that changes.

`psycopg`, `psycopg-binary` and `pycountry` are under the LGPL. Storekeep neither modifies them nor copies from them.
Each is installed from its authors' wheel and imported at run time, so users can replace it with another version. If you
distribute Storekeep together with these packages, for example in a container image, include their licence texts (they
are in the wheels) and keep them replaceable.
"""
FOR_WORK = """
## Development

These packages build, test and measure Storekeep. They are not shipped.
"""


def list_packages(names: Iterable[str]) -> str:
    """Return the table of the named packages."""
    return table(("Package", "Version", "Licence"), ((name, version(name), read_license(name)) for name in names))


def build_page() -> str:
    """Return the page.

    Raises: ValueError if the licence of a shipped package does not allow shipping it.
    """
    if rejected := find_rejected({name: read_license(name) for name in list_shipped()}):
        raise ValueError(f"licences that cannot be shipped: {', '.join(rejected)}")
    shipped, for_work = list_packages(list_shipped()), list_packages(list_for_work())
    return (
        f"{head('Licences', source='the packages of requirements.lock')}{INTRODUCTION}\n{shipped}{FOR_WORK}\n{for_work}"
    )
