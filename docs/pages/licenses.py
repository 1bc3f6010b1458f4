"""The page of licences: of each package, shipped or not."""

from __future__ import annotations

from collections.abc import Iterable
from importlib.metadata import version

from docs.pages.markdown import head, table
from supply.packages import find_refused, list_for_work, list_shipped, read_license

INTRODUCTION = """
Storekeep itself is under the Apache License 2.0 ([LICENSE](../../LICENSE)). Licences are given as SPDX expressions.

## Shipped

What the server, its PostgreSQL driver and the command line need on Linux. Nothing here is under the GPL or the AGPL;
`make check` fails when that changes.

`psycopg`, `psycopg-binary` and `pycountry` are under the LGPL. Storekeep does not change them or copy from them: each
is installed as its authors' own wheel and imported at run time, so that whoever runs Storekeep can put another version
in its place. Whoever passes Storekeep on together with them (in a container image, say) passes on their licence texts,
which are in the wheels, and leaves that possible.
"""
FOR_WORK = """
## For work on Storekeep

What builds, tests and measures it. None of this is shipped.
"""


def list_packages(names: Iterable[str]) -> str:
    """Return the table of the named packages."""
    return table(("Package", "Version", "Licence"), ((name, version(name), read_license(name)) for name in names))


def page() -> str:
    """Return the whole page.

    Raises: ValueError where a shipped package has a licence that does not allow it.
    """
    if refused := find_refused({name: read_license(name) for name in list_shipped()}):
        raise ValueError(f"not to be shipped: {', '.join(refused)}")
    shipped, for_work = list_packages(list_shipped()), list_packages(list_for_work())
    return (
        f"{head('Licences', source='the packages of requirements.lock')}{INTRODUCTION}\n{shipped}{FOR_WORK}\n{for_work}"
    )
