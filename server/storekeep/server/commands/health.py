"""The command `healthcheck`."""

from __future__ import annotations

import argparse

from storekeep.server.commands.exits import DONE, FAILED, USAGE_ERROR
from storekeep.server.config import LoadedSettings, is_address
from storekeep.server.process.healthcheck import SERVING, probe_address, probe_server, probe_workers
from storekeep.server.process.lines import print_error, print_line


def run_healthcheck(loaded: LoadedSettings, args: argparse.Namespace) -> int:
    """Check whether a running server accepts calls."""
    settings, service = loaded.settings, args.service or ""
    if args.address and not is_address(args.address):
        print_error(f"--address: must be host:port or unix:/path, not {args.address!r}")
        return USAGE_ERROR
    if args.address:
        states = {args.address: probe_address(args.address, service=service, settings=settings)}
    else:
        states = {settings.listen: probe_server(settings, service=service)}
    if args.each_worker:
        states |= {f"worker {name}": state for name, state in probe_workers(settings, service=service).items()}
    for target, state in states.items():
        print_line(f"{target}: {state}")
    return DONE if set(states.values()) == {SERVING} else FAILED
