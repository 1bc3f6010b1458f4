"""The command `serve`."""

from __future__ import annotations

import argparse
from pathlib import Path

from storekeep.server.commands.databases import run_migrate
from storekeep.server.commands.exits import DONE
from storekeep.server.config import LoadedSettings
from storekeep.server.process.addresses import check_addresses
from storekeep.server.process.serving import serve
from storekeep.server.supervision.supervisor import supervise


def run_serve(loaded: LoadedSettings, args: argparse.Namespace) -> int:
    """Serve until a signal requests shutdown."""
    address_file = Path(args.address_file) if args.address_file else None
    serve_all = serve if loaded.settings.workers == 1 else supervise
    if args.migrate:
        check_addresses(loaded.settings)
        run_migrate(loaded, args)
    serve_all(loaded, sample=args.sample, address_file=address_file)
    return DONE
