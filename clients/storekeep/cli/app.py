"""The command line application: registers the command groups and maps errors to one line and an exit code.

Tracebacks are printed only if STOREKEEP_DEBUG is set: an unexpected error is reported in one line too.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from difflib import get_close_matches
from importlib import metadata
from typing import Annotated

import typer

from storekeep.cli.accounts import add_accounts
from storekeep.cli.audit import add_audit
from storekeep.cli.categories import add_categories
from storekeep.cli.cells import replace_unprintable
from storekeep.cli.customers import add_customers
from storekeep.cli.exits import MEANINGS, Exit, get_exit_code
from storekeep.cli.fulfillments import add_fulfillments
from storekeep.cli.health import add_health
from storekeep.cli.imports.commands import add_imports
from storekeep.cli.inventory import add_inventory
from storekeep.cli.keys import add_keys
from storekeep.cli.login import add_login
from storekeep.cli.logins import LoginUnreadable
from storekeep.cli.orders import add_orders
from storekeep.cli.products import add_products
from storekeep.cli.reservations import add_reservations
from storekeep.cli.screens import OutputClosed
from storekeep.cli.variants import add_variants
from storekeep.client import StorekeepError

GROUPS = (
    add_login,
    add_products,
    add_variants,
    add_categories,
    add_inventory,
    add_reservations,
    add_customers,
    add_orders,
    add_fulfillments,
    add_audit,
    add_accounts,
    add_keys,
    add_health,
    add_imports,
)

SIMILARITY_MIN = 0.75
"""Minimum similarity for an option to be suggested, where 1 is equality: `--limt` and `--limit` have 0.92."""
EXAMPLE = "storekeep login --address 127.0.0.1:50051 --api-key-file var/admin.key"


def new_app() -> typer.Typer:
    """Create the command line with all its groups."""
    codes = "  ".join(f"{code.value} {meaning}." for code, meaning in MEANINGS.items())
    app = typer.Typer(
        no_args_is_help=True,
        invoke_without_command=True,
        epilog=f"Exit codes: {codes}\n\nExample: {EXAMPLE}",
        pretty_exceptions_enable=False,
    )
    app.callback()(show_help_or_version)
    for add in GROUPS:
        add(app)
    return app


def show_help_or_version(
    version: Annotated[bool, typer.Option("--version", is_eager=True, help="Show the version and exit.")] = False,
) -> None:
    """Manage products, stock, customers and orders from the command line.

    Start with `storekeep login`. The --help of each command lists its options and ends with an example.
    """
    if version:
        typer.echo(f"storekeep {metadata.version('storekeep')}")
        raise typer.Exit


def main() -> None:
    """Run the command line and exit: the entry point `storekeep`."""
    try:
        code = new_app()(prog_name="storekeep", standalone_mode=False)
        sys.exit(code if isinstance(code, int) else Exit.OK)
    except typer.TyperException as error:
        _exit_with_usage_error(error)
    except StorekeepError as error:
        _exit_with_error(str(error), get_exit_code(error))
    except LoginUnreadable as error:
        _exit_with_error(str(error), Exit.USAGE)
    except typer.Abort:
        _exit_with_error("aborted", Exit.INTERRUPTED)
    except OutputClosed:
        _drop_output()
        sys.exit(Exit.OK)
    except OSError as error:
        _drop_output()
        _exit_with_error(f"cannot use {error.filename or 'standard output'}: {error.strerror or error}", Exit.REFUSED)
    except UnicodeEncodeError as error:
        _exit_with_error(f"{error.object!a} on the command line is not UTF-8", Exit.USAGE)
    except Exception as error:
        if os.environ.get("STOREKEEP_DEBUG"):
            raise
        text = f"unexpected error, {type(error).__name__}: {error} (set STOREKEEP_DEBUG=1 for a traceback)"
        _exit_with_error(text, Exit.REFUSED)


def _exit_with_usage_error(error: typer.TyperException) -> None:
    """Report a usage error in one line. For a group without a command, the help has already been printed."""
    context: typer.Context | None = getattr(error, "ctx", None)
    hint = f" (see {context.command_path} --help)" if context is not None else ""
    option: str = getattr(error, "option_name", "")
    text = _describe_unknown(option, getattr(error, "possibilities", None)) if option else error.format_message()
    if text.strip():
        _exit_with_error(f"{text.rstrip('.')}{hint}", Exit.USAGE)
    sys.exit(Exit.USAGE)


def _describe_unknown(option: str, existing: Sequence[str] | None) -> str:
    """Return a message about an unknown option. Suggest another only if it looks like a typing error."""
    close = get_close_matches(option, existing or (), n=1, cutoff=SIMILARITY_MIN)
    return f"No such option: {option}" + "".join(f"; did you mean {similar}?" for similar in close)


def _exit_with_error(text: str, code: Exit) -> None:
    line = " ".join(replace_unprintable(text).split())
    sys.stderr.write(f"storekeep: {line}\n")
    sys.exit(code)


def _drop_output() -> None:
    """Redirect stdout to the null device, so that the interpreter's final flush does not fail."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
