"""The command `doctor`."""

from __future__ import annotations

import argparse

from storekeep.server.config import InvalidSettings, LoadedSettings
from storekeep.server.process.doctor.examinations import examine, report_invalid_settings
from storekeep.server.process.doctor.findings import EXIT_CODES, Finding, find_worst, format_json, format_text
from storekeep.server.process.lines import print_line


def run_doctor(loaded: LoadedSettings, args: argparse.Namespace) -> int:
    """Examine the installation and print what is wrong, why it matters and what to do."""
    return _print_findings(examine(loaded), args)


def report_settings(error: InvalidSettings, args: argparse.Namespace) -> int:
    """Print why the settings are invalid, as findings: without settings there is nothing else to examine."""
    return _print_findings(report_invalid_settings(error.problems), args)


def _print_findings(findings: list[Finding], args: argparse.Namespace) -> int:
    for line in [format_json(findings)] if args.json else format_text(findings):
        print_line(line)
    return EXIT_CODES[find_worst(findings)]
