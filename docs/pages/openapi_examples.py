"""The examples of OpenAPI: requests that were really sent, and their replies, from `docs/walk/examples.json`."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

from storekeep.gateway.routes import Route

FILE = Path(__file__).resolve().parent.parent / "walk" / "examples.json"


def add_example(operation: dict[str, Any], route: Route) -> None:
    """Add the example of a route to its operation: parameters, body and reply. A stream has none."""
    example = _load().get(f"{route.http_method} {route.template}")
    if example is None:
        return
    path, _, query = example["target"].partition("?")
    segments = path.removesuffix(f":{route.verb}" if route.verb else "").strip("/").split("/")
    texts = {key: values if len(values) > 1 else values[0] for key, values in parse_qs(query).items()}
    ids = iter(segment for segment, part in zip(segments, route.segments, strict=True) if part == "*")
    for parameter in operation["parameters"]:
        if parameter.get("in") == "path":
            parameter["example"] = next(ids)
        elif parameter.get("in") == "query" and parameter["name"] in texts:
            parameter["example"] = _convert(texts[parameter["name"]], parameter["schema"])
    if "body" in example and "requestBody" in operation:
        operation["requestBody"]["content"]["application/json"]["example"] = example["body"]
    operation["responses"]["200"]["content"]["application/json"]["example"] = example["reply"]


def _convert(value: Any, schema: dict[str, Any]) -> Any:
    """Return the text of a parameter as a value of its schema."""
    kind = schema.get("type")
    if kind == "array":
        return value if isinstance(value, list) else [value]
    if kind == "integer":
        return int(value)
    return value == "true" if kind == "boolean" else value


@cache
def _load() -> dict[str, Any]:
    examples: dict[str, Any] = json.loads(FILE.read_text())
    return examples
