"""The commands that erase personal data, or give up what a lost key encrypts."""

from __future__ import annotations

import argparse
from contextlib import closing

from storekeep.server.commands.exits import DONE
from storekeep.server.config import LoadedSettings
from storekeep.server.process.lines import print_line
from storekeep.server.process.lost_keys import run_give_up
from storekeep.server.process.retention import run_retention_rules, show_retention
from storekeep.server.store.opening import open_store
from storekeep.server.store.schema import check_schema


def run_give_up_keys(loaded: LoadedSettings, args: argparse.Namespace) -> int:
    """Give up the data keys that need a lost key-encryption key, or without `--yes` show what that would lose."""
    check_schema(loaded.settings.database)
    for line in run_give_up(loaded.settings, confirmed=args.yes):
        print_line(line)
    return DONE


def run_retention(loaded: LoadedSettings, args: argparse.Namespace) -> int:
    """Show what the retention rules would erase now, or with `--yes` erase it."""
    settings = loaded.settings
    check_schema(settings.database)
    with closing(open_store(settings.database, limits=settings.database_limits)) as store:
        erased = [f"Erased {run_retention_rules(settings, store)} customers."] if args.yes else None
        for line in erased or show_retention(settings, store):
            print_line(line)
    return DONE
