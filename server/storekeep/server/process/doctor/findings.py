"""What an examination finds, and how it is printed for people and for programs."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from enum import IntEnum
from pathlib import Path

import msgspec

from storekeep.server.config import LoadedSettings, Settings
from storekeep.server.store.engine import Store
from storekeep.server.store.opening import open_store


class Severity(IntEnum):
    """How bad a finding is. A higher value is worse."""

    OK = 0
    WARNING = 1
    ERROR = 2


EXIT_CODES = {Severity.OK: 0, Severity.WARNING: 3, Severity.ERROR: 1}
"""Exit code by the worst finding. 2 is that of a usage error."""


class Finding(msgspec.Struct, frozen=True):
    """One finding.

    Attributes:
        area: the part of the installation, as in `CHECKS`.
        severity: ERROR if it does not work or loses data, WARNING if it will fail or weakens the installation.
        what: the fact.
        why: why it matters; empty for OK.
        remedy: the command or action that mends it; empty for OK.
    """

    area: str
    severity: Severity
    what: str
    why: str = ""
    remedy: str = ""


class Installation:
    """The installation under examination.

    Args:
        loaded: its settings.
    """

    def __init__(self, loaded: LoadedSettings) -> None:
        self.loaded = loaded

    @property
    def settings(self) -> Settings:
        """The effective settings."""
        return self.loaded.settings

    @contextmanager
    def open_store(self, *, with_replicas: bool = False) -> Iterator[Store]:
        """Open the database, with few connections.

        Raises: UnusableDatabase.
        """
        settings = self.settings
        limits = replace(settings.database_limits, pool_size=1)
        replicas = settings.database_replicas if with_replicas else replace(settings.database_replicas, urls=())
        store = open_store(settings.database, limits=limits, replicas=replicas)
        try:
            yield store
        finally:
            store.close()


def quote(path: Path) -> str:
    """Return a path as a word of a shell command."""
    return shlex.quote(str(path))


def format_text(findings: Sequence[Finding]) -> Iterator[str]:
    """Yield the lines for people: the fact, then the reason and the remedy indented."""
    width = max(len(finding.area) for finding in findings)
    for finding in findings:
        mark = "ok" if finding.severity is Severity.OK else finding.severity.name
        yield f"{mark:<7}  {finding.area:<{width}}  {finding.what}"
        if finding.why:
            yield f"{'':<7}  {'':<{width}}  why: {finding.why}"
        if finding.remedy:
            yield f"{'':<7}  {'':<{width}}  do:  {finding.remedy}"
    counts = {severity: sum(finding.severity is severity for finding in findings) for severity in Severity}
    yield f"Errors: {counts[Severity.ERROR]}. Warnings: {counts[Severity.WARNING]}."


def format_json(findings: Sequence[Finding]) -> str:
    """Return one JSON object: the worst severity, and every finding."""
    rows = [
        {
            "area": finding.area,
            "severity": finding.severity.name,
            "what": finding.what,
            "why": finding.why,
            "remedy": finding.remedy,
        }
        for finding in findings
    ]
    return msgspec.json.encode({"worst": find_worst(findings).name, "findings": rows}).decode()


def find_worst(findings: Sequence[Finding]) -> Severity:
    """Return the worst severity; OK without findings."""
    return max((finding.severity for finding in findings), default=Severity.OK)
