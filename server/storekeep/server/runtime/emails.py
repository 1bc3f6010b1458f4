"""Email addresses of people who sign in: their stored form, and which ones could be mistaken for another's."""

from __future__ import annotations

import unicodedata

TOGETHER = (
    frozenset({"LATIN", "CJK", "HIRAGANA", "KATAKANA"}),
    frozenset({"LATIN", "CJK", "BOPOMOFO"}),
    frozenset({"LATIN", "CJK", "HANGUL"}),
)
"""Scripts that are written together: the level "highly restrictive" of Unicode's UTS 39."""
NAMES = {"IDEOGRAPHIC": "CJK", "KATAKANA-HIRAGANA": "KATAKANA"}
"""First words of names of characters that are no scripts."""


def normalize_email(text: str) -> str:
    """Return an email address in the form in which it is stored and compared: NFC, in lower case."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", text.strip()).casefold())


def find_email_problem(address: str) -> str:
    """Return why a normalized address may be mistaken for another one; empty if it may not.

    An address all in one other script, such as Cyrillic, is allowed, also if it looks like Latin letters.
    """
    if unicodedata.normalize("NFKC", address) != address:
        return "it has variants of letters or digits, such as full-width ones; use the usual ones"
    if any(unicodedata.category(character) in ("Cc", "Cf", "Co", "Cn") for character in address):
        return "it has an invisible character"
    local, _, domain = address.rpartition("@")
    for part in (local, *domain.split(".")):
        scripts = {_find_script(character) for character in part if unicodedata.category(character).startswith("L")}
        if len(scripts) > 1 and not any(scripts <= together for together in TOGETHER):
            return f"{part} mixes letters of several scripts: {', '.join(sorted(scripts)).lower()}"
    return ""


def _find_script(letter: str) -> str:
    """Return the script of a letter: the first word of its name."""
    word = unicodedata.name(letter, "UNKNOWN").partition(" ")[0]
    return NAMES.get(word, word)
