"""`storekeep api`: calls of any method of the contract, with requests and replies in JSON."""

from __future__ import annotations

import re
import sys
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated

import typer
from google.protobuf.json_format import Parse, ParseError
from google.protobuf.message import Message

from storekeep.cli.commands import command
from storekeep.cli.files import describe_os_error
from storekeep.cli.outputs import OutputFormat
from storekeep.cli.screens import to_document
from storekeep.cli.sessions import Session
from storekeep.client.files import read_file, read_stream
from storekeep.client.methods import Methods, is_mutation, new_request

DOCUMENT_BYTES_MAX = 16 * 2**20
"""Maximum size of a request in JSON. It holds any message that the server accepts."""
EXAMPLE = """storekeep api GetProduct '{"name": "products/chai"}'"""
STDIN = "-"
UNKNOWN_FIELD = re.compile(
    r'Message type "(?:[\w.]+\.)?(?P<type>\w+)" has no field named "(?P<name>[^"]{1,100})".*?(?P<fields>\[.*)',
    re.DOTALL,
)
"""Protobuf's error about an unknown field. Its end lists the existing fields."""
REASON_CHARS_MAX = 300
"""Characters of a parse error that are shown: it may quote the request."""


def add_api(app: typer.Typer) -> None:
    """Add the command to the command line."""
    command(app, "api", example=EXAMPLE, writes=True)(call_method)


def call_method(
    session: Session,
    method: Annotated[
        str, typer.Argument(metavar="METHOD", help="Name, such as PlaceOrder (default: list all methods).")
    ] = "",
    request: Annotated[str, typer.Argument(metavar="REQUEST", help="The request as a JSON object.")] = "",
    input_file: Annotated[
        str, typer.Option("--input", metavar="FILE", help="File with the request; - reads stdin.")
    ] = "",
    paginate: Annotated[
        bool, typer.Option("--paginate", help="Fetch all pages of a list and print them as one reply.")
    ] = False,
) -> None:
    """Call any method of the contract with a request in JSON.

    The reply is printed in JSON.
    """
    methods = session.client.methods
    if not method:
        _show_methods(session, methods)
        return
    if session.settings.output not in (None, OutputFormat.JSON):
        raise typer.BadParameter("the reply of a method is JSON: use no other --output")
    if request and input_file:
        raise typer.BadParameter("give the request on the command line or with --input, not both")
    descriptor = methods.find(method)
    message = new_request(descriptor)
    _parse_request(_read_file(input_file) if input_file else request or "{}", message)
    if session.dry_run:
        if not is_mutation(descriptor):
            raise typer.BadParameter(f"{descriptor.name} changes nothing, so it has no dry run")
        session.may_create = True
        message.validate_only = True  # type: ignore[attr-defined]
    if paginate and "page_token" not in descriptor.input_type.fields_by_name:
        raise typer.BadParameter(f"{descriptor.name} has no pages")
    reply = methods.call(descriptor, message)
    while paginate and reply.next_page_token:  # type: ignore[attr-defined]
        message.page_token, reply.next_page_token = reply.next_page_token, ""  # type: ignore[attr-defined]
        reply.MergeFrom(methods.call(descriptor, message))
    session.screen.show_document(to_document(reply))


def _show_methods(session: Session, methods: Methods) -> None:
    rows = [
        (path, method.input_type.name, "yes" if is_mutation(method) else "no")
        for path, method in sorted(methods.by_path.items())
    ]
    session.screen.show_rows(rows, columns=("method", "request", "dry_run"))


def _read_file(name: str) -> str:
    try:
        if name == STDIN:
            content = read_stream(sys.stdin.buffer, name=name, bytes_max=DOCUMENT_BYTES_MAX)
        else:
            content = read_file(Path(name), bytes_max=DOCUMENT_BYTES_MAX)
        return content.decode("utf-8-sig")
    except OSError as error:
        raise typer.BadParameter(f"cannot read {name}: {describe_os_error(error)}") from None
    except UnicodeDecodeError:
        raise typer.BadParameter(f"{name} is not UTF-8") from None


def _parse_request(text: str, message: Message) -> None:
    """Parse a request from JSON into a message.

    Raises: typer.BadParameter.
    """
    try:
        Parse(text, message)
    except (ParseError, ValueError, RecursionError) as error:
        reason = _describe_unknown_field(str(error)) or str(error)[:REASON_CHARS_MAX]
        name = message.DESCRIPTOR.name
        raise typer.BadParameter(f"the request is not a valid {name} in JSON: {reason}") from None


def _describe_unknown_field(problem: str) -> str:
    """Return the text of protobuf's error about an unknown field in other words, with the field that may be meant.

    It is empty for other errors.
    """
    unknown = UNKNOWN_FIELD.search(problem)
    if unknown is None:
        return ""
    close = get_close_matches(unknown["name"], re.findall(r"'(\w+)'", unknown["fields"]), n=1)
    return f"{unknown['type']} has no field {unknown['name']}" + "".join(f"; did you mean {one}?" for one in close)
