"""One RPC as HTTP: builds the request message from path, query, body and headers, and the body of the reply."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any
from urllib.parse import parse_qsl

from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from storekeep.gateway.errors import INTERNAL, MALFORMED, from_invalid_json
from storekeep.gateway.headers import RequestHeaders, build_etag, set_condition, set_request_id
from storekeep.gateway.invalid_json import InvalidJson, UnwritableMessage
from storekeep.gateway.json_codec import FieldCodec, JsonCodec
from storekeep.gateway.json_texts import parse_json
from storekeep.gateway.query import build_query_setter, derive_update_mask, set_path_field
from storekeep.gateway.routes import BAD_ESCAPE, InvalidPath, Route, build_routes

QUERY_PAIRS_MAX = 1_000
"""Maximum number of query parameters."""


class Transcoder:
    """The conversion of one route, compiled once."""

    def __init__(self, route: Route) -> None:
        self.route = route
        self.output: type[Message] = GetMessageClass(route.rpc.output_type)
        self._new: type[Message] = GetMessageClass(route.rpc.input_type)
        request, reply = route.rpc.input_type, route.rpc.output_type
        body = request.fields_by_name.get(route.body)
        self._body_codec: JsonCodec | FieldCodec | None = None
        if route.body:
            self._body_codec = JsonCodec(request) if body is None else FieldCodec(body)
        bound = [variable.field_path for variable in route.variables] + ([route.body] if route.body else [])
        self._apply_query = build_query_setter(request, bound)
        is_masked = route.http_method == "PATCH" and "update_mask" in request.fields_by_name
        self._masked = body.message_type if is_masked and body is not None and not body.is_repeated else None
        part = reply.fields_by_name.get(route.response_body)
        self._part_codec = None if part is None else FieldCodec(part)
        self._output_codec = JsonCodec(reply, writes_zeros=False)

    def build_request(self, segments: list[bytes], query: bytes, body: bytes, headers: RequestHeaders) -> Message:
        """Return the request message.

        Args:
            segments: path of the HTTP request, as sent.
            query: query of the HTTP request, as sent.
            body: its decompressed body.
            headers: its headers.

        Raises: Refused.
        """
        request = self._new()
        try:
            parsed = self._read_body(request, body, headers)
            for variable in self.route.variables:
                set_path_field(request, variable.field_path, variable.read(segments))
            if query:
                self._read_query(request, query)
            if self._masked is not None:
                _fill_mask(request, parsed, self._masked)
        except InvalidJson as error:
            raise from_invalid_json(error) from None
        except InvalidPath as error:
            raise MALFORMED.make(str(error)) from None
        set_request_id(request, headers.derive_request_id())
        if condition := headers.get_condition():
            set_condition(request, condition, route=self.route)
        return request

    def parse_request(self, data: bytes) -> Message:
        """Return a request message from its bytes on the wire."""
        return self._new.FromString(data)

    def _read_query(self, request: Message, query: bytes) -> None:
        try:
            self._apply_query(request, _parse_query(query))
        except InvalidJson as error:
            raise from_invalid_json(error, place="parameter") from None

    def _read_body(self, request: Message, body: bytes, headers: RequestHeaders) -> Any:
        """Fill the request from the body; return the parsed JSON, None without a body."""
        if self._body_codec is None:
            if body:
                raise MALFORMED.make(f"{self.route.http_method} {self.route.template} takes no body")
            return None
        if not body:
            return None
        headers.check_json()
        parsed = parse_json(body)
        self._body_codec.read_into(request, parsed)
        return parsed

    def build_reply(self, reply: bytes) -> tuple[bytes, str]:
        """Return the body of a reply, and its etag, empty if it has none.

        Raises: Refused if JSON cannot express it.
        """
        message = self.output.FromString(reply)
        return self.encode(message), build_etag(message)

    def encode(self, message: Message | bytes) -> bytes:
        """Return a reply as JSON: all of it, or its `response_body`.

        Raises: Refused.
        """
        try:
            if self._part_codec is None:
                return self._output_codec.encode(message)
            return self._part_codec.encode(message if isinstance(message, Message) else self.output.FromString(message))
        except UnwritableMessage as error:
            raise INTERNAL.make(str(error)) from None


def build_transcoders(routes: Iterable[Route] | None = None) -> dict[Route, Transcoder]:
    """Return the conversion of each route (default: all of the contract)."""
    return {route: Transcoder(route) for route in (build_routes() if routes is None else routes)}


def _parse_query(query: bytes) -> list[tuple[str, str]]:
    """Return the decoded pairs of a query. As in forms, a `+` is a space, and an `&` too many means nothing.

    Raises: InvalidJson.
    """
    query = b"&".join(pair for pair in query.split(b"&") if pair)
    try:
        if BAD_ESCAPE.search(query):
            raise ValueError
        return parse_qsl(
            query.decode("ascii"),
            keep_blank_values=True,
            strict_parsing=True,
            errors="strict",
            max_num_fields=QUERY_PAIRS_MAX,
        )
    except ValueError:
        raise InvalidJson("", "the query is not valid: parameters are NAME=VALUE in percent-encoded UTF-8") from None


def _fill_mask(request: Any, parsed: Any, resource: Any) -> None:
    """Set the `update_mask` to the fields of the body, unless the query has one."""
    if not request.HasField("update_mask") and isinstance(parsed, dict):
        request.update_mask.CopyFrom(derive_update_mask(parsed, resource))
