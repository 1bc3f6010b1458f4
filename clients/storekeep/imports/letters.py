"""Latin spellings of letters, from which ids are made."""

# ruff: noqa: RUF001 - the letters of these tables are meant
from __future__ import annotations

LATIN = "ß ss æ ae œ oe ø o đ d ð d þ th ł l ħ h ı i"
CYRILLIC = (
    "а a б b в v г g д d е e ё e ж zh з z и i й i к k л l м m н n о o п p р r с s т t у u ф f х kh ц ts ч ch ш sh "
    "щ shch ъ ie ы y ь - э e ю iu я ia і i ї i є ie ґ g ў u ђ dj ј j љ lj њ nj ћ c џ dz ѓ gj ќ kj ѕ dz"
)
"""As in passports (ICAO 9303); Ukrainian, Belarusian, Serbian and Macedonian letters are at the end."""
GREEK = "α a β v γ g δ d ε e ζ z η i θ th ι i κ k λ l μ m ν n ξ x ο o π p ρ r σ s ς s τ t υ y φ f χ ch ψ ps ω o"
"""Without accents, which are removed before."""


def _read_pairs(text: str) -> dict[str, str]:
    words = text.split()
    return dict(zip(words[::2], words[1::2], strict=True))


LETTERS = str.maketrans({**_read_pairs(LATIN), **_read_pairs(CYRILLIC), **_read_pairs(GREEK), "ь": ""})
"""Latin spellings of small letters that have no decomposition into a Latin letter and accents."""
DOTLESS_I = "ı"
