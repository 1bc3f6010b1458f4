"""Say whether the OpenAPI file allows a request, judged by what went over the wire: its path, query, headers and body.

A generator's own word for a request is not enough. A value that it made wrong may be gone after serialisation: a
parameter that is `None` or an empty list is not sent at all.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from jsonschema import Draft202012Validator, FormatChecker
from jsonschema.exceptions import ValidationError, best_match
from jsonschema.validators import extend

Explain = Callable[[Any], str]
"""Returns why a value breaks its schema; empty if it does not."""
JSON = "application/json"
_PLACE = re.compile(r"\\\{(\w+)\\\}")
"""A parameter in an escaped path template."""


@dataclass(frozen=True)
class SentRequest:
    """A request as it was sent.

    Args:
        method: HTTP method.
        url: the whole URL.
        headers: headers with names in lower case.
        body: the body; empty without one.
    """

    method: str
    url: str
    headers: dict[str, str]
    body: bytes

    @classmethod
    def from_prepared(cls, request: Any) -> SentRequest:
        """Return a request of the library `requests`."""
        headers = {name.lower(): _read_text(value) for name, value in request.headers.items()}
        body = request.body or b""
        return cls(request.method, request.url, headers, body.encode() if isinstance(body, str) else body)


def _read_text(value: str | bytes) -> str:
    text = value.decode("latin-1") if isinstance(value, bytes) else value
    return text.strip(" \t")  # as a receiver does (RFC 9110, 5.5)


class Description:
    """The OpenAPI file, with a check of requests for each operation.

    Args:
        content: the parsed file.
    """

    def __init__(self, content: dict[str, Any]) -> None:
        self._content = content
        self._operations = [
            _Operation(self, method.upper(), template, operation)
            for template, methods in content["paths"].items()
            for method, operation in methods.items()
        ]

    def find(self, request: SentRequest) -> list[str]:
        """Return the ids of the operations with the method and a path like that of a request."""
        return [operation.id for operation in self._operations if operation.match(request) is not None]

    def explain(self, request: SentRequest) -> str:
        """Return why the file forbids a request; empty if it allows it."""
        problems = []
        for operation in self._operations:
            values = operation.match(request)
            if values is not None:
                found = list(operation.list_problems(request, values))
                if not found:
                    return ""
                problems += found
        return "; ".join(problems) or "no operation has this method and path"

    def resolve(self, part: Any) -> Any:
        """Return a part of the file, followed if it is a reference."""
        reference = part.get("$ref")
        if reference is None:
            return part
        found: Any = self._content
        for key in reference.removeprefix("#/").split("/"):
            found = found[key]
        return found

    def make_check(self, schema: Any) -> Explain:
        """Return the check of a schema, which may refer to components."""
        whole = {**schema, "components": self._content["components"]}
        validator = _Validator(whole, format_checker=FormatChecker(("date-time",)))

        def explain(value: Any) -> str:
            error = best_match(validator.iter_errors(value))
            return f"{error.json_path}: {error.message[:200]}" if error else ""

        return explain


@dataclass(frozen=True)
class _Parameter:
    name: str
    schema: Any
    is_required: bool
    explain: Explain

    def list_problems(self, texts: list[str]) -> Iterator[str]:
        """Yield what is wrong with the texts that were sent for the parameter."""
        if not texts:
            if self.is_required:
                yield f"{self.name} is missing"
            return
        if self.schema["type"] == "array":
            problem = self.explain([_parse_text(text, self.schema["items"]) for text in texts])
        elif len(texts) > 1:
            problem = "sent more than once"
        else:
            problem = self.explain(_parse_text(texts[0], self.schema))
        if problem:
            yield f"{self.name}: {problem}"


class _Operation:
    """One operation of the file."""

    def __init__(self, description: Description, method: str, template: str, content: Any) -> None:
        self.id: str = content["operationId"]
        self._description = description
        self._method = method
        self._content = content
        self._path = re.compile(_PLACE.sub(r"(?P<\1>[^/]+)", re.escape(template)) + "/?")

    def match(self, request: SentRequest) -> dict[str, str] | None:
        """Return the parameters of the path as they were sent; None if the request is for another operation."""
        found = self._path.fullmatch(urlsplit(request.url).path)
        return found.groupdict() if found and request.method == self._method else None

    def list_problems(self, request: SentRequest, values: dict[str, str]) -> Iterator[str]:
        """Yield what of a request the file forbids."""
        query: dict[str, list[str]] = {}
        for name, text in parse_qsl(urlsplit(request.url).query, keep_blank_values=True):
            query.setdefault(name, []).append(text)
        sent = {
            "path": {name: [unquote(text)] for name, text in values.items()},
            "query": query,
            "header": {name: [text] for name, text in request.headers.items()},
        }
        for place, parameters in self._parameters.items():
            for name, parameter in parameters.items():
                yield from parameter.list_problems(sent[place].get(name, []))
        for name in query.keys() - self._parameters["query"].keys():
            yield f"there is no parameter {name!r}"
        yield from self._list_body_problems(request)

    def _list_body_problems(self, request: SentRequest) -> Iterator[str]:
        described = self._content.get("requestBody")
        if not request.body:
            if described and described.get("required"):
                yield "the body is missing"
            return
        if not described:
            yield "the operation has no body"
            return
        if request.headers.get("content-type", "").partition(";")[0].strip().lower() != JSON:
            yield "the body is not sent as JSON"
            return
        try:
            body = json.loads(request.body, parse_constant=_refuse_constant)
        except ValueError as error:
            yield f"the body is not JSON: {error}"
            return
        if problem := self._explain_body(body):
            yield f"body: {problem}"

    @cached_property
    def _parameters(self) -> dict[str, dict[str, _Parameter]]:
        """The parameters by place and name; those of headers in lower case."""
        found: dict[str, dict[str, _Parameter]] = {"path": {}, "query": {}, "header": {}}
        for part in map(self._description.resolve, self._content.get("parameters", ())):
            name = part["name"].lower() if part["in"] == "header" else part["name"]
            schema = part["schema"]
            check = self._description.make_check(schema)
            found[part["in"]][name] = _Parameter(name, schema, part.get("required", False), check)
        return found

    @cached_property
    def _explain_body(self) -> Explain:
        return self._description.make_check(self._content["requestBody"]["content"][JSON]["schema"])


def _parse_text(text: str, schema: Any) -> Any:
    """Return the value that a text of the path, the query or a header stands for; the text if it is none.

    A text for a boolean or a number is JSON without whitespace around it.
    """
    if schema["type"] == "string" or text != text.strip():
        return text
    try:
        return json.loads(text, parse_constant=_refuse_constant)
    except ValueError:
        return text


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON")


def _check_pattern(_: Any, pattern: str, value: Any, __: Any) -> Iterable[ValidationError]:
    """Check a pattern as ECMAScript does: `$` is the end, and not the place before a final newline."""
    if isinstance(value, str) and not re.search(pattern.replace("$", r"\Z"), value):
        yield ValidationError(f"{value!r} does not match {pattern!r}")


_Validator = extend(Draft202012Validator, {"pattern": _check_pattern})
