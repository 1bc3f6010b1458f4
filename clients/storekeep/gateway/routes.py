"""The routes of the gateway, read from the `google.api.http` option of every RPC; none is written by hand.

A path is matched as it was sent, before percent-decoding, so an encoded slash never separates segments. Literals take
precedence over `*`, and `*` over `**`. Invariant: each route can be reached, or `build_routes` raises.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from importlib import import_module
from pkgutil import iter_modules
from typing import Any
from urllib.parse import unquote_to_bytes

from google.api import annotations_pb2
from google.protobuf.descriptor import FieldDescriptor, MethodDescriptor, ServiceDescriptor

from storekeep import v1

METHODS = ("get", "put", "post", "delete", "patch")
RESERVED = frozenset({"livez", "readyz", "metrics", "docs", "openapi.json", ".well-known"})
"""First segments of the gateway's own pages."""
_PIECE = re.compile(r"\{([a-z0-9_.]+)(?:=([^{}]*))?\}|([^/{}]+)")
BAD_ESCAPE = re.compile(rb"%(?![0-9A-Fa-f]{2})")
"""An incomplete percent-encoding."""
_ENCODED_SLASH = re.compile(rb"%(2[Ff])")


class InvalidRoutes(Exception):
    """The contract has a route that the gateway cannot serve, or two RPCs on one."""


class InvalidPath(Exception):
    """The path of a request cannot be decoded."""


@dataclass(frozen=True, slots=True)
class Variable:
    """A field that is set from the path: its segments from `start` to `end` (None: to the last one)."""

    field_path: str
    start: int
    end: int | None

    def read(self, segments: list[bytes]) -> str:
        """Return the decoded value. In a value of several segments an encoded slash stays encoded (AIP-127).

        Raises: InvalidPath.
        """
        parts = segments[self.start : self.end]
        if self.end == self.start + 1:
            return decode_segment(parts[0])
        return "/".join(decode_segment(_ENCODED_SLASH.sub(rb"%25\1", part)) for part in parts)


@dataclass(frozen=True, slots=True)
class Route:
    """One HTTP method and path template of an RPC."""

    http_method: str
    template: str
    rpc: MethodDescriptor
    body: str
    response_body: str
    segments: tuple[str, ...]
    verb: str
    variables: tuple[Variable, ...]

    @property
    def path(self) -> str:
        """The path of the RPC in gRPC."""
        return f"/{self.rpc.containing_service.full_name}/{self.rpc.name}"


@dataclass(frozen=True, slots=True)
class Match:
    """What a path matches: its routes by HTTP method, and its segments."""

    routes: dict[str, Route]
    segments: list[bytes]


@dataclass(slots=True)
class _Node:
    children: dict[bytes, _Node] = field(default_factory=dict)
    leaves: dict[str, dict[str, Route]] = field(default_factory=dict)


class Router:
    """Finds the routes of a path.

    Raises: InvalidRoutes if two routes have the same method and path.
    """

    def __init__(self, routes: Iterable[Route]) -> None:
        self._root = _Node()
        self._verbs: set[bytes] = set()
        for route in routes:
            self._add(route)

    def _add(self, route: Route) -> None:
        node = self._root
        for segment in route.segments:
            node = node.children.setdefault(segment.encode(), _Node())
        if route.verb:
            self._verbs.add(route.verb.encode())
        methods = node.leaves.setdefault(route.verb, {})
        if (other := methods.setdefault(route.http_method, route)) is not route:
            raise InvalidRoutes(
                f"{route.http_method} {route.template}: both {other.rpc.full_name} and {route.rpc.full_name}"
            )

    def match(self, raw_path: bytes) -> Match | None:
        """Return the match of a path as it was sent; None if no route has it. One trailing slash is ignored."""
        segments = raw_path.removeprefix(b"/").removesuffix(b"/").split(b"/")
        rest, colon, verb = segments[-1].rpartition(b":")
        if colon and verb in self._verbs:
            segments[-1] = rest
            routes = self._find(self._root, segments, 0, verb.decode())
        else:
            routes = self._find(self._root, segments, 0, "")
        return Match(routes, segments) if routes else None

    def _find(self, node: _Node, segments: list[bytes], index: int, verb: str) -> dict[str, Route] | None:
        if index == len(segments):
            return node.leaves.get(verb)
        segment = segments[index]
        for key in (segment, b"*"):
            if segment and (child := node.children.get(key)) and segment not in (b"*", b"**"):
                found = self._find(child, segments, index + 1, verb)
                if found:
                    return found
        rest = node.children.get(b"**")
        return rest.leaves.get(verb) if rest and segment else None


