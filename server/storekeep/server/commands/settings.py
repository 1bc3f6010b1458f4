"""The command `config`. Printing the settings loads no rule that checks them."""

from __future__ import annotations

import argparse

from storekeep.server.commands.exits import DONE, FAILED
from storekeep.server.config import LoadedSettings
from storekeep.server.process.lines import print_error, print_line


def run_config(loaded: LoadedSettings, args: argparse.Namespace) -> int:
    """Print the effective settings, or print what keeps `serve` from starting with them, and a warning per weakness."""
    if args.action == "print":
        for line in loaded.lines():
            print_line(line)
        return DONE
    from storekeep.server.process.inspections import inspect
    from storekeep.server.process.obstacles import find_obstacles

    obstacles, findings = find_obstacles(loaded), inspect(loaded)
    if not obstacles:
        print_line("The settings are valid.")
    for obstacle in obstacles:
        print_error(obstacle)
    for finding in findings:
        print_error(f"warning: {finding}")
    return FAILED if obstacles or (findings and args.strict) else DONE
