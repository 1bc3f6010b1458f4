"""The `storekeep-server` command: serve a database, migrate, back up, restore and verify it.

Every refusal is one clear line on standard error. Exit codes: 0 done; 1 not done, or found to be wrong;
2 wrong use, or settings that cannot be used. `entry` adds those of signals.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NoReturn

from storekeep.server.config import InvalidSettings, LoadedSettings, Settings, is_address, load_settings
from storekeep.server.domain.access.server_secrets import SecretInUse, count_keys_to_lose
from storekeep.server.domain.audit.checkpoints import InvalidCheckpoint, sign_head
from storekeep.server.domain.audit.checkpoints import latest as latest_checkpoint
from storekeep.server.domain.audit.checkpoints import read_text as read_checkpoint
from storekeep.server.domain.audit.checkpoints import write_text as write_checkpoint
from storekeep.server.domain.integrity.verification import verify
from storekeep.server.domain.keys.audit_chain import AuditChain
from storekeep.server.process.console import keep_admin_key, printable, say, say_where_admin_key_is
from storekeep.server.process.healthcheck import SERVING, ask_address, ask_server, ask_workers
from storekeep.server.process.inspections import inspect
from storekeep.server.process.serving import serve
from storekeep.server.process.signals import REFUSALS, in_words
from storekeep.server.runtime.secrets import (
    PREVIOUS_FILE,
    SECRET_FILE,
    RotationRefused,
    begin_rotation,
    end_rotation,
)
from storekeep.server.store.backups import BackupRefused, back_up, restore
from storekeep.server.store.engine import Store
from storekeep.server.store.opening import open_store
from storekeep.server.store.schema import check_schema, migrate, pending_migrations
from storekeep.server.store.urls import shown, sqlite_path
from storekeep.server.supervision.supervisor import WorkerFailed, supervise
from storekeep.server.transport.contract import read_contract
from storekeep.server.wiring.access import (
    make_access,
    make_admin_key,
    make_keyring,
    read_keyring,
    rotate_secret,
    rotating,
)

VERIFY_TIMEOUT_S = 3_600.0
"""How long one check may take on PostgreSQL: it may read all there is."""
DUMP = "copy PostgreSQL with its own pg_dump, or pg_basebackup"
LOAD = "restore PostgreSQL with its own pg_restore"
DONE = 0
REFUSED = 1
WRONG_USE = 2
SETTING_ARGUMENTS = ("workers",)
"""Arguments of commands that are settings, by their names."""


@dataclass(frozen=True, slots=True)
class Argument:
    """One argument of a command, as argparse takes it."""

    name: str
    help: str
    flag: bool = False
    choices: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class Command:
    """One command: what it does, an example that works, and the function that does it and gives the exit code."""

    summary: str
    example: str
    run: Callable[[LoadedSettings, argparse.Namespace], int]
    arguments: tuple[Argument, ...] = ()


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command and exit."""
    sys.exit(run(arguments))


