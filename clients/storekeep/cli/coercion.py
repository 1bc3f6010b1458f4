"""Conversion of the values on the command line, in place of typer's, which loads pydantic and uses its words.

pydantic takes longer to load than most commands take to run. typer has no setting for this, so `install_converters`
replaces the function with which it makes a converter. A type that is not in `CONVERTERS` keeps typer's.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from difflib import get_close_matches
from enum import Enum
from pathlib import Path
from typing import Any, get_args, get_origin

import typer
import typer.core

from storekeep.cli.integers import parse_integer

FALSE_WORDS = frozenset({"", "0", "false", "f", "no", "n", "off"})
TRUE_WORDS = frozenset({"1", "true", "t", "yes", "y", "on"})
FUNCTION = "build_runtime_param"
METHOD = "display_type"
"""Names of typer's function, and of the method that returns the placeholder of a parameter in a help text."""
PLACEHOLDERS: Mapping[Any, str] = {bool: "", int: "NUMBER", float: "NUMBER", Path: "FILE"}

Convert = Callable[[Any, Any], Any]
"""Converts a value, given the `ParameterInfo` of its option. Raises ValueError."""


class Converter:
    """Converts the values of one option or argument. It has the interface of typer's `RuntimeParam`."""

    def __init__(self, convert: Convert, info: Any) -> None:
        self._convert = convert
        self._info = info

    def coerce(self, value: Any, param: Any, ctx: Any) -> Any:
        """Return the value or values of a parameter, converted.

        Raises: typer.BadParameter.
        """
        is_multiple = param.multiple or param.nargs == -1
        if value is None:
            return () if is_multiple else None
        try:
            if is_multiple:
                return [self._convert(item, self._info) for item in value]
            return self._convert(value, self._info)
        except ValueError as error:
            raise typer.BadParameter(str(error), ctx=ctx, param=param) from None


def install_converters() -> None:
    """Make typer use the converters and placeholders of this module. What typer does not have is not replaced."""
    original = getattr(typer.core, FUNCTION, None)
    if original is None or isinstance(original, _Builder):
        return
    setattr(typer.core, FUNCTION, _Builder(original))
    for parameter in (typer.core.TyperOption, typer.core.TyperArgument):
        if hasattr(parameter, METHOD):
            setattr(parameter, METHOD, _describe_type)


def _describe_type(parameter: Any, _ctx: Any) -> str:
    """Return the placeholder of a parameter without a metavar: empty for a flag."""
    annotation = parameter.type_descriptor.annotation
    if get_origin(annotation) is list:
        (annotation,) = get_args(annotation)
    if isinstance(annotation, type) and issubclass(annotation, Enum):
        return "|".join(str(choice.value) for choice in annotation)
    return PLACEHOLDERS.get(annotation, "TEXT")


class _Builder:
    """Makes the converter of a parameter."""

    def __init__(self, original: Callable[[Any], Any]) -> None:
        self._original = original

    def __call__(self, descriptor: Any) -> Any:
        annotation = descriptor.annotation
        if get_origin(annotation) is list:
            (annotation,) = get_args(annotation)
        convert = CONVERTERS.get(annotation)
        if convert is None and isinstance(annotation, type) and issubclass(annotation, Enum):
            convert = _make_choice_converter(annotation)
        return self._original(descriptor) if convert is None else Converter(convert, descriptor.parameter_info)


def _convert_text(value: Any, _info: Any) -> str:
    return str(value)


def _convert_flag(value: Any, _info: Any) -> bool:
    word = str(value).strip().lower()
    if word not in FALSE_WORDS | TRUE_WORDS:
        raise ValueError(f"{value!r} must be true or false")
    return word in TRUE_WORDS


def _convert_integer(value: Any, info: Any) -> int:
    return int(_check_range(parse_integer(str(value).strip()), info))


def _convert_number(value: Any, info: Any) -> float:
    try:
        number = float(value)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise ValueError(f"{value!r} is not a number")
    return _check_range(number, info)


def _check_range(number: float, info: Any) -> float:
    if info.min is not None and number < info.min:
        raise ValueError(f"{number} is too small; it must be at least {info.min}")
    if info.max is not None and number > info.max:
        raise ValueError(f"{number} is too large; it must be at most {info.max}")
    return number


def _convert_path(value: Any, info: Any) -> Path:
    path = Path(value)
    if info.exists and not path.exists():
        raise ValueError(f"there is no file {str(value)!r}")
    if not info.dir_okay and path.is_dir():
        raise ValueError(f"{str(value)!r} is a directory")
    return path


def _make_choice_converter(choices: type[Enum]) -> Convert:
    existing = {str(choice.value): choice for choice in choices}

    def convert(value: Any, _info: Any) -> Enum:
        if isinstance(value, choices):
            return value
        if value in existing:
            return existing[value]
        close = get_close_matches(str(value), existing, n=1)
        advice = f"did you mean {close[0]}?" if close else f"choose from {', '.join(existing)}"
        raise ValueError(f"{value!r} is not a choice; {advice}")

    return convert


CONVERTERS: Mapping[Any, Convert] = {
    str: _convert_text,
    bool: _convert_flag,
    int: _convert_integer,
    float: _convert_number,
    Path: _convert_path,
}
"""The converter of each type."""
