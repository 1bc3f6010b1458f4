"""Retention of personal data: rules that say which customers are erased by their age, and what would be erased now.

Each rule is a row of a table, so that reports, the job and the documentation list the same rules.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from storekeep.server.domain.calls import Call, Caller
from storekeep.server.domain.errors import DomainError
from storekeep.server.domain.personal_data.erasures import erase_customer
from storekeep.server.runtime.durations import DAY_US
from storekeep.server.store.engine import Store
from storekeep.server.store.sql.statements import Statement
from storekeep.server.store.tables import erasures as store

SUBJECT = "system/retention"
ROWS_MAX = 100
"""Maximum number of customers to find at once."""


@dataclass(frozen=True, slots=True)
class RetentionRule:
    """A rule that erases customers.

    Attributes:
        name: its name in reports.
        description: which customers it erases.
        find: returns their ids, given `before_us` and `rows_max`.
    """

    name: str
    description: str
    find: Statement


INACTIVE = RetentionRule(
    "inactive-customers", "customers without a change, an order or a quote for {days:g} days", store.FIND_INACTIVE
)
RULES = (INACTIVE,)


@dataclass(frozen=True, slots=True)
class RetentionReport:
    """What a rule erases, or would erase.

    Attributes:
        rule: the rule.
        days: its age in days; 0 if it is off.
        customers: resource names of the customers, sorted.
    """

    rule: RetentionRule
    days: float
    customers: Sequence[str]


def report_retention(database: Store, days: dict[str, float], *, customers_max: int) -> list[RetentionReport]:
    """Return what each rule would erase now.

    Args:
        days: name of a rule -> age in days; 0 if it is off.
        customers_max: maximum number of customers to list for each rule.

    Raises: the store's errors.
    """
    reports = []
    for rule in RULES:
        age = days[rule.name]
        names = [f"customers/{one}" for one in _find(database, rule, age, rows_max=customers_max)] if age else []
        reports.append(RetentionReport(rule, age, names))
    return reports


def apply_retention(database: Store, days: dict[str, float]) -> int:
    """Erase a batch of customers by each rule. Return their number; if it is not 0, there may be more.

    A customer that orders meanwhile is not erased.

    Raises: the store's errors.
    """
    erased = 0
    for rule in RULES:
        if not days[rule.name]:
            continue
        for customer_id in _find(database, rule, days[rule.name], rows_max=ROWS_MAX):
            call = Call(Caller(SUBJECT, display_name="Retention"), f"{SUBJECT}/{rule.name}")
            try:
                erase_customer(database, call, customer_id)
            except DomainError:
                continue  # it changed meanwhile; the next run finds it again if it is still due
            erased += 1
    return erased


def _find(database: Store, rule: RetentionRule, days: float, *, rows_max: int) -> list[str]:
    age_us = round(days * DAY_US)
    return database.read(
        lambda tx: [row[0] for row in rule.find.all(tx, before_us=tx.now_us - age_us, rows_max=rows_max)]
    )
