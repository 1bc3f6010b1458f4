"""Types of settings: their bounds, and how their text is read."""

from __future__ import annotations

import os
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field

from storekeep.server.runtime.languages import TAG
from storekeep.server.runtime.settings_problems import DAY_TIMES, RATES

WORKERS_MAX = 256


def _resolve_auto(value: Any) -> Any:
    return len(os.sched_getaffinity(0)) if value == "auto" else value


def split_words(value: Any) -> Any:
    """Split a list that one variable holds, separated by spaces."""
    return tuple(value.split()) if isinstance(value, str) else value


def refuse_commas(values: tuple[str, ...]) -> tuple[str, ...]:
    """Return the values if none has a comma, which looks as if it separated them. Raises: ValueError."""
    if any("," in value for value in values):
        raise ValueError("separate the values by spaces, without commas")
    return values


Count = Annotated[int, Field(ge=1, le=1_000_000)]
Seconds = Annotated[float, Field(ge=0, le=86_400 * 365)]
Interval = Annotated[float, Field(gt=0, le=86_400)]
Bytes = Annotated[int, Field(ge=1024, le=64 * 1024 * 1024)]
Workers = Annotated[int, Field(ge=1, le=WORKERS_MAX), BeforeValidator(_resolve_auto)]
Rates = Annotated[str, Field(pattern=RATES)]
"""Calls per second by class of methods, such as `public=100 write=50`."""
DayTime = Annotated[str, Field(pattern=DAY_TIMES)]
"""A time of day, such as `03:30`, or empty."""
Tag = Annotated[str, Field(pattern=TAG, max_length=35)]
"""A language tag (BCP 47), such as `pt-BR`."""
Urls = Annotated[tuple[str, ...], BeforeValidator(split_words)]
"""URLs, which may have commas."""
Words = Annotated[Urls, AfterValidator(refuse_commas)]
