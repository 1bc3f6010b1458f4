"""The `storekeep-gateway` command: serves HTTP, and checks a running gateway.

Every error is one line on standard error. Exit codes: 0 success; 1 failure; 2 usage error or invalid settings.
`__main__` adds those of signals. A command imports what it needs, and the help none of it.
"""

from __future__ import annotations

import argparse
import os
import sys
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from storekeep.gateway.config import Settings

DONE = 0
FAILED = 1
USAGE_ERROR = 2
CHECK_TIMEOUT_S = 5.0
WORD_CHARS_MAX = 300
"""Characters of a word, such as a path, that an error repeats in full."""
LINE_CHARS_MAX = 4_000


class Parser(argparse.ArgumentParser):
    """An argument parser that reports a usage error in one line, and suggests the command that was meant."""

    def __init__(self, **options: Any) -> None:
        super().__init__(allow_abbrev=False, **options)

    def error(self, message: str) -> NoReturn:
        """Print a usage error and exit."""
        print_error(f"{message} (see {self.prog} --help)")
        sys.exit(USAGE_ERROR)

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        """Reject a command that does not exist."""
        if action.choices is not None and value not in action.choices:
            close = get_close_matches(str(value), list(action.choices), n=1)
            hint = f"did you mean {close[0]}?" if close else f"choose from {', '.join(action.choices)}"
            self.error(f"no such command: {value}; {hint}")


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line. Each help text ends in an example."""
    root = Parser(
        prog="storekeep-gateway",
        description="The HTTP gateway of Storekeep. Configure it with STOREKEEP_GATEWAY_* variables and "
        "STOREKEEP_HTTP_LISTEN.",
        epilog="Example: STOREKEEP_HTTP_LISTEN=127.0.0.1:8080 storekeep-gateway serve",
    )
    commands = root.add_subparsers(dest="command", required=True, metavar="COMMAND", title="commands")
    summary = "Serve the contract as REST/JSON until SIGTERM or SIGINT."
    example = "Example: storekeep-gateway serve --server unix:/run/storekeep/grpc.sock"
    serving = commands.add_parser("serve", help=summary, description=summary, epilog=example)
    serving.add_argument("--server", metavar="ADDRESS", help="address of the server: `host:port` or `unix:/path`")
    serving.add_argument(
        "--address-file", type=Path, metavar="FILE", help="write the address to this file once it accepts"
    )
    serving.add_argument("--end-with", type=_parse_pid, metavar="PID", help="end when this process ends")
    serving.add_argument(
        "--announce-after",
        type=Path,
        metavar="FILE",
        help="print the address once this file exists (default: at once)",
    )
    summary = "Check whether a running gateway, and the server behind it, accept calls."
    example = "Example: storekeep-gateway healthcheck --url http://127.0.0.1:8080"
    checking = commands.add_parser("healthcheck", help=summary, description=summary, epilog=example)
    checking.add_argument("--url", help="check this gateway (default: the one with these settings)")
    checking.add_argument("--live", action="store_true", help="check the gateway only, not the server behind it")
    return root


def _parse_pid(text: str) -> int:
    """Parse the id of a process.

    Raises: argparse.ArgumentTypeError.
    """
    if not (text.isascii() and text.isdecimal() and 0 < int(text) < 2**31):
        raise argparse.ArgumentTypeError(f"{text!r} is not the id of a process")
    return int(text)


def serve(args: argparse.Namespace) -> int:
    """Serve until SIGTERM or SIGINT. Then the process has ended.

    Raises: InvalidSettings, CannotListen, StorekeepError, OSError.
    """
    import asyncio

    from storekeep.gateway.config import load_settings

    settings = load_settings(server_address=args.server) if args.server else load_settings()
    asyncio.run(_serve(settings, args))
    return DONE


async def _serve(settings: Settings, args: argparse.Namespace) -> None:
    """Serve, and end the process without finalizing Python.

    Granian's threads may still hold abandoned connections. They would abort the process when they call into an
    interpreter that is gone.
    """
    from storekeep.gateway.serving import serve as serve_gateway

    await serve_gateway(
        settings, address_file=args.address_file, end_with=args.end_with, announce_after=args.announce_after
    )
    sys.stdout.flush()
    os._exit(DONE)


def check_health(args: argparse.Namespace) -> int:
    """Return the exit code that tells whether a running gateway, and the server behind it, accept calls.

    Raises: InvalidSettings.
    """
    import ssl
    import urllib.request
    from http import HTTPStatus

    from storekeep.gateway.config import load_settings

    settings = load_settings()
    scheme = "https" if settings.tls_certificate_file else "http"
    page = f"{args.url or f'{scheme}://{settings.listen}'}/{'livez' if args.live else 'readyz'}"
    context = ssl.create_default_context()
    if not args.url:  # the gateway of this host: its certificate is for its public name
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    try:
        with urllib.request.urlopen(page, timeout=CHECK_TIMEOUT_S, context=context) as reply:  # noqa: S310
            is_healthy = reply.status == HTTPStatus.OK
    except (OSError, ValueError) as error:
        print_error(f"{page}: {error}")
        return FAILED
    return DONE if is_healthy else FAILED


COMMANDS = {"serve": serve, "healthcheck": check_health}


def _shorten_line(line: str) -> str:
    """Return a line without the middle of long words, or of itself. The client library would take time to import."""
    words = (word if len(word) <= WORD_CHARS_MAX else f"{word[:100]}...{word[-100:]}" for word in line.split(" "))
    line = " ".join(words)
    return line if len(line) <= LINE_CHARS_MAX else f"{line[:2_000]} ... {line[-2_000:]}"


def print_error(line: str) -> None:
    """Print one line to standard error."""
    print(f"storekeep-gateway: {_shorten_line(line)}", file=sys.stderr)  # noqa: T201 - output of the command


def main() -> None:
    """Run a command and exit."""
    args = make_parser().parse_args()
    try:
        sys.exit(COMMANDS[args.command](args))
    except OSError as error:
        _exit_with_error(error)
    except Exception as error:
        from storekeep.client.error_families import StorekeepError
        from storekeep.gateway.config import InvalidSettings
        from storekeep.gateway.serving import CannotListen

        if isinstance(error, InvalidSettings):
            for problem in error.problems:
                print_error(problem)
            sys.exit(USAGE_ERROR)
        if not isinstance(error, (CannotListen, StorekeepError)):
            raise
        _exit_with_error(error)


def _exit_with_error(error: Exception) -> NoReturn:
    print_error(str(error))
    sys.exit(FAILED)
