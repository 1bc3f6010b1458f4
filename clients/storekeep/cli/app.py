"""The command line application: loads the command that is named, and maps errors to one line and an exit code.

Tracebacks are printed only if STOREKEEP_DEBUG is set: an unexpected error is reported in one line too.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Sequence
from difflib import get_close_matches
from typing import Annotated, Any, NoReturn

import typer

from storekeep.cli.coercion import install_converters
from storekeep.cli.exits import MEANINGS, Exit, OutputClosed, get_exit_code
from storekeep.cli.files import describe_os_error
from storekeep.cli.groups import LazyCommands, is_shared_option
from storekeep.cli.texts import replace_unprintable

SIMILARITY_MIN = 0.75
"""Minimum similarity for an option to be suggested, where 1 is equality: `--limt` and `--limit` have 0.92."""
NEGATIVE_NUMBER = re.compile(r"-[0-9][0-9.,]*")
NO_OPTION = "Invalid value: "
"""What typer writes before a problem that belongs to no single option, such as a missing one."""
NO_COMMAND = "NoArgsIsHelpError"
"""Name of typer's error for a group without a command. Its message is the help."""
EXAMPLE = "storekeep login --address 127.0.0.1:50051 --api-key-file var/admin.key"


def new_app() -> typer.Typer:
    """Create the command line with all its groups."""
    install_converters()
    codes = "  ".join(f"{code.value} {meaning}." for code, meaning in MEANINGS.items())
    app = typer.Typer(
        cls=LazyCommands,
        rich_markup_mode=None,
        no_args_is_help=True,
        invoke_without_command=True,
        context_settings={"help_option_names": ["-h", "--help"]},
        epilog=f"Exit codes: {codes}\n\nExample: {EXAMPLE}",
        pretty_exceptions_enable=False,
    )
    app.callback()(show_help_or_version)
    return app


def show_help_or_version(
    version: Annotated[bool, typer.Option("--version", is_eager=True, help="Show the version and exit.")] = False,
) -> None:
    """Manage products, stock, customers and orders from the command line.

    Start with `storekeep login`. The --help of each command lists its options and ends with an example.
    """
    if version:
        from importlib import metadata

        typer.echo(f"storekeep {metadata.version('storekeep')}")
        raise typer.Exit


def main() -> None:
    """Run the command line and exit: the entry point `storekeep`."""
    _check_streams()
    try:
        code = new_app()(prog_name="storekeep", standalone_mode=False)
        sys.exit(code if isinstance(code, int) else Exit.OK)
    except typer.TyperException as error:
        _exit_with_usage_error(error)
    except typer.Abort:
        _exit_with_error("aborted", Exit.INTERRUPTED)
    except OutputClosed:
        _drop_output()
        sys.exit(Exit.OK)
    except OSError as error:
        _drop_output()
        problem = describe_os_error(error)
        _exit_with_error(f"cannot use {error.filename or 'standard output'}: {problem}", Exit.REFUSED)
    except UnicodeEncodeError as error:
        _exit_with_error(f"{error.object!a} on the command line is not UTF-8", Exit.USAGE)
    except Exception as error:  # noqa: BLE001 - reported in one line
        _exit_with_exception(error)


def _check_streams() -> None:
    """Open closed stdin and stderr on the null device. Exit if stdout is closed, before anything is sent.

    Python sets a closed stream to None.
    """
    if sys.stdin is None:
        sys.stdin = os.fdopen(os.open(os.devnull, os.O_RDONLY))
    if sys.stderr is None:
        sys.stderr = os.fdopen(os.open(os.devnull, os.O_WRONLY), "w")
    if sys.stdout is None:
        _exit_with_error("cannot use standard output: it is closed", Exit.REFUSED)


def _exit_with_exception(error: Exception) -> NoReturn:
    """Report an error of the client or of the login file, or an unexpected one."""
    from storekeep.cli.logins import LoginUnreadable
    from storekeep.client import StorekeepError

    if isinstance(error, StorekeepError):
        _exit_with_error(str(error), get_exit_code(error))
    if isinstance(error, LoginUnreadable):
        _exit_with_error(str(error), Exit.USAGE)
    if os.environ.get("STOREKEEP_DEBUG"):
        raise error
    text = f"unexpected error, {type(error).__name__}: {error} (set STOREKEEP_DEBUG=1 for a traceback)"
    _exit_with_error(text, Exit.REFUSED)


def _exit_with_usage_error(error: typer.TyperException) -> NoReturn:
    """Report a usage error in one line. For a group without a command, print its help."""
    context: typer.Context | None = getattr(error, "ctx", None)
    if type(error).__name__ == NO_COMMAND:
        sys.stdout.write(f"{error.format_message()}\n")
        sys.exit(Exit.USAGE)
    hint = f" (see {context.command_path} --help)" if context is not None else ""
    option: str = getattr(error, "option_name", "")
    if option and context is not None and context.parent is None and is_shared_option(option):
        text = f"put {option} after the command, as in: storekeep products list {option} ..."
    elif option and context is not None and (command := _find_command(context.command, option)):
        text = f"put {option} after the command, as in: {context.command_path} {command} {option}"
    elif option and context is not None and (number := _find_negative_number(option)):
        text = _describe_negative(number, context.command.params)
    elif option and hasattr(error, "possibilities"):
        text = _describe_unknown(option, error.possibilities)
    elif option:
        text = _describe_misuse(option, error.format_message())
    else:
        text = error.format_message()
    problem = text.removeprefix(NO_OPTION)
    start = problem[0] if problem != text else text[0].lower()
    _exit_with_error(f"{start}{problem[1:].rstrip('.')}{hint}", Exit.USAGE)


def _find_command(group: Any, option: str) -> str:
    """Return the first command of a group that has an option; empty if there is none, or for a command."""
    commands = getattr(group, "commands", {}).items()
    return next((name for name, one in commands if any(option in parameter.opts for parameter in one.params)), "")


def _find_negative_number(option: str) -> str:
    """Return the negative number on the command line that was taken for an option such as `-5`; empty without one."""
    numbers = (word for word in sys.argv[1:] if NEGATIVE_NUMBER.fullmatch(word))
    return next((number for number in numbers if number.startswith(option)), "")


def _describe_negative(number: str, parameters: Sequence[Any]) -> str:
    """Return a message about a negative number, with the way to write it in the command."""
    by = f"--by {number} or " if any("--by" in parameter.opts for parameter in parameters) else ""
    return f"{number} looks like an option; for a negative number, write {by}-- {number}"


def _describe_unknown(option: str, existing: Sequence[str] | None) -> str:
    """Return a message about an unknown option. Suggest another only if it looks like a typing error."""
    close = get_close_matches(option, existing or (), n=1, cutoff=SIMILARITY_MIN)
    return f"no such option: {option}" + "".join(f"; did you mean {similar}?" for similar in close)


def _describe_misuse(option: str, text: str) -> str:
    """Return a message about a known option that has no value, or has one although it takes none."""
    return f"option {option} needs a value" if text.endswith("requires an argument.") else text


def _exit_with_error(text: str, code: Exit) -> NoReturn:
    from storekeep.client.error_lines import shorten_line

    line = shorten_line(" ".join(replace_unprintable(text).split()))
    sys.stderr.write(f"storekeep: {line}\n")
    sys.exit(code)


def _drop_output() -> None:
    """Redirect stdout to the null device, so that the interpreter's final flush does not fail."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