def decode_segment(segment: bytes) -> str:
    """Return a percent-decoded segment. A `+` is a plus sign.

    Raises: InvalidPath if an escape is incomplete, or the result is no UTF-8 or has a NUL.
    """
    if BAD_ESCAPE.search(segment):
        raise InvalidPath("the path has an incomplete percent-encoding")
    try:
        text = unquote_to_bytes(segment).decode()
    except UnicodeDecodeError:
        raise InvalidPath("the path is not valid UTF-8") from None
    if "\0" in text:
        raise InvalidPath("the path contains a NUL character")
    return text


def list_services() -> list[ServiceDescriptor]:
    """Return the services of the contract, by the names of their files."""
    names = sorted(module.name for module in iter_modules(v1.__path__) if module.name.endswith("_pb2"))
    modules = [import_module(f"{v1.__name__}.{name}") for name in names]
    return [service for module in modules for service in module.DESCRIPTOR.services_by_name.values()]


def build_routes(services: Iterable[ServiceDescriptor] | None = None) -> list[Route]:
    """Return all routes of the services (default: those of the contract).

    Raises: InvalidRoutes.
    """
    routes = []
    for service in list_services() if services is None else services:
        for rpc in service.methods:
            rule = rpc.GetOptions().Extensions[annotations_pb2.http]
            rules = [each for each in (rule, *rule.additional_bindings) if each.WhichOneof("pattern")]
            routes += [_build_route(rpc, each) for each in rules]
    Router(routes)
    return routes


def _build_route(rpc: MethodDescriptor, rule: Any) -> Route:
    kind = rule.WhichOneof("pattern")
    if kind not in METHODS or rpc.client_streaming:
        raise InvalidRoutes(f"{rpc.full_name}: the gateway serves no {kind} route of it")
    template = getattr(rule, kind)
    path, verb = _split_verb(template)
    segments, variables = _parse_template(path.removeprefix("/"), name=rpc.full_name)
    for variable in variables:
        _check_variable(rpc, variable.field_path)
    for name, message in ((rule.body, rpc.input_type), (rule.response_body, rpc.output_type)):
        if name not in ("", "*") and name not in message.fields_by_name:
            raise InvalidRoutes(f"{rpc.full_name}: {message.full_name} has no field {name}")
    if segments[0] in RESERVED or segments[0] in ("*", "**"):
        raise InvalidRoutes(f"{rpc.full_name}: {template} hides a page of the gateway")
    return Route(kind.upper(), template, rpc, rule.body, rule.response_body, tuple(segments), verb, tuple(variables))


def _split_verb(template: str) -> tuple[str, str]:
    head, colon, verb = template.rpartition(":")
    return (head, verb) if colon and not set(verb) & set("/{}") else (template, "")


def _parse_template(text: str, *, name: str) -> tuple[list[str], list[Variable]]:
    """Return the segments and the variables of a path template without its verb."""
    segments: list[str] = []
    variables = []
    position = 0
    for piece in _PIECE.finditer(text):
        if text[position : piece.start()] != ("/" if position else ""):
            raise InvalidRoutes(f"{name}: /{text} is not a path template")
        position = piece.end()
        start = len(segments)
        segments += (piece[3] or piece[2] or "*").split("/")
        if piece[1]:
            is_open = segments[-1] == "**"
            variables.append(Variable(piece[1], start, None if is_open else len(segments)))
    if position != len(text) or not segments or "" in segments or "**" in segments[:-1]:
        raise InvalidRoutes(f"{name}: /{text} is not a path template")
    return segments, variables


def _check_variable(rpc: MethodDescriptor, field_path: str) -> None:
    """Check that a variable is bound to a singular field that has a text form."""
    message = rpc.input_type
    *parents, last = field_path.split(".")
    for parent in parents:
        found = message.fields_by_name.get(parent)
        if found is None or found.message_type is None or found.is_repeated:
            raise InvalidRoutes(f"{rpc.full_name}: no message {parent} of {field_path}")
        message = found.message_type
    found = message.fields_by_name.get(last)
    if found is None or found.is_repeated or found.type == FieldDescriptor.TYPE_MESSAGE:
        raise InvalidRoutes(f"{rpc.full_name}: {field_path} is no singular scalar field")
