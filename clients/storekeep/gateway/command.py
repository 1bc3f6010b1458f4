"""The `storekeep-gateway` command: serves HTTP, and checks a running gateway.

Every error is one line on standard error. Exit codes: 0 success; 1 failure; 2 usage error or invalid settings.
"""

from __future__ import annotations

import asyncio
import ssl
import sys
import urllib.request
from http import HTTPStatus
from pathlib import Path
from typing import Annotated

import typer

from storekeep.client.errors import StorekeepError
from storekeep.gateway.config import InvalidSettings, load_settings
from storekeep.gateway.serving import CannotListen
from storekeep.gateway.serving import serve as serve_gateway

FAILED = 1
USAGE_ERROR = 2
CHECK_TIMEOUT_S = 5.0

app = typer.Typer(
    help="The HTTP gateway of Storekeep. Configure it with STOREKEEP_GATEWAY_* variables and STOREKEEP_HTTP_LISTEN.",
    epilog="Example: STOREKEEP_HTTP_LISTEN=127.0.0.1:8080 storekeep-gateway serve",
    add_completion=False,
    no_args_is_help=True,
)


@app.command(epilog="Example: storekeep-gateway serve --server unix:/run/storekeep/grpc.sock")
def serve(
    server: Annotated[str, typer.Option(help="address of the server: `host:port` or `unix:/path`")] = "",
    address_file: Annotated[Path | None, typer.Option(help="write the address to this file once it accepts")] = None,
    end_with: Annotated[int | None, typer.Option(metavar="PID", help="end when this process ends")] = None,
) -> None:
    """Serve the contract as REST/JSON until SIGTERM or SIGINT."""
    settings = load_settings(server_address=server) if server else load_settings()
    asyncio.run(serve_gateway(settings, address_file=address_file, end_with=end_with))


@app.command(epilog="Example: storekeep-gateway healthcheck --url http://127.0.0.1:8080")
def healthcheck(
    url: Annotated[str, typer.Option(help="check this gateway (default: the one with these settings)")] = "",
    live: Annotated[bool, typer.Option("--live", help="check the gateway only, not the server behind it")] = False,
) -> None:
    """Check whether a running gateway, and the server behind it, accept calls."""
    settings = load_settings()
    scheme = "https" if settings.tls_certificate_file else "http"
    page = f"{url or f'{scheme}://{settings.listen}'}/{'livez' if live else 'readyz'}"
    context = ssl.create_default_context()
    if not url:  # the gateway of this host: its certificate is for its public name
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    try:
        with urllib.request.urlopen(page, timeout=CHECK_TIMEOUT_S, context=context) as reply:  # noqa: S310
            is_healthy = reply.status == HTTPStatus.OK
    except (OSError, ValueError) as error:
        print_error(f"{page}: {error}")
        raise typer.Exit(FAILED) from None
    raise typer.Exit(0 if is_healthy else FAILED)


def print_error(line: str) -> None:
    """Print one line to standard error."""
    print(f"storekeep-gateway: {line}", file=sys.stderr)  # noqa: T201 - output of the command


def main() -> None:
    """Run a command and exit."""
    try:
        app()
    except InvalidSettings as error:
        for problem in error.problems:
            print_error(problem)
        sys.exit(USAGE_ERROR)
    except (CannotListen, StorekeepError, OSError) as error:
        print_error(str(error))
        sys.exit(FAILED)
