"""Texts about invalid values of settings, made from the errors of pydantic, which uses words of its own."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import Any

from storekeep.server.runtime.languages import TAG
from storekeep.server.runtime.setting_names import PREFIX

SIMILARITY_MIN = 0.75
"""Minimum similarity for a setting to be suggested, where 1 is equality: `listn` and `listen` have 0.91."""

RATES = r"^( *(public|read|write|bulk|admin)=[0-9]{1,7}(\.[0-9]{1,3})?)*$"
ORDER_NUMBERS = r"^[A-Za-z0-9_./-]{0,20}\{sequence(:0[1-9][0-9]?d)?\}[A-Za-z0-9_./-]{0,20}$"
DAY_TIMES = r"^(([01][0-9]|2[0-3]):[0-5][0-9])?$"
PATTERN_WORDS = {
    TAG: "must be a language tag (BCP 47) such as `en` or `pt-BR`",
    DAY_TIMES: "must be a time of day such as 03:30, or empty",
    RATES: "must be rates by class (public, read, write, bulk, admin), such as `read=2000 write=500`",
    ORDER_NUMBERS: "must have {sequence}, or {sequence:08d} for eight digits, and up to 20 letters, digits and _./- "
    "before and after it",
}
"""Text by pattern, for a value that does not match it."""
OTHER_WORDS = {"workers": "auto"}
"""Values that a setting takes besides those of its type."""
TEXTS: Mapping[str, str] = {
    "bool_parsing": "must be true or false",
    "float_parsing": "must be a number",
    "float_type": "must be a number",
    "greater_than": "must be more than {gt:,}",
    "greater_than_equal": "must be at least {ge:,}",
    "int_from_float": "must be a whole number",
    "int_parsing": "must be a whole number",
    "int_type": "must be a whole number",
    "less_than": "must be less than {lt:,}",
    "less_than_equal": "must be at most {le:,}",
    "literal_error": "must be {expected}",
    "string_too_short": "must be at least {min_length} long",
    "string_type": "must be text",
}
"""Text by the type of the error. Its fields are those of the error's context."""


def describe_problem(problem: Any, setting: str) -> str:
    """Return what is wrong with the value of a setting, such as `must be a whole number`, without the value.

    Args:
        problem: one of `ValidationError.errors()`.
        setting: its name, such as `read_threads`.
    """
    context: dict[str, Any] = problem.get("ctx", {})
    if problem["type"] == "string_pattern_mismatch":
        return PATTERN_WORDS[context["pattern"]]
    if problem["type"] == "value_error":
        return str(context["error"])
    text = TEXTS.get(problem["type"])
    if text is None:
        return f"{problem['msg'][0].lower()}{problem['msg'][1:]}"
    described = text.format(**context).replace("''", "empty")
    return f"{described} or {OTHER_WORDS[setting]}" if setting in OTHER_WORDS else described


def describe_unknown(place: str, name: str, known: Iterable[str]) -> str:
    """Return a line about a setting that does not exist, with the one that may be meant.

    Args:
        place: the variable, or the place in a settings file.
        name: the setting, such as `read_thread`.
    """
    close = get_close_matches(name, list(known), n=1, cutoff=SIMILARITY_MIN)
    prefix = PREFIX if place.startswith(PREFIX) else ""
    named = "" if prefix else f": {name}"
    suggestion = f"; did you mean {prefix + close[0].upper() if prefix else close[0]}?" if close else ""
    return f"{place}: no such setting{named}{suggestion}"
