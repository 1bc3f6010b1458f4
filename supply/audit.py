"""Check every package of the lock for known vulnerabilities.

If the vulnerability database cannot be reached, the check prints a line and passes, because it must not depend on the
network. Findings that do not apply are listed with a reason in `[tool.storekeep.audit]` of pyproject.toml.
"""

from __future__ import annotations

import json
import subprocess
import sys
import sysconfig
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from supply.packages import LOCK, ROOT

COMMAND = Path(sysconfig.get_path("scripts"), "pip-audit")
TIMEOUT_S = 60
REQUEST_TIMEOUT_S = 5


def read_ignored() -> dict[str, str]:
    """Return the ignored findings, each with its reason.

    Raises: ValueError if one has no reason.
    """
    tool = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]
    ignored: dict[str, str] = tool["storekeep"]["audit"]["ignored"]
    if bare := [name for name, reason in ignored.items() if not reason.strip()]:
        raise ValueError(f"ignored without a reason: {', '.join(bare)}")
    return ignored


def run_audit() -> dict[str, Any] | None:
    """Return pip-audit's report on the lock, or None if it got no answer. Nothing is resolved or installed."""
    command = [str(COMMAND), "--requirement", str(LOCK), "--require-hashes", "--disable-pip", "--format", "json"]
    command += ["--progress-spinner", "off", "--timeout", str(REQUEST_TIMEOUT_S)]
    try:
        done = subprocess.run(command, capture_output=True, timeout=TIMEOUT_S, check=False)  # noqa: S603
        report: dict[str, Any] = json.loads(done.stdout)
    except (subprocess.TimeoutExpired, json.JSONDecodeError):
        return None
    return report


def list_findings(report: Mapping[str, Any], *, ignored: Mapping[str, str]) -> list[str]:
    """Return a line for each known vulnerability that is not ignored under any of its names."""
    return [
        f"{package['name']} {package['version']}: {finding['id']}, fixed in {', '.join(finding['fix_versions']) or '-'}"
        for package in report["dependencies"]
        for finding in package.get("vulns", [])
        if not {finding["id"], *finding.get("aliases", [])} & set(ignored)
    ]


def judge(report: Mapping[str, Any] | None, *, ignored: Mapping[str, str]) -> tuple[str, list[str]]:
    """Return the summary to print, and the findings."""
    packages = report["dependencies"] if report else []
    known = [package for package in packages if "skip_reason" not in package]
    if report is None or not known:
        return "audit: skipped; the vulnerability database (PyPI's) could not be reached.", []
    findings = list_findings(report, ignored=ignored)
    summary = f"audit: {len(known)} of {len(packages)} packages checked, {len(findings)} known vulnerabilities."
    return summary, findings


def main() -> None:
    """Run the command line."""
    summary, findings = judge(run_audit(), ignored=read_ignored())
    print(summary)  # noqa: T201
    if findings:
        sys.exit("\n".join(findings))


if __name__ == "__main__":
    main()
