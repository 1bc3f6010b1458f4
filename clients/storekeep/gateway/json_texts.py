"""Parse JSON into Python values, and refuse what proto3 JSON forbids: broken UTF-8, NaN, endless numbers and nesting.

An object with a key that appears twice becomes a `RepeatedKey`, so that the reader can report its path.
"""

from __future__ import annotations

import json
from typing import Any, NoReturn

from storekeep.gateway.invalid_json import InvalidJson, show


class NumberText(str):
    """A number with a fraction or an exponent, as it was written: a float would lose digits of a 64-bit integer."""

    __slots__ = ()


class RepeatedKey(dict[str, Any]):
    """A JSON object in which `key` appears more than once."""

    __slots__ = ("key",)

    def __init__(self, key: str) -> None:
        super().__init__()
        self.key = key


def parse_json(raw: bytes) -> Any:
    """Parse a body of one JSON value. A number with a fraction or an exponent becomes a `NumberText`.

    Raises: InvalidJson, without a path.
    """
    try:
        return _DECODER.decode(raw.decode())
    except UnicodeDecodeError as error:
        raise InvalidJson("", f"the body is not valid UTF-8 at byte {error.start}") from None
    except json.JSONDecodeError as error:
        message = f"the body is not valid JSON: {error.msg} at line {error.lineno}, column {error.colno}"
        raise InvalidJson("", message) from None
    except RecursionError:
        raise InvalidJson("", "the body is nested too deeply") from None
    except InvalidJson:
        raise
    except ValueError:
        # int() refuses more than 4,300 digits, before it converts them.
        raise InvalidJson("", "the body has a number with too many digits") from None


def _build_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) == len(pairs):
        return result
    seen: set[str] = set()
    return RepeatedKey(next(key for key, _ in pairs if key in seen or seen.add(key)))  # type: ignore[func-returns-value]


def _refuse_constant(text: str) -> NoReturn:
    raise InvalidJson("", f"the body is not valid JSON: {show(text)} is not a JSON value")


_DECODER = json.JSONDecoder(
    object_pairs_hook=_build_object, parse_float=NumberText, parse_constant=_refuse_constant, strict=True
)
