"""The types of events, as `noun.verb`, and what a filter that selects none of them should have said."""

from __future__ import annotations

from difflib import get_close_matches

STANDARD = ("created", "updated", "deleted", "undeleted")
VERBS: dict[str, tuple[str, ...]] = {
    "category": (*STANDARD, "archived", "unarchived"),
    "coupon": STANDARD,
    "customer": (*STANDARD, "erased", "merged"),
    "fulfillment": ("created", "updated", "shipped", "delivered", "restocked", "cancelled", "imported"),
    "location": STANDARD,
    "order": (
        "placed",
        "confirmed",
        "partially_fulfilled",
        "fulfilled",
        "completed",
        "cancelled",
        "expired",
        "updated",
        "edited",
        "lines_cancelled",
        "held",
        "resumed",
        "restocked",
        "imported",
        "reassigned",
    ),
    "order_note": ("added",),
    "price": STANDARD,
    "product": (*STANDARD, "published", "archived", "unarchived"),
    "promotion": (*STANDARD, "activated", "ended"),
    "quote": ("created", "updated", "sent", "accepted", "expired", "reassigned"),
    "reservation": ("created", "updated", "extended", "released", "committed", "expired"),
    "shipping_method": STANDARD,
    "stock": ("low", "out", "back"),
    "stock_level": ("updated",),
    "tax_rate": STANDARD,
    "tax_zone": STANDARD,
    "variant": (*STANDARD, "archived", "unarchived"),
}
"""Noun -> what can happen to it."""
TYPES = tuple(f"{noun}.{verb}" for noun, verbs in VERBS.items() for verb in verbs)


def describe_unknown(text: str, types: tuple[str, ...] = TYPES) -> str:
    """Return why a type, or a prefix of types that ends in `*`, selects none of some types; empty if it selects one."""
    if any(name.startswith(text[:-1]) if text.endswith("*") else name == text for name in types):
        return ""
    noun, _, verb = text.partition(".")
    verbs = [name.partition(".")[2] for name in types if name.startswith(f"{noun}.")]
    if verbs:
        close = get_close_matches(verb, verbs, n=1)
        known = [f"{noun}.{one}" for one in close or verbs]
    else:
        nouns = dict.fromkeys(name.partition(".")[0] for name in types)
        close = get_close_matches(noun, nouns, n=1)
        known = [f"{one}.*" for one in close or nouns]
    hint = f"did you mean {known[0]}?" if close else f"use one of: {', '.join(known)}"
    return f"no event has the type {text!r}; {hint}"
