"""The examination of an installation: every check once, in the order in which faults should be mended.

A check that cannot run is a finding itself. Nothing is changed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

from storekeep.server.config import LoadedSettings
from storekeep.server.process.doctor import backups, databases, hosts, servers
from storekeep.server.process.doctor.findings import Finding, Installation, Severity
from storekeep.server.process.obstacles import find_obstacles
from storekeep.server.process.signals import STARTUP_ERRORS, describe_error


class Check(NamedTuple):
    """A check of one area.

    Attributes:
        area: name of the area.
        sound: what is true if the check finds nothing.
        find: yields the findings.
        explain_absence: returns why an installation has nothing to check; empty if it has.
    """

    area: str
    sound: str
    find: Callable[[Installation], Iterator[Finding]]
    explain_absence: Callable[[Installation], str] = lambda _: ""


CHECKS = (
    Check("files", "only the server's user can use its files", hosts.check_files),
    Check("secret", "the secret can be used", hosts.check_secret),
    Check("kek", "the key-encryption key can be used", hosts.check_kek),
    Check("database", "the database answers and has the schema of this release", databases.check_database),
    Check("log", "the write-ahead log is short", databases.check_log, databases.explain_absent_log),
    Check(
        "replicas",
        "every configured replica is up to date",
        databases.check_replicas,
        databases.explain_absent_replicas,
    ),
    Check("backups", "the newest backup is recent", backups.check_backups, backups.explain_absent_backups),
    Check("disk", "there is free space", hosts.check_disk),
    Check("clock", "a time service keeps the clock", hosts.check_clock),
    Check(
        "certificates",
        "the TLS files work and are valid for 30 days",
        hosts.check_certificates,
        hosts.explain_absent_certificates,
    ),
    Check("listeners", "no address is open without need", hosts.check_listeners),
    Check("admin key", "no forgotten key of an administrator", hosts.check_admin_key),
    Check("server", "the server answers", servers.check_server),
    Check("grpcio", "calls take the fast path", servers.check_grpcio),
)


def examine(loaded: LoadedSettings) -> list[Finding]:
    """Run all checks and return their findings, with one of severity OK for each check that found nothing.

    The finding of severity OK says what is true, or why there was nothing to check.
    """
    installation = Installation(loaded)
    findings = [Finding("settings", Severity.OK, "the settings are valid")]
    for check in CHECKS:
        found = _run(check, installation)
        if not any(finding.area == check.area for finding in found):
            what = check.explain_absence(installation) or check.sound
            findings.append(Finding(check.area, Severity.OK, what))
        findings += found
    broken = {finding.area for finding in findings if finding.severity is Severity.ERROR}
    findings = [one for one in findings if one.area not in broken or one.why != hosts.CREATED_BY_THE_FIRST_START]
    return [*findings, *_find_other_obstacles(loaded, findings)]


def _find_other_obstacles(loaded: LoadedSettings, findings: list[Finding]) -> Iterator[Finding]:
    """Yield what else keeps `serve` from starting, such as a log file that cannot be written."""
    known = [finding.what for finding in findings if finding.severity is Severity.ERROR]
    other = [obstacle for obstacle in find_obstacles(loaded) if not any(what in obstacle for what in known)]
    for obstacle in other:
        why, remedy = "the server does not start", "correct the setting, then: storekeep-server config check"
        yield Finding("start", Severity.ERROR, obstacle, why, remedy)
    if not other and not known:
        yield Finding("start", Severity.OK, "nothing keeps the server from starting")


def _run(check: Check, installation: Installation) -> list[Finding]:
    try:
        return list(check.find(installation))
    except STARTUP_ERRORS as error:
        why = "the check needs it, and so does the server"
        remedy = "run this command as the server's user; see the message"
        return [Finding(check.area, Severity.ERROR, describe_error(error), why, remedy)]


def report_invalid_settings(problems: list[str]) -> list[Finding]:
    """Return a finding for each problem of settings that cannot be used. Nothing else can be checked then."""
    why, remedy = "the server does not start", "correct the setting; see docs/reference/configuration.md"
    return [Finding("settings", Severity.ERROR, problem, why, remedy) for problem in problems]
