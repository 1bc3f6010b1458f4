"""Names of options or of columns in place of fields of the contract, in the errors of a command or of an import."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping

FIELD = re.compile(r"[a-z][a-z0-9_]*(\[[^\]]*\])?([.][a-z][a-z0-9_]*(\[[^\]]*\])?)*(?=: )")
"""The path of a field at the beginning of an error, such as `variant.prices[0]` in `variant.prices[0]: is too high`."""
QUOTED = re.compile(r"`([a-z][a-z0-9_]*)`")
NUMBER = re.compile(r"\[([0-9]{1,9})\]$")
INDEX = re.compile(r"\[[^\]]*\]")
SUFFIXES = ("_id", "_code", "_time")
OTHER_NAMES: Mapping[str, tuple[str, ...]] = {
    "amount": ("price",),
    "areas": ("area",),
    "components": ("tax",),
    "destination": ("to",),
    "display_name": ("name",),
    "event_types": ("event", "type"),
    "expire_time": ("until",),
    "lines": ("line",),
    "locality": ("city",),
    "max_uses_per_customer": ("max_per_customer",),
    "order_time": ("order_date",),
    "percentage_ppm": ("percent",),
    "quantity_delta": ("by",),
    "region_code": ("country",),
    "ship_time": ("ship_date",),
    "shipping_address": ("country",),
    "source": ("from",),
    "update_mask": ("clear",),
}
"""Field -> options, where their names differ by more than a suffix or a plural."""
OF_ELEMENTS: Mapping[str, str] = {"tiers.min_amount": "amount_tier", "tiers.min_units": "tier"}
"""Field of the elements of a list -> option of a whole element, where an option for something else is named like it.
The list has the elements of several options, so its index is not told."""


def name_options(text: str, options: Mapping[str, str], *, repeated: Collection[str] = ()) -> str:
    """Return an error with the options of the command in place of fields; a field without an option stays.

    Args:
        options: the name of an option without dashes, such as `tax_id` -> the option, such as `--tax-id`.
        repeated: the options that were given more than once, of which an error says which one it means: `--line no. 2`.
    """
    start = FIELD.match(text)
    if start is not None and (option := _find_option(start.group(), options, repeated)):
        text = option + text[start.end() :]
    return QUOTED.sub(lambda quoted: _find_field_option(quoted[1], options) or quoted[0], text)


def _find_option(path: str, options: Mapping[str, str], repeated: Collection[str]) -> str:
    """Return the option that sets a field, or the whole element of a list that has the field; empty if none does."""
    parts = path.split(".")
    if option := options.get(OF_ELEMENTS.get(INDEX.sub("", ".".join(parts[-2:])), "")):
        return option
    elements = [part for part in reversed(parts[:-1]) if part.endswith("]")]
    found = ((part, _find_field_option(INDEX.sub("", part), options)) for part in (parts[-1], *elements))
    return next(
        (option + (_describe_index(part) if option in repeated else "") for part, option in found if option), ""
    )


def _describe_index(part: str) -> str:
    """Return which of several options a field means, as ` no. 2` for `lines[1]`; empty without an index."""
    index = NUMBER.search(part)
    return f" no. {int(index[1]) + 1}" if index else ""


def _find_field_option(field: str, options: Mapping[str, str]) -> str:
    names = [field, *OTHER_NAMES.get(field, ()), *(field.removesuffix(suffix) for suffix in SUFFIXES)]
    names += [field.removesuffix("s"), "id" if field.endswith("_id") else ""]
    return next((options[name] for name in names if name in options), "")
