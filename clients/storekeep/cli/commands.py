"""Registration of commands, with the connection and output options that all of them share.

A command is a function of a `Session` and its own arguments. `command` adds the shared options and an example.
"""

from __future__ import annotations

import functools
import gc
import inspect
import sys
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Annotated, Any, Concatenate, ParamSpec

import typer

from storekeep.cli.addresses import ADDRESS, build_address, declare_address_options, list_address_parts
from storekeep.cli.advice import add_advice
from storekeep.cli.exits import OutputClosed
from storekeep.cli.outputs import OutputFormat
from storekeep.cli.prompts import PromptingCommand
from storekeep.cli.sessions import Session, Settings
from storekeep.client import DEFAULT_TIMEOUT_S, StorekeepError
from storekeep.imports.field_names import name_options

P = ParamSpec("P")

PANEL = "Connection and output"

Limit = Annotated[int, typer.Option("--limit", min=0, help="Maximum number of results; 0 shows all.")]
OrderBy = Annotated[
    str,
    typer.Option(
        "--order-by", help="Field to sort by, followed by `desc` for descending order. An unknown one lists all."
    ),
]
Total = Annotated[bool, typer.Option("--total", help="Also print the number of results without the limit.")]
Deleted = Annotated[bool, typer.Option("--deleted", help="Include deleted resources.")]
Etag = Annotated[str, typer.Option("--etag", help="Fail unless this is the current etag.")]
Label = Annotated[
    list[str] | None, typer.Option("--label", metavar="KEY=VALUE", help="Label for your own use. May be repeated.")
]
Yes = Annotated[bool, typer.Option("--yes", help="Apply the changes (default for more than one name: dry run).")]
State = Annotated[
    str, typer.Option("--state", metavar="STATE", help="Only resources in this state, such as active or placed.")
]

INTERVAL_S = 2.0
"""Default time between two runs of `--watch` in seconds, as of `watch`."""
LIMIT = 100
"""Default number of resources in a list: about two screens."""


def make_filter_option(*examples: str) -> Any:
    """Return the option `--filter` of a list with examples that its server accepts."""
    shown = ", ".join(f"`{example}`" for example in examples)
    return typer.Option("--filter", help=f"Filter such as {shown}. Join terms with AND and OR; negate with -.")


def join_filters(user_filter: str, *command_filters: str) -> str:
    """Return the filters joined by AND, without empty ones.

    The user's filter comes first and without parentheses, so that positions in error messages refer to what the user
    typed. It needs no parentheses, because AND has the lowest precedence (AIP-160).
    """
    return " AND ".join(term for term in (user_filter.strip() and user_filter, *command_filters) if term)


def new_group(
    parent: typer.Typer,
    name: str,
    *,
    help: str,  # noqa: A002 - typer's name
    example: str,
) -> typer.Typer:
    """Create a command group, such as `storekeep products`. `example` is a full command line of one command."""
    group = typer.Typer(no_args_is_help=True, help=help, epilog=f"Example: {example}")
    parent.add_typer(group, name=name)
    return group


def command(
    group: typer.Typer,
    name: str,
    *,
    example: str,
    writes: bool = False,
    shows: bool = True,
    takes_address: bool = False,
    changes_address: bool = False,
    omitted: Collection[str] = (),
) -> Callable[[Callable[Concatenate[Session, P], None]], Callable[Concatenate[Session, P], None]]:
    """Return a decorator that registers a command.

    Args:
        example: a full command line.
        writes: add `--dry-run`.
        shows: without `writes`, add `--columns` and `--watch`. With changes, a wrong column would be rejected too late.
        takes_address: add the options of a postal address, which the command gets as `postal_address`.
        changes_address: add these options, which the command gets as a list of PART=VALUE.
        omitted: parameters of the function that are no options of this command; they keep their defaults.
    """

    def register(action: Callable[Concatenate[Session, P], None]) -> Callable[Concatenate[Session, P], None]:
        summary = (action.__doc__ or "").partition("\n")[0].partition(". ")[0].removesuffix(".") + "."
        group.command(name, cls=PromptingCommand, short_help=summary, epilog=f"Example: {example}")(
            _add_shared_options(
                action,
                writes=writes,
                shows=shows,
                read_address=build_address if takes_address else list_address_parts if changes_address else None,
                omitted=omitted,
            )
        )
        return action

    return register


