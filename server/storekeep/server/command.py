"""The `storekeep-server` command: serves, migrates, backs up, restores, verifies and examines.

Every error is one line on standard error. Exit codes: 0 success; 1 failure, or a check that found a problem;
2 usage error or invalid settings; 3 warnings of `doctor`. `__main__` adds those of signals. A command imports what it
needs, and the help none of it: importing everything takes a second.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import partial
from importlib import import_module, metadata
from typing import Any, NoReturn, cast

from storekeep.server.commands.exits import FAILED, USAGE_ERROR
from storekeep.server.process.lines import print_error

TYPE_CHECKING = False
if TYPE_CHECKING:
    from storekeep.server.config import LoadedSettings

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
    """A command: its summary, a working example, and its function in `storekeep.server.commands`."""

    summary: str
    example: str
    function: str
    arguments: tuple[Argument, ...] = ()

    def load(self) -> Callable[[LoadedSettings, argparse.Namespace], int]:
        """Import the function that runs the command and returns the exit code."""
        module, _, name = self.function.partition(".")
        return cast(
            "Callable[[LoadedSettings, argparse.Namespace], int]",
            getattr(import_module(f"storekeep.server.commands.{module}"), name),
        )


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command and exit."""
    sys.exit(run(arguments))


def run(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code.

    Args:
        arguments: without the program's name (default: those of the process).
    """
    return prepare(arguments)()


def prepare(arguments: Sequence[str] | None = None) -> Callable[[], int]:
    """Parse the command line and import the command. Return a function that runs it and returns its exit code.

    Exits if the help was requested, or for a usage error.
    """
    args = make_parser().parse_args(arguments)
    return partial(_run, COMMANDS[args.command].load(), args)


def _run(command: Callable[[LoadedSettings, argparse.Namespace], int], args: argparse.Namespace) -> int:
    from storekeep.server.config import InvalidSettings, load_settings

    settings = {name: value for name in SETTING_ARGUMENTS if (value := getattr(args, name, None))}
    try:
        return command(load_settings(arguments=settings), args)
    except InvalidSettings as error:
        if args.command == "doctor":
            from storekeep.server.commands.examinations import report_settings

            return report_settings(error, args)
        for problem in error.problems:
            print_error(problem)
        return USAGE_ERROR
    except Exception as error:
        from storekeep.server.commands.errors import REPORTED_ERRORS
        from storekeep.server.process.signals import describe_error

        if not isinstance(error, REPORTED_ERRORS):
            raise
        print_error(describe_error(error))
        return FAILED


COMMANDS: dict[str, Command] = {
    "serve": Command(
        "Serve gRPC. SIGTERM or Ctrl-C shuts down gracefully, a later one at once. SIGHUP reloads the settings.",
        "STOREKEEP_LISTEN=127.0.0.1:50051 storekeep-server serve",
        "serving.run_serve",
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
        "Create the database or migrate it to the schema of this release.",
        "storekeep-server migrate",
        "databases.run_migrate",
    ),
    "backup": Command(
        "Back up a SQLite database to a new file, and its data keys to another, also while it is being served.",
        "storekeep-server backup monday.db",
        "databases.run_backup",
        (Argument("file", "path of the new backup; must not exist", "FILE"),),
    ),
    "restore": Command(
        "Replace a SQLite database by a backup that `verify` accepts, keeping the previous one. Stop the server first.",
        "storekeep-server restore monday.db",
        "integrity.run_restore",
        (
            Argument("file", "path of a backup made by `backup`, or of a scheduled one", "FILE"),
            Argument("--keys", "path of its data keys (default: the newest file *.keys beside it)", "FILE"),
            Argument("--without-keys", "restore it without its data keys, and lose all personal data"),
            Argument("--unverified", "restore it although a check of `verify` fails, if there is no other"),
        ),
    ),
    "verify": Command(
        "Check the integrity of the database and every invariant, including the audit log.",
        "storekeep-server verify --since monday.checkpoint",
        "integrity.run_verify",
        (Argument("--since", "path of an exported checkpoint that the audit log must contain", "FILE"),),
    ),
    "reindex": Command(
        "Rebuild the text indexes and search documents of products and customers, also while the database is served.",
        "storekeep-server reindex",
        "integrity.run_reindex",
    ),
    "export-checkpoint": Command(
        "Sign the head of the audit log and write the checkpoint to a file. Keep the file off this host.",
        "storekeep-server export-checkpoint monday.checkpoint",
        "keys.run_export_checkpoint",
        (Argument("file", "path of the checkpoint", "FILE"),),
    ),
    "rotate-secret": Command(
        "Rotate the server secret while the database is being served. API keys keep working.",
        "storekeep-server rotate-secret",
        "keys.run_rotate_secret",
        (
            Argument("--finish", "delete the previous secret if no API key needs it any more"),
            Argument("--force", "with --finish: delete it even if API keys stop working"),
        ),
    ),
    "rotate-kek": Command(
        "Rotate the key-encryption key of personal data while the database is being served. It can be repeated.",
        "storekeep-server rotate-kek",
        "keys.run_rotate_kek",
        (
            Argument("--finish", "delete the previous key-encryption key if no data key needs it any more"),
            Argument("--force", "with --finish: delete it even if the newest keys file of the backups needs it"),
        ),
    ),
    "give-up-keys": Command(
        "Show which personal data a lost key-encryption key has made unreadable, or with `--yes` go on without it.",
        "storekeep-server give-up-keys",
        "personal_data.run_give_up_keys",
        (Argument("--yes", "give it up for good; the server can start again then"),),
    ),
    "retention": Command(
        "Show which customers the retention rules would erase now. The server applies the rules by itself.",
        "STOREKEEP_CUSTOMER_RETENTION_DAYS=1095 storekeep-server retention",
        "personal_data.run_retention",
        (Argument("--yes", "erase them now"),),
    ),
    "bootstrap-admin": Command(
        "Create an API key for the administrator if there are no accounts yet.",
        "storekeep-server bootstrap-admin --force",
        "keys.run_bootstrap_admin",
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
        "health.run_healthcheck",
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
        "examinations.run_doctor",
        (Argument("--json", "print one JSON object for programs"),),
    ),
    "config": Command(
        "Print the effective settings with their origins, or check the settings and their files for weaknesses.",
        "STOREKEEP_CONFIG_FILE=storekeep.toml storekeep-server config check",
        "settings.run_config",
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
