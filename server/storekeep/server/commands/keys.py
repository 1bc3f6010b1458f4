"""The commands that create and rotate keys and secrets, and sign the audit log."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from contextlib import AbstractContextManager, closing
from functools import partial
from pathlib import Path

from storekeep.server.commands.exits import DONE, FAILED, USAGE_ERROR
from storekeep.server.config import LoadedSettings, Settings
from storekeep.server.domain.audit.checkpoints import find_latest_checkpoint as latest_checkpoint
from storekeep.server.domain.audit.checkpoints import format_checkpoint, sign_head
from storekeep.server.process.console import print_admin_key_path, write_admin_key
from storekeep.server.process.kek_rotations import (
    finish_kek_rotation,
    lock_kek_files,
    rotate_kek,
)
from storekeep.server.process.lines import print_error, print_line
from storekeep.server.process.rotations import finish_rotation, start_rotation
from storekeep.server.runtime.files import write_output
from storekeep.server.store.engine import Store
from storekeep.server.store.opening import open_store
from storekeep.server.store.schema import check_schema
from storekeep.server.transport.contract import read_contract
from storekeep.server.wiring.access import lock_secret_files, make_access, make_admin_key
from storekeep.server.wiring.keyrings import read_keyring


def run_bootstrap_admin(loaded: LoadedSettings, args: argparse.Namespace) -> int:
    """Create an API key for the administrator."""
    settings = loaded.settings
    check_schema(settings.database)
    with closing(open_store(settings.database, limits=settings.database_limits)) as store:
        created = make_admin_key(
            settings,
            store,
            keep=partial(write_admin_key, data_dir=settings.data_dir),
            force=args.force or args.new_secret,
            new_secret=args.new_secret,
        )
    if not created:
        print_error("accounts exist already; use --force to create another key for the administrator")
        return FAILED
    print_admin_key_path(settings.data_dir)
    return DONE


def run_export_checkpoint(loaded: LoadedSettings, args: argparse.Namespace) -> int:
    """Sign the head of the audit log and write the checkpoint to a file."""
    settings = loaded.settings
    check_schema(settings.database)
    with closing(open_store(settings.database, limits=settings.database_limits)) as store:
        make_access(
            settings,
            store,
            read_contract(),
            keyring=read_keyring(settings),
        )
        sign_head(store, store.chain)
        checkpoint = latest_checkpoint(store)
    if checkpoint is None:
        print_error("there is no audit log yet; start a server once to create it")
        return FAILED
    write_output(Path(args.file), format_checkpoint(checkpoint))
    print_line(f"{args.file}: {checkpoint.sequence} entries, head {checkpoint.head_hash.hex()}. Keep it off this host.")
    return DONE


def run_rotate_secret(loaded: LoadedSettings, args: argparse.Namespace) -> int:
    """Rotate the server secret, or with `--finish` delete the previous one. Only one process does so at a time."""
    start, finish = start_rotation, partial(finish_rotation, force=args.force)
    return _rotate(loaded, args, lock=lock_secret_files, start=start, finish=finish, alone="invalidates no key")


def run_rotate_kek(loaded: LoadedSettings, args: argparse.Namespace) -> int:
    """Rotate the key-encryption key, or with `--finish` delete the previous one. Only one process does so at a time."""
    start, finish = rotate_kek, partial(finish_kek_rotation, force=args.force)
    return _rotate(loaded, args, lock=lock_kek_files, start=start, finish=finish, alone="deletes no key")


def _rotate(
    loaded: LoadedSettings,
    args: argparse.Namespace,
    *,
    lock: Callable[[Settings], AbstractContextManager[None]],
    start: Callable[[Settings, Store], list[str]],
    finish: Callable[[Settings, Store], list[str]],
    alone: str,
) -> int:
    """Start a rotation, or finish it with `--finish`, and print its lines.

    Args:
        lock: keeps other processes from the same rotation.
        alone: what a rotation that is not finished does, for the error about `--force`.
    """
    settings = loaded.settings
    if args.force and not args.finish:
        print_error(f"--force belongs to --finish: a rotation alone {alone}")
        return USAGE_ERROR
    check_schema(settings.database)
    with lock(settings), closing(open_store(settings.database, limits=settings.database_limits)) as store:
        lines = finish(settings, store) if args.finish else start(settings, store)
    for line in lines:
        print_line(line)
    return DONE