def _declare_shared_options(
    *,
    address: Annotated[
        str | None,
        typer.Option(
            "--address",
            metavar="HOST:PORT",
            show_default="STOREKEEP_ADDRESS, or that of the login",
            help="Address of the server, or unix:/path.",
            rich_help_panel=PANEL,
        ),
    ] = None,
    output: Annotated[
        OutputFormat | None,
        typer.Option("--output", "-o", show_default="table", help="Format of the results.", rich_help_panel=PANEL),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Short for --output json.", rich_help_panel=PANEL)] = False,
    timeout_s: Annotated[
        float,
        typer.Option("--timeout", min=0.001, metavar="SECONDS", help="Deadline of each call.", rich_help_panel=PANEL),
    ] = DEFAULT_TIMEOUT_S,
    ca_file: Annotated[
        Path | None,
        typer.Option(
            "--ca-file",
            envvar="STOREKEEP_CLI_CA_FILE",
            metavar="PEM",
            help="Trusted CA certificates; enables TLS.",
            rich_help_panel=PANEL,
        ),
    ] = None,
    cert_file: Annotated[
        Path | None,
        typer.Option(
            "--cert-file",
            envvar="STOREKEEP_CLI_CERT_FILE",
            metavar="PEM",
            help="Client certificate (mTLS).",
            rich_help_panel=PANEL,
        ),
    ] = None,
    key_file: Annotated[
        Path | None,
        typer.Option(
            "--key-file",
            envvar="STOREKEEP_CLI_KEY_FILE",
            metavar="PEM",
            help="Private key of the client (mTLS).",
            rich_help_panel=PANEL,
        ),
    ] = None,
    plaintext: Annotated[
        bool,
        typer.Option("--plaintext", help="Disable TLS, also for a remote server.", rich_help_panel=PANEL),
    ] = False,
) -> None:
    """Declare in its signature the options that all commands share."""


def _declare_read_options(
    *,
    columns: Annotated[
        str,
        typer.Option(
            "--columns",
            metavar="FIELD,...",
            help="Fields to show, such as name,labels.KEY (default: chosen by the command).",
            rich_help_panel=PANEL,
        ),
    ] = "",
    watch: Annotated[
        bool,
        typer.Option("--watch", help="Show the result again whenever it changes, until Ctrl-C.", rich_help_panel=PANEL),
    ] = False,
    interval_s: Annotated[
        float,
        typer.Option(
            "--interval",
            min=0.5,
            max=86_400,
            metavar="SECONDS",
            help="Time between two looks with --watch.",
            rich_help_panel=PANEL,
        ),
    ] = INTERVAL_S,
) -> None:
    """Declare in its signature the options that all commands share that show something."""


def _declare_write_options(
    *,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show the result without storing anything.", rich_help_panel=PANEL)
    ] = False,
) -> None:
    """Declare in its signature the options that all commands with changes share."""


def list_shared_options() -> list[str]:
    """Return the options of every command, such as `--address`."""
    infos = (one.annotation.__metadata__[0] for one in _list_parameters(_declare_shared_options))
    # In `Annotated`, typer takes the first name for the default and moves it later.
    return [str(name) for info in infos for name in (info.default, *(info.param_decls or ()))]


def _add_shared_options(
    action: Callable[..., None],
    *,
    writes: bool,
    shows: bool,
    read_address: Callable[..., Any] | None,
    omitted: Collection[str],
) -> Callable[..., None]:
    own = [one for one in _list_parameters(action)[1:] if one.name not in {ADDRESS, *omitted}]
    address_options = _list_parameters(declare_address_options) if read_address else []
    shared = _list_parameters(_declare_shared_options)
    if writes or shows:
        shared += _list_parameters(_declare_write_options if writes else _declare_read_options)
    address_names = frozenset(parameter.name for parameter in address_options)
    names = frozenset(parameter.name for parameter in shared)

    @functools.wraps(action)
    def run(context: typer.Context, **arguments: Any) -> None:
        gc.enable()  # what every run needs has been imported
        settings = Settings(**{name: arguments.pop(name) for name in names})
        if read_address:
            arguments[ADDRESS] = read_address(**{name: arguments.pop(name) for name in address_names})
        try:
            with Session(settings) as session:
                try:
                    _show(session, lambda: action(session, **arguments))
                except StorekeepError as error:
                    error.message = name_options(
                        error.message, _list_options(context), repeated=_list_repeated(context)
                    )
                    raise add_advice(error, session) from None
            sys.stdout.flush()
        except BrokenPipeError:
            raise OutputClosed from None

    parameters = [
        inspect.Parameter("context", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=typer.Context),
        *(parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in own),
        *address_options,
        *shared,
    ]
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    del run.__wrapped__
    return run


def _show(session: Session, show: Callable[[], None]) -> None:
    if not session.settings.watch:
        show()
        return
    from storekeep.cli.watches import watch

    def show_anew() -> None:
        session.renew_screen()
        show()

    watch(show_anew, interval_s=session.settings.interval_s)


def _list_options(context: typer.Context) -> dict[str, str]:
    """Return the options and arguments of the running command by name: `tax_id` -> `--tax-id`, `sku` -> `SKU`.

    The argument of a resource name is left out: its name is also that of the option `--name`, for another field.
    """
    parameters = context.command.params
    options = [option for parameter in parameters for option in parameter.opts if option.startswith("--")]
    arguments = [one.name for one in parameters if one.param_type_name == "argument" and one.name]
    return {name: name.upper() for name in arguments if name not in ("name", "names")} | {
        option.removeprefix("--").replace("-", "_"): option for option in options
    }


def _list_repeated(context: typer.Context) -> set[str]:
    """Return the options that the command line has more than once."""
    given = ((parameter.opts, context.params.get(parameter.name or "")) for parameter in context.command.params)
    return {option for options, values in given if isinstance(values, list) and len(values) > 1 for option in options}


def _list_parameters(declaration: Callable[..., None]) -> list[inspect.Parameter]:
    return list(inspect.signature(declaration, eval_str=True).parameters.values())