def run(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        arguments: without the program's name; those of the process when not given.

    Returns: the exit code.
    """
    given = make_parser().parse_args(arguments)
    settings = {name: value for name in SETTING_ARGUMENTS if (value := getattr(given, name, None))}
    try:
        return COMMANDS[given.command].run(load_settings(arguments=settings), given)
    except InvalidSettings as error:
        for problem in error.problems:
            complain(problem)
        return WRONG_USE
    except (*REFUSALS, BackupRefused, InvalidCheckpoint, RotationRefused, SecretInUse, WorkerFailed) as error:
        complain(in_words(error))
        return REFUSED


def complain(line: str) -> None:
    """Say on standard error why something is refused."""
    print(f"storekeep-server: {printable(line)}", file=sys.stderr)  # noqa: T201 - what the command says


def run_serve(loaded: LoadedSettings, given: argparse.Namespace) -> int:
    """Serve until a signal says to stop."""
    address_file = Path(given.address_file) if given.address_file else None
    serve_all = serve if loaded.settings.workers == 1 else supervise
    serve_all(loaded, sample=given.sample, address_file=address_file)
    return DONE


def run_migrate(loaded: LoadedSettings, _given: argparse.Namespace) -> int:
    """Bring the database to this release's schema."""
    url = loaded.settings.database
    applied = migrate(url)
    say(f"{shown(url)}: applied {', '.join(applied)}." if applied else f"{shown(url)}: nothing to do.")
    return DONE


def run_backup(loaded: LoadedSettings, given: argparse.Namespace) -> int:
    """Copy the database while it is served."""
    size_bytes = back_up(_file_of(loaded.settings, advice=DUMP), to=Path(given.file))
    say(f"{given.file}: {size_bytes} bytes.")
    if not loaded.settings.secret.get_secret_value():
        say(f"Keep a copy of {loaded.settings.data_dir / SECRET_FILE} too, elsewhere: without it no API key works.")
    return DONE


def run_restore(loaded: LoadedSettings, given: argparse.Namespace) -> int:
    """Put a backup in the database's place."""
    path = _file_of(loaded.settings, advice=LOAD)
    kept = restore(Path(given.file), database=path)
    say(f"{path} is now what {given.file} is." + (f" The database that was there is {kept}." if kept else ""))
    pending = pending_migrations(loaded.settings.database)
    if pending:
        say(f"It lacks {', '.join(pending)}; run: storekeep-server migrate")
    return DONE


def _file_of(settings: Settings, *, advice: str) -> Path:
    """The file of a SQLite database.

    Raises: BackupRefused, with advice, for another engine.
    """
    path = sqlite_path(settings.database)
    if path is None:
        raise BackupRefused(f"{shown(settings.database)} is not a file; {advice}")
    return path


def run_verify(loaded: LoadedSettings, given: argparse.Namespace) -> int:
    """Check all that must always be true of the database, and name what is not."""
    url = loaded.settings.database
    since = read_checkpoint(Path(given.since).read_bytes()) if given.since else None
    check_schema(url)
    patient = dataclasses.replace(loaded.settings.database_limits, pool_size=1, statement_timeout_s=VERIFY_TIMEOUT_S)
    with closing(open_store(url, limits=patient)) as store:
        findings = verify(store, _chain(loaded.settings), since=since)
    width = max(len(finding.name) for finding in findings)
    for finding in findings:
        say(f"{'ok    ' if finding.holds else 'BROKEN'}  {finding.name:<{width}}  {finding.promise}")
        for breach in finding.breaches:
            say(f"        {'':<{width}}  - {breach}")
    broken = sum(not finding.holds for finding in findings)
    told = f"{broken} of {len(findings)} checks failed" if broken else f"{len(findings)} checks hold"
    say(f"{shown(url)}: {told}.")
    return REFUSED if broken else DONE


def _chain(settings: Settings) -> AuditChain | None:
    """What opens the keys of the audit log; None where there is no secret, which `verify` must not make."""
    try:
        return AuditChain(read_keyring(settings))
    except FileNotFoundError:
        return None


def run_bootstrap_admin(loaded: LoadedSettings, given: argparse.Namespace) -> int:
    """Make a key for the administrator."""
    settings = loaded.settings
    check_schema(settings.database)
    with closing(open_store(settings.database, limits=settings.database_limits)) as store:
        made = make_admin_key(
            settings,
            store,
            keep=partial(keep_admin_key, data_dir=settings.data_dir),
            force=given.force or given.new_secret,
            new_secret=given.new_secret,
        )
    if not made:
        complain("there are accounts already; --force makes another key for the administrator all the same")
        return REFUSED
    say_where_admin_key_is(settings.data_dir)
    return DONE


def run_export_checkpoint(loaded: LoadedSettings, given: argparse.Namespace) -> int:
    """Sign the head of the audit log and write it down."""
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
        complain("there is no audit log yet: a server makes it at its first start")
        return REFUSED
    Path(given.file).write_text(write_checkpoint(checkpoint))
    say(f"{given.file}: {checkpoint.sequence} entries, head {checkpoint.head_hash.hex()}. Keep it elsewhere.")
    return DONE


def run_rotate_secret(loaded: LoadedSettings, given: argparse.Namespace) -> int:
    """Put the database under a new secret, or forget the one before; one process at a time does either."""
    settings = loaded.settings
    check_schema(settings.database)
    with rotating(settings), closing(open_store(settings.database, limits=settings.database_limits)) as store:
        return _finish_rotation(settings, store) if given.finish else _rotate(settings, store)


def _rotate(settings: Settings, store: Store) -> int:
    keyring = make_keyring(settings)
    newest = keyring.known()[0]
    under_way = store.read(lambda tx: keyring.current(tx)).secret != newest
    if not under_way and settings.secret.get_secret_value():
        raise RotationRefused(
            "the secret is in the environment: restart all servers with the new one as STOREKEEP_SECRET and the "
            "present one as STOREKEEP_SECRET_PREVIOUS, then run this with both"
        )
    rotate_secret(settings, store, newest if under_way else begin_rotation(settings.data_dir))
    days = f"{settings.secret_overlap_days:g}"
    say(f"The database is under the new secret. API keys move to it as they are used, within {days} days.")
    if not settings.secret.get_secret_value():
        say(f"Back up {settings.data_dir / SECRET_FILE}. Then, or when all keys were used: rotate-secret --finish")
    return DONE


def _finish_rotation(settings: Settings, store: Store) -> int:
    keyring = make_keyring(settings)
    if store.read(lambda tx: keyring.current(tx)).secret != keyring.known()[0]:
        raise RotationRefused("the database is still under the secret before; run rotate-secret first")
    lost = count_keys_to_lose(store)
    if settings.secret.get_secret_value():
        say(f"Remove STOREKEEP_SECRET_PREVIOUS and restart all servers; {lost} API keys stop working then.")
        return DONE
    if not end_rotation(settings.data_dir):
        complain(f"there is no {settings.data_dir / PREVIOUS_FILE}: no rotation is under way")
        return REFUSED
    say(f"The secret before is forgotten; {lost} API keys that were not used since stop working.")
    return DONE


def run_healthcheck(loaded: LoadedSettings, given: argparse.Namespace) -> int:
    """Ask a running server whether it takes calls."""
    settings, service = loaded.settings, given.service or ""
    if given.address and not is_address(given.address):
        complain(f"--address: {given.address!r} is neither host:port nor unix:/path")
        return WRONG_USE
    if given.address:
        states = {given.address: ask_address(given.address, service=service, settings=settings)}
    else:
        states = {settings.listen: ask_server(settings, service=service)}
    if given.each_worker:
        states |= {f"worker {name}": state for name, state in ask_workers(settings, service=service).items()}
    for asked, state in states.items():
        say(f"{asked}: {state}")
    return DONE if set(states.values()) == {SERVING} else REFUSED


def run_config(loaded: LoadedSettings, given: argparse.Namespace) -> int:
    """Print the settings in force, or say what an operator should know of them, once they could be loaded."""
    if given.action == "print":
        for line in loaded.lines():
            say(line)
        return DONE
    findings = inspect(loaded)
    say("The settings can be used.")
    for finding in findings:
        complain(f"warning: {finding}")
    return REFUSED if findings and given.strict else DONE


COMMANDS: dict[str, Command] = {
    "serve": Command(
        "Serve gRPC until it is told to stop (SIGTERM, Ctrl-C; a second time: at once). SIGHUP reloads.",
        "STOREKEEP_LISTEN=127.0.0.1:50051 storekeep-server serve",
        run_serve,
        (
            Argument("--sample", "load a small catalogue into an empty database, and say what to type next", flag=True),
            Argument(
                "--workers", "processes that answer calls, or `auto`: one a core; STOREKEEP_WORKERS when not given"
            ),
            Argument("--address-file", "write the address to this file once it listens"),
        ),
    ),
    "migrate": Command(
        "Make the database, or bring it to this release's schema.", "storekeep-server migrate", run_migrate
    ),
    "backup": Command(
        "Copy the database to a new file, consistent, while it is served.",
        "storekeep-server backup monday.db",
        run_backup,
        (Argument("file", "where the copy goes; it must not exist"),),
    ),
    "restore": Command(
        "Put a backup in the database's place; the database that was there is kept beside it.",
        "storekeep-server restore monday.db",
        run_restore,
        (Argument("file", "a copy that `backup` made"),),
    ),
    "verify": Command(
        "Check that the database is sound and that all that must always be true of it is.",
        "storekeep-server verify --since monday.checkpoint",
        run_verify,
        (Argument("--since", "a checkpoint of the audit log that was kept elsewhere: the log has to have it"),),
    ),
    "export-checkpoint": Command(
        "Sign the head of the audit log and write it to a file, to be kept elsewhere.",
        "storekeep-server export-checkpoint monday.checkpoint",
        run_export_checkpoint,
        (Argument("file", "where the checkpoint goes"),),
    ),
    "rotate-secret": Command(
        "Put the database under a new secret, while it is served; API keys keep working.",
        "storekeep-server rotate-secret",
        run_rotate_secret,
        (Argument("--finish", "forget the secret before: keys that were not used since stop working", flag=True),),
    ),
    "bootstrap-admin": Command(
        "Make a key for the administrator, where there is no account yet.",
        "storekeep-server bootstrap-admin --force",
        run_bootstrap_admin,
        (
            Argument("--force", "make another key although there are accounts, for an owner locked out", flag=True),
            Argument(
                "--new-secret",
                "where the server's secret is lost: go on with another; ends all API keys, sessions and signing keys",
                flag=True,
            ),
        ),
    ),
    "healthcheck": Command(
        "Ask a running server whether it takes calls.",
        "storekeep-server healthcheck --service liveness",
        run_healthcheck,
        (
            Argument(
                "--address", "ask over the network; when not given, the server of STOREKEEP_DATA_DIR, on its own socket"
            ),
            Argument("--service", "full name of one service, or `liveness`; all together when not given"),
            Argument("--each-worker", "ask each of several workers too, on this machine", flag=True),
        ),
    ),
    "config": Command(
        "Print the settings in force and where each comes from, or check them, and what they name, for weaknesses.",
        "STOREKEEP_CONFIG_FILE=storekeep.toml storekeep-server config check",
        run_config,
        (
            Argument("action", "what to do with them", choices=("print", "check")),
            Argument("--strict", "with `check`: exit with 1 where there is a warning", flag=True),
        ),
    ),
}


class Parser(argparse.ArgumentParser):
    """A parser whose complaint is one line, as every other refusal."""

    def error(self, message: str) -> NoReturn:
        """Say what is wrong with the command line and exit."""
        complain(f"{message} (see {self.prog} --help)")
        sys.exit(WRONG_USE)


def make_parser() -> argparse.ArgumentParser:
    """The parser of the command line; help ends in an example."""
    top = Parser(
        prog="storekeep-server",
        description="The server of Storekeep. Its settings are STOREKEEP_* variables: see `config print`.",
        epilog="Example: storekeep-server migrate && storekeep-server serve",
    )
    choices = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, command in COMMANDS.items():
        one = choices.add_parser(
            name, help=command.summary, description=command.summary, epilog=f"Example: {command.example}"
        )
        for argument in command.arguments:
            if argument.flag:
                one.add_argument(argument.name, help=argument.help, action="store_true")
            else:
                one.add_argument(argument.name, help=argument.help, choices=argument.choices)
    return top
