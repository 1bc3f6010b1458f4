"""The `storekeep-server` command: serves, migrates, backs up, restores, verifies and examines.

Every error is one line on standard error. Exit codes: 0 success; 1 failure, or a check that found a problem;
2 usage error or invalid settings; 3 warnings of `doctor`. `__main__` adds those of signals.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from difflib import get_close_matches
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any, NoReturn

from storekeep.server.config import InvalidSettings, LoadedSettings, Settings, is_address, load_settings
from storekeep.server.domain.access.server_secrets import SecretInUse
from storekeep.server.domain.audit.checkpoints import InvalidCheckpoint, sign_head
from storekeep.server.domain.audit.checkpoints import find_latest_checkpoint as latest_checkpoint
from storekeep.server.domain.audit.checkpoints import format_checkpoint as write_checkpoint
from storekeep.server.domain.audit.checkpoints import parse_checkpoint as read_checkpoint
from storekeep.server.domain.integrity.copies import verify_copy
from storekeep.server.domain.integrity.search_documents import rebuild_documents
from storekeep.server.domain.integrity.verification import verify
from storekeep.server.domain.keys.audit_chain import AuditChain
from storekeep.server.process.addresses import check_addresses
from storekeep.server.process.console import print_admin_key_path, print_line, replace_unprintable, write_admin_key
from storekeep.server.process.doctor.examinations import examine, report_invalid_settings
from storekeep.server.process.doctor.findings import EXIT_CODES, Finding, find_worst, format_json, format_text
from storekeep.server.process.healthcheck import SERVING, probe_address, probe_server, probe_workers
from storekeep.server.process.inspections import inspect
from storekeep.server.process.obstacles import find_obstacles
from storekeep.server.process.rotations import finish_rotation, start_rotation
from storekeep.server.process.serving import serve
from storekeep.server.process.signals import STARTUP_ERRORS, describe_error
from storekeep.server.runtime.input_files import read_file_or_pipe
from storekeep.server.runtime.secrets import SECRET_FILE, RotationRefused
from storekeep.server.store.backups import BackupRefused, back_up, restore
from storekeep.server.store.opening import open_store
from storekeep.server.store.schema import check_schema, list_pending_migrations, migrate
from storekeep.server.store.urls import hide_password, parse_sqlite_path
from storekeep.server.supervision.supervisor import WorkerFailed, supervise
from storekeep.server.transport.contract import read_contract
from storekeep.server.wiring.access import (
    lock_secret_files,
    make_access,
    make_admin_key,
    read_keyring,
)

VERIFY_TIMEOUT_S = 3_600.0
"""Statement timeout of `verify` on PostgreSQL, in seconds. A check may read a whole table."""
DUMP_ADVICE = "back up PostgreSQL with pg_dump or pg_basebackup"
LOAD_ADVICE = "restore PostgreSQL with pg_restore"
DONE = 0
FAILED = 1
USAGE_ERROR = 2
HEADINGS = {"positional arguments": "Arguments", "options": "Options", "commands": "Commands"}
"""Headings of argparse, and those of the help."""
SETTING_ARGUMENTS = ("workers",)
"""Command-line arguments that override the setting of the same name."""


@dataclass(frozen=True, slots=True)
class Argument:
    """An argument of a command, as argparse defines it. Without a placeholder, an option is a flag."""

    name: str
    help: str
    placeholder: str = ""
    choices: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class Command:
    """A command: its summary, a working example, and the function that runs it and returns the exit code."""

    summary: str
    example: str
    run: Callable[[LoadedSettings, argparse.Namespace], int]
    arguments: tuple[Argument, ...] = ()


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command and exit."""
    sys.exit(run(arguments))


