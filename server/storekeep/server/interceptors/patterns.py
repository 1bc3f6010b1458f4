"""Patterns: describes the regular expressions of the contract in words, which callers see instead of the expression.

A test checks that every pattern of the contract has a description.
"""

from __future__ import annotations

from functools import cache

from storekeep.server.runtime import languages

ID = "[A-Za-z0-9][A-Za-z0-9_.-]{0,62}"
SKU = "[A-Za-z0-9][A-Za-z0-9_.+-]{0,63}"
NUMBER = "[0-9]{1,19}"
LETTERS = (
    "\u00a1-\u00ac\u00ae-\u167f\u1681-\u1fff\u2c00-\u2fff\u3001-\ud7ff\uf900-\ufdcf\ufdf0-\ufefe\uff00-\uffef"
    "\U00010000-\U000e01ef"
)
"""Characters beyond ASCII in an email address, without spaces, signs and private characters."""
LABEL = f"[A-Za-z0-9{LETTERS}]([A-Za-z0-9{LETTERS}-]{{0,61}}[A-Za-z0-9{LETTERS}])?"
EMAIL = f"[A-Za-z0-9.!#$%&'*+/=?^_`{{|}}~{LETTERS}-]+@{LABEL}([.]{LABEL})*"
PERMISSION = r"[a-z][a-z_]{0,30}(\.[a-z][a-z_]{0,30}){1,2}"
TAG = languages.TAG.removeprefix("^").removesuffix("$")

RULES = {
    ID: "1 to 63 letters, digits and _.- and begins with a letter or digit",
    SKU: "1 to 64 letters, digits and _.+- and begins with a letter or digit",
}
WORDS = {
    ID: f"an id, which has {RULES[ID]}",
    SKU: f"a SKU, which has {RULES[SKU]}",
    EMAIL: "an email address, such as ann@example.com",
    PERMISSION: "a permission, such as orders.read",
    f"({PERMISSION}|[*]|authenticated)": "a permission, such as orders.read, or * for all, or authenticated",
    "[A-Z]{2}": "a country code of two capital letters, such as DE (ISO 3166)",
    "[A-Z]{3}": "a currency code of three capital letters, such as EUR (ISO 4217)",
    "[a-z][a-z0-9_-]{0,62}": "1 to 63 small letters, digits and _- and begin with a letter",
    "https://[!-~]+": "an HTTPS URL without spaces",
    "([*]|[a-z][a-z_]{0,40}[.]([*]|[a-z][a-z_]{0,40}))": "an event type such as order.placed, order.* or *",
    "https?://[!-~]+": "an HTTP or HTTPS URL without spaces",
    TAG: "a language tag of BCP 47, such as de or pt-BR",
    "[A-Za-z0-9]{0,20}": "at most 20 letters and digits",
    "[A-Z2-7]{32,64}": "32 to 64 characters of base 32: capital letters and the digits 2 to 7",
    "[!-~]{1,64}": "1 to 64 printable ASCII characters without spaces",
}
"""Descriptions of patterns, without anchors, that are not resource names."""
NOTES = {"orders/ID": '; find an order by its number with a filter such as number = "SK-00000001"'}
"""What is added to the description of a resource name, because people know the resource by something else."""
ALL = "ID or -"
PARTS = ((f"(-|{ID})", ALL), (f"({ID}|-)", ALL), (ID, "ID"), (SKU, "SKU"), (NUMBER, "NUMBER"))
"""Descriptions of the parts of a resource name. A part that also accepts the wildcard `-` comes first."""


@cache
def describe_pattern(pattern: str) -> str:
    """Return the rule that a pattern states, such as `must be an id, which ...`."""
    inner = pattern.removeprefix("^").removesuffix("$")
    if inner.startswith("(") and inner.endswith(")?"):
        inner = inner[1:-2]
    return f"must be {WORDS.get(inner) or _describe_name(inner)}"


def _describe_name(pattern: str) -> str:
    form = pattern
    for part, word in PARTS:
        form = form.replace(part, word)
    collection = form.removesuffix(ALL)
    forms = form if collection == form else f"{collection}ID or {collection}-"
    rules = [f"{word} has {RULES[part]}" for part, word in PARTS if part in RULES and word in form]
    return f"a name like {forms}" + (f", where {', and '.join(rules)}" if rules else "") + NOTES.get(form, "")
