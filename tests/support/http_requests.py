"""Random HTTP requests for every route of the contract, good ones and slightly wrong ones."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from google.api import annotations_pb2
from google.protobuf import json_format
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor

from tests.support.json_messages import RandomMessages

SEGMENTS = ("p-1", "a.b_c", "é", "a b", "a+b", "100%", "~x", "a:b")
VALUES = (None, True, 0, -1, 1.5, 2**40, "", "1", "abc", [], {}, [1], {"a": 1})
VARIABLE = re.compile(r"\{([a-z0-9_.]+)=([^{}]*)\}")
TEXTUAL = frozenset({"Timestamp", "Duration", "FieldMask"})


@dataclass(frozen=True)
class HttpRequest:
    """One request.

    Attributes:
        rpc: the RPC of its route.
        target: the path and query, percent-encoded.
        change: what was made wrong; empty for a good request.
    """

    rpc: MethodDescriptor
    method: str
    target: str
    body: bytes | None
    change: str


class HttpRequests:
    """Builds requests; the same seed builds the same ones."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self._messages = RandomMessages(seed)

    def build_all(self, services: Sequence[ServiceDescriptor], *, each: int) -> Iterator[HttpRequest]:
        """Yield `each` requests for every binding of every RPC."""
        for service in services:
            for rpc in (rpc for rpc in service.methods if not rpc.server_streaming):
                rule = rpc.GetOptions().Extensions[annotations_pb2.http]
                for binding in (rule, *rule.additional_bindings):
                    for _ in range(each):
                        yield self._build(rpc, binding)

    def _build(self, rpc: MethodDescriptor, binding: Any) -> HttpRequest:
        kind = binding.WhichOneof("pattern")
        message = self._messages.build(rpc.input_type)
        bound: list[str] = []

        def fill(match: re.Match[str]) -> str:
            bound.append(match[1])
            return "/".join(
                quote(self._random.choice(SEGMENTS)) if part == "*" else part for part in match[2].split("/")
            )

        path = VARIABLE.sub(fill, getattr(binding, kind))
        for name in bound:
            _clear(message, name)
        value = json_format.MessageToDict(message, preserving_proto_field_name=self._random.random() < 0.2)
        change, body = "", None
        query: list[tuple[str, str]] = []
        if binding.body == "*":
            body = value
        else:
            if binding.body:
                spelled = next((key for key in value if key in _spellings(rpc, binding.body)), "")
                body = value.pop(spelled, {})
            query = list(_flatten(value, rpc.input_type))
        if body is not None and self._random.random() < 0.3:
            change = self._spoil(body)
        elif query and self._random.random() < 0.2:
            change, query = self._spoil_query(query)
        target = path + ("?" + "&".join(f"{name}={quote(text, safe='')}" for name, text in query) if query else "")
        return HttpRequest(rpc, kind.upper(), target, None if body is None else json.dumps(body).encode(), change)

    def _spoil(self, body: dict[str, Any]) -> str:
        """Replace one value in a body, or add a field that does not exist."""
        places = list(_list_places(body))
        if not places or self._random.random() < 0.2:
            body["noSuchField"] = 1
            return "unknown field"
        owner, key = self._random.choice(places)
        owner[key] = self._random.choice(VALUES)
        return f"{key} = {owner[key]!r}"

    def _spoil_query(self, query: list[tuple[str, str]]) -> tuple[str, list[tuple[str, str]]]:
        name, text = self._random.choice(query)
        kind = self._random.randrange(3)
        if kind == 0:
            return "unknown parameter", [*query, ("no_such", "1")]
        if kind == 1:
            return "repeated parameter", [*query, (name, text)]
        return "wrong value", [(each, "a,b" if each == name else value) for each, value in query]


def _spellings(rpc: MethodDescriptor, name: str) -> tuple[str, str]:
    return name, rpc.input_type.fields_by_name[name].json_name


def _clear(message: Any, path: str) -> None:
    *parents, last = path.split(".")
    for parent in parents:
        if not message.HasField(parent):
            return
        message = getattr(message, parent)
    message.ClearField(last)


def _list_places(value: Any) -> Iterator[tuple[Any, Any]]:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield value, key
        yield from _list_places(item)


def _flatten(value: dict[str, Any], descriptor: Any, prefix: str = "") -> Iterator[tuple[str, str]]:
    """Yield the parameters for a message's JSON; maps and lists of messages, which have none, are left out."""
    for key, item in value.items():
        field = next(each for each in descriptor.fields if key in (each.name, each.json_name))
        kind = field.message_type
        if kind is not None and kind.name not in TEXTUAL:
            if not field.is_repeated:
                yield from _flatten(item, kind, f"{prefix}{key}.")
            continue
        for each in item if field.is_repeated else [item]:
            yield prefix + key, each if isinstance(each, str) else json.dumps(each)