def run(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code.

    Args:
        arguments: without the program's name (default: those of the process).
    """
    args = make_parser().parse_args(arguments)
    settings = {name: value for name in SETTING_ARGUMENTS if (value := getattr(args, name, None))}
    try:
        return COMMANDS[args.command].run(load_settings(arguments=settings), args)
    except InvalidSettings as error:
        if args.command == "doctor":
            return _print_findings(report_invalid_settings(error.problems), args)
        for problem in error.problems:
            print_error(problem)
        return USAGE_ERROR
    except (*STARTUP_ERRORS, BackupRefused, InvalidCheckpoint, RotationRefused, SecretInUse, WorkerFailed) as error:
        print_error(describe_error(error))
        return FAILED


def print_error(line: str) -> None:
    """Print one line to standard error."""
    print(f"storekeep-server: {replace_unprintable(line)}", file=sys.stderr)  # noqa: T201 - output of the command


def run_serve(loaded: LoadedSettings, args: argparse.Namespace) -> int:
    """Serve until a signal requests shutdown."""
    address_file = Path(args.address_file) if args.address_file else None
    serve_all = serve if loaded.settings.workers == 1 else supervise
    if args.migrate:
        check_addresses(loaded.settings)
        run_migrate(loaded, args)
    serve_all(loaded, sample=args.sample, address_file=address_file)
    return DONE


def run_migrate(loaded: LoadedSettings, _args: argparse.Namespace) -> int:
    """Create the database or migrate it to the schema of this release."""
    url = loaded.settings.database
    applied = migrate(url)
    print_line(
        f"{hide_password(url)}: applied {', '.join(applied)}." if applied else f"{hide_password(url)}: nothing to do."
    )
    return DONE


def run_backup(loaded: LoadedSettings, args: argparse.Namespace) -> int:
    """Back up the SQLite database while it is being served."""
    size_bytes = back_up(_require_sqlite_path(loaded.settings, advice=DUMP_ADVICE), to=Path(args.file))
    print_line(f"{args.file}: {size_bytes} bytes.")
    if not loaded.settings.secret.get_secret_value():
        secret_file = loaded.settings.data_dir / SECRET_FILE
        print_line(f"Back up {secret_file} separately: without it all API keys are invalid.")
    return DONE


def run_restore(loaded: LoadedSettings, args: argparse.Namespace) -> int:
    """Replace the SQLite database by a backup."""
    path = _require_sqlite_path(loaded.settings, advice=LOAD_ADVICE)
    chain = _read_audit_chain(loaded.settings)
    is_verified = False

    def verify_new(new: Path) -> None:
        nonlocal is_verified
        is_verified = not args.unverified and verify_copy(new, chain)

    previous = restore(Path(args.file), database=path, verify=verify_new)
    print_line(f"Restored {path} from {args.file}." + (f" The previous database is {previous}." if previous else ""))
    pending = list_pending_migrations(loaded.settings.database)
    if pending:
        print_line(f"Pending migrations: {', '.join(pending)}; run: storekeep-server migrate")
    if not is_verified:
        print_line("The backup was not verified; run: storekeep-server verify")
    return DONE


def _require_sqlite_path(settings: Settings, *, advice: str) -> Path:
    """Return the path of the SQLite database.

    Raises: BackupRefused, with `advice`, for PostgreSQL.
    """
    path = parse_sqlite_path(settings.database)
    if path is None:
        raise BackupRefused(f"{hide_password(settings.database)} is not a SQLite database; {advice}")
    return path


def run_verify(loaded: LoadedSettings, args: argparse.Namespace) -> int:
    """Check every invariant of the database and print the result of each."""
    url = loaded.settings.database
    since = read_checkpoint(read_file_or_pipe(Path(args.since))) if args.since else None
    check_schema(url)
    limits = dataclasses.replace(loaded.settings.database_limits, pool_size=1, statement_timeout_s=VERIFY_TIMEOUT_S)
    with closing(open_store(url, limits=limits)) as store:
        findings = verify(store, _read_audit_chain(loaded.settings), since=since)
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
        count = rebuild_documents(store)
    print_line(f"{hide_password(settings.database)}: rebuilt the text indexes; {count} documents were out of date.")
    return DONE


def _read_audit_chain(settings: Settings) -> AuditChain | None:
    """Return the audit chain, or None if there is no secret, which `verify` must not create."""
    try:
        return AuditChain(read_keyring(settings))
    except FileNotFoundError:
        return None


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
    Path(args.file).write_text(write_checkpoint(checkpoint))
    print_line(f"{args.file}: {checkpoint.sequence} entries, head {checkpoint.head_hash.hex()}. Keep it off this host.")
    return DONE


def run_rotate_secret(loaded: LoadedSettings, args: argparse.Namespace) -> int:
    """Rotate the server secret, or with `--finish` delete the previous one. Only one process does so at a time."""
    settings = loaded.settings
    if args.force and not args.finish:
        print_error("--force belongs to --finish: a rotation alone invalidates no key")
        return USAGE_ERROR
    check_schema(settings.database)
    with lock_secret_files(settings), closing(open_store(settings.database, limits=settings.database_limits)) as store:
        lines = finish_rotation(settings, store, force=args.force) if args.finish else start_rotation(settings, store)
    for line in lines:
        print_line(line)
    return DONE


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


def run_config(loaded: LoadedSettings, args: argparse.Namespace) -> int:
    """Print the effective settings, or print what keeps `serve` from starting with them, and a warning per weakness."""
    if args.action == "print":
        for line in loaded.lines():
            print_line(line)
        return DONE
    obstacles, findings = find_obstacles(loaded), inspect(loaded)
    if not obstacles:
        print_line("The settings are valid.")
    for obstacle in obstacles:
        print_error(obstacle)
    for finding in findings:
        print_error(f"warning: {finding}")
    return FAILED if obstacles or (findings and args.strict) else DONE


def run_doctor(loaded: LoadedSettings, args: argparse.Namespace) -> int:
    """Examine the installation and print what is wrong, why it matters and what to do."""
    return _print_findings(examine(loaded), args)


def _print_findings(findings: list[Finding], args: argparse.Namespace) -> int:
    for line in [format_json(findings)] if args.json else format_text(findings):
        print_line(line)
    return EXIT_CODES[find_worst(findings)]


COMMANDS: dict[str, Command] = {
    "serve": Command(
        "Serve gRPC. SIGTERM or Ctrl-C shuts down gracefully, a second one at once. SIGHUP reloads the settings.",
        "STOREKEEP_LISTEN=127.0.0.1:50051 storekeep-server serve",
        run_serve,
        (
            Argument("--migrate", "first create the database, or migrate it to the schema of this release"),
            Argument("--sample", "load a sample catalogue into an empty database and print first commands"),
            Argument(
                "--workers",
                "number of worker processes, or `auto`: one per core (default: STOREKEEP_WORKERS)",
                "NUMBER",
            ),
            Argument("--address-file", "write the address to this file once the server listens", "FILE"),
        ),
    ),
    "migrate": Command(
        "Create the database or migrate it to the schema of this release.", "storekeep-server migrate", run_migrate
    ),
    "backup": Command(
        "Back up a SQLite database to a new file, consistently, also while it is being served.",
        "storekeep-server backup monday.db",
        run_backup,
        (Argument("file", "path of the new backup; must not exist", "FILE"),),
    ),
    "restore": Command(
        "Replace a SQLite database by a backup that `verify` accepts, keeping the previous one. Stop the server first.",
        "storekeep-server restore monday.db",
        run_restore,
        (
            Argument("file", "path of a backup made by `backup`, or of a scheduled one", "FILE"),
            Argument("--unverified", "restore it although a check of `verify` fails, if there is no other"),
        ),
    ),
    "verify": Command(
        "Check the integrity of the database and every invariant, including the audit log.",
        "storekeep-server verify --since monday.checkpoint",
        run_verify,
        (Argument("--since", "path of an exported checkpoint that the audit log must contain", "FILE"),),
    ),
    "reindex": Command(
        "Rebuild the text indexes and search documents of products and customers, also while the database is served.",
        "storekeep-server reindex",
        run_reindex,
    ),
    "export-checkpoint": Command(
        "Sign the head of the audit log and write the checkpoint to a file. Keep the file off this host.",
        "storekeep-server export-checkpoint monday.checkpoint",
        run_export_checkpoint,
        (Argument("file", "path of the checkpoint", "FILE"),),
    ),
    "rotate-secret": Command(
        "Rotate the server secret while the database is being served. API keys keep working.",
        "storekeep-server rotate-secret",
        run_rotate_secret,
        (
            Argument("--finish", "delete the previous secret if no API key needs it any more"),
            Argument("--force", "with --finish: delete it even if API keys stop working"),
        ),
    ),
    "bootstrap-admin": Command(
        "Create an API key for the administrator if there are no accounts yet.",
        "storekeep-server bootstrap-admin --force",
        run_bootstrap_admin,
        (
            Argument("--force", "create another key even if accounts exist, to recover access"),
            Argument(
                "--new-secret",
                "replace a lost server secret; invalidates all API keys, sessions and signing keys",
            ),
        ),
    ),
    "healthcheck": Command(
        "Check whether a running server accepts calls.",
        "storekeep-server healthcheck --service liveness",
        run_healthcheck,
        (
            Argument(
                "--address",
                "check the server at this address only (default: the server with these settings: its Unix socket in "
                "STOREKEEP_DATA_DIR, then whether its port accepts connections)",
                "HOST:PORT",
            ),
            Argument("--service", "full name of a service, or `liveness` (default: the server as a whole)", "NAME"),
            Argument("--each-worker", "also check each worker on this host"),
        ),
    ),
    "doctor": Command(
        "Examine the installation: what is wrong, why it matters, what to do. Exit code 1 for errors, 3 for warnings.",
        "storekeep-server doctor --json",
        run_doctor,
        (Argument("--json", "print one JSON object for programs"),),
    ),
    "config": Command(
        "Print the effective settings with their origins, or check the settings and their files for weaknesses.",
        "STOREKEEP_CONFIG_FILE=storekeep.toml storekeep-server config check",
        run_config,
        (
            Argument("action", "action to perform", "ACTION", choices=("print", "check")),
            Argument("--strict", "with `check`: exit with 1 if there is a warning"),
        ),
    ),
}


class HelpFormatter(argparse.HelpFormatter):
    """Formats help with the headings of `storekeep`, the command line of the client."""

    def add_usage(self, usage: Any, actions: Any, groups: Any, prefix: str | None = None) -> None:
        """Add the usage line."""
        super().add_usage(usage, actions, groups, "Usage: " if prefix is None else prefix)

    def start_section(self, heading: str | None) -> None:
        """Start a section with a capitalized heading."""
        super().start_section(HEADINGS.get(heading or "", heading))


class Parser(argparse.ArgumentParser):
    """An argument parser that reports a usage error in one line, and suggests the command that was meant."""

    def __init__(self, **options: Any) -> None:
        super().__init__(formatter_class=HelpFormatter, add_help=False, allow_abbrev=False, **options)
        self.add_argument("-h", "--help", action="help", help="show this message and exit")

    def error(self, message: str) -> NoReturn:
        """Print a usage error and exit."""
        print_error(f"{message} (see {self.prog} --help)")
        sys.exit(USAGE_ERROR)

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        """Reject a value that is not a choice, with a suggestion."""
        if action.choices is not None and value not in action.choices:
            kind = "command" if action.dest == "command" else action.dest
            close = get_close_matches(str(value), list(action.choices), n=1)
            hint = f"did you mean {close[0]}?" if close else f"choose from {', '.join(action.choices)}"
            self.error(f"no such {kind}: {value}; {hint}")


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line. Each help text ends in an example."""
    root = Parser(
        prog="storekeep-server",
        description="The Storekeep server. Configure it with STOREKEEP_* variables; `config print` shows them.",
        epilog="Example: storekeep-server migrate && storekeep-server serve",
    )
    version = f"storekeep-server {metadata.version('storekeep')}"
    root.add_argument("--version", action="version", version=version, help="show the version and exit")
    subparsers = root.add_subparsers(dest="command", required=True, metavar="COMMAND", title="commands")
    for name, command in COMMANDS.items():
        parser = subparsers.add_parser(
            name, help=command.summary, description=command.summary, epilog=f"Example: {command.example}"
        )
        for argument in command.arguments:
            if argument.placeholder:
                parser.add_argument(
                    argument.name, help=argument.help, choices=argument.choices, metavar=argument.placeholder
                )
            else:
                parser.add_argument(argument.name, help=argument.help, action="store_true")
    return root
