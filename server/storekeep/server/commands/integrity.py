"""The commands that restore, verify and reindex a database: they know all that is stored in it."""

from __future__ import annotations

import argparse
import dataclasses
from contextlib import closing
from pathlib import Path

from storekeep.server.commands.databases import require_sqlite_path
from storekeep.server.commands.exits import DONE, FAILED
from storekeep.server.config import LoadedSettings
from storekeep.server.domain.audit.checkpoints import parse_checkpoint as read_checkpoint
from storekeep.server.domain.integrity.search_documents import rebuild_documents
from storekeep.server.domain.integrity.verification import VERIFY_TIMEOUT_S, verify
from storekeep.server.process.lines import print_line
from storekeep.server.process.restores import restore_database
from storekeep.server.runtime.input_files import read_file_or_pipe
from storekeep.server.store.errors import StorageUnavailable
from storekeep.server.store.opening import open_store
from storekeep.server.store.schema import check_schema
from storekeep.server.store.sqlite.page_checksums import describe_wrong_checksum
from storekeep.server.store.urls import hide_password
from storekeep.server.wiring.data_keys import find_data_keys, make_data_keys
from storekeep.server.wiring.keyrings import find_audit_chain

LOAD_ADVICE = "restore PostgreSQL with pg_restore"


def run_restore(loaded: LoadedSettings, args: argparse.Namespace) -> int:
    """Replace the SQLite database by a backup."""
    settings = loaded.settings
    lines = restore_database(
        settings,
        Path(args.file),
        database=require_sqlite_path(settings, advice=LOAD_ADVICE),
        keys=Path(args.keys) if args.keys else None,
        without_keys=args.without_keys,
        unverified=args.unverified,
    )
    for line in lines:
        print_line(line)
    return DONE


def run_verify(loaded: LoadedSettings, args: argparse.Namespace) -> int:
    """Check every invariant of the database and print the result of each."""
    url = loaded.settings.database
    since = read_checkpoint(read_file_or_pipe(Path(args.since))) if args.since else None
    check_schema(url)
    limits = dataclasses.replace(loaded.settings.database_limits, pool_size=1, statement_timeout_s=VERIFY_TIMEOUT_S)
    with closing(open_store(url, limits=limits)) as store:
        store.data_keys = find_data_keys(loaded.settings)
        try:
            findings = verify(store, find_audit_chain(loaded.settings), since=since)
        except StorageUnavailable as error:
            cause = error.__cause__ or error
            reason = describe_wrong_checksum(cause) or " ".join(str(cause).split())
            print_line(f"{hide_password(url)}: it cannot be read: {reason}.")
            return FAILED
    width = max(len(finding.name) for finding in findings)
    for finding in findings:
        print_line(f"{'ok    ' if finding.holds else 'BROKEN'}  {finding.name:<{width}}  {finding.promise}")
        for breach in finding.breaches:
            print_line(f"        {'':<{width}}  - {breach}")
    broken = sum(not finding.holds for finding in findings)
    summary = f"{broken} of {len(findings)} checks failed" if broken else f"{len(findings)} checks hold"
    print_line(f"{hide_password(url)}: {summary}.")
    return FAILED if broken else DONE


def run_reindex(loaded: LoadedSettings, _args: argparse.Namespace) -> int:
    """Rebuild all search documents."""
    settings = loaded.settings
    check_schema(settings.database)
    with closing(open_store(settings.database, limits=settings.database_limits)) as store:
        store.data_keys = make_data_keys(settings)
        count = rebuild_documents(store)
    print_line(f"{hide_password(settings.database)}: rebuilt the text indexes; {count} documents were out of date.")
    return DONE
