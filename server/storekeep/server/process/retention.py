"""The command `retention`: shows what the retention rules would erase now, or erases it."""

from __future__ import annotations

from collections.abc import Iterator

from storekeep.server.config import Settings
from storekeep.server.domain.personal_data.retention import apply_retention, report_retention
from storekeep.server.store.engine import Store
from storekeep.server.transport.contract import read_contract
from storekeep.server.wiring.access import make_access
from storekeep.server.wiring.data_keys import list_retention_days
from storekeep.server.wiring.keyrings import read_keyring

CUSTOMERS_MAX = 20
"""Maximum number of customers to name for each rule."""


def show_retention(settings: Settings, store: Store) -> Iterator[str]:
    """Yield lines about what each rule would erase now. Change nothing.

    Raises: the store's errors.
    """
    for report in report_retention(store, list_retention_days(settings), customers_max=CUSTOMERS_MAX + 1):
        if not report.days:
            yield f"{report.rule.name}: off"
            continue
        names, more = report.customers[:CUSTOMERS_MAX], len(report.customers) > CUSTOMERS_MAX
        count = f"more than {CUSTOMERS_MAX}" if more else str(len(names))
        yield f"{report.rule.name}: would erase {count} {report.rule.description.format(days=report.days)}"
        yield from (f"  {name}" for name in names)


def run_retention_rules(settings: Settings, store: Store) -> int:
    """Erase all customers that are due, and return their number.

    Raises: KeyUnknown, WeakSecret, ExposedFile, OSError, and the store's errors.
    """
    make_access(settings, store, read_contract(), keyring=read_keyring(settings))
    days, total = list_retention_days(settings), 0
    while count := apply_retention(store, days):
        total += count
    return total
