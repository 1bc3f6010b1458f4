"""Tax ids: checks the form and the check digits of VAT numbers, without asking any authority.

A tax id that begins with the letters of a country of the EU, of Northern Ireland, the United Kingdom or Switzerland has
to be a VAT number of that country, in ASCII. Any other visible text with a letter or a digit is accepted as it is.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable

from stdnum.ch import uid as swiss
from stdnum.eu import vat as european
from stdnum.exceptions import InvalidChecksum, InvalidLength, ValidationError
from stdnum.gb import vat as british

SWISS_SUFFIXES = ("MWST", "TVA", "IVA", "TPV")
"""The suffix of a Swiss VAT number in each language; it may be missing."""


def _validate_swiss(compact: str) -> None:
    """Validate a Swiss VAT number. Raises: ValidationError."""
    swiss.validate(next((compact.removesuffix(one) for one in SWISS_SUFFIXES if compact.endswith(one)), compact))


CHECKS: dict[str, Callable[[str], object]] = {
    "CHE": _validate_swiss,
    "GB": british.validate,
    "EL": european.validate,
    **{state.upper(): european.validate for state in european.MEMBER_STATES},
}
"""The letters that a VAT number begins with -> the function that validates it."""
INVISIBLE = ("Cc", "Cf", "Cn", "Co", "Cs", "Zl", "Zp")
"""The Unicode categories of control, format and unassigned characters, and of separators of lines and paragraphs."""
PROBLEMS = ((InvalidLength, "it has a wrong length"), (InvalidChecksum, "its check digits are wrong"))


def find_tax_id_problem(tax_id: str) -> str:
    """Return what is wrong with a tax id; empty for nothing, and for one that is not checked."""
    if any(unicodedata.category(character) in INVISIBLE for character in tax_id):
        return "must not have control characters or characters that are not visible"
    written = "".join(character for character in tax_id if character.isalnum())
    if tax_id and not written:
        return "must have letters or digits"
    compact = unicodedata.normalize("NFKC", written).upper()
    prefix = next((letters for letters in CHECKS if compact.startswith(letters)), "")
    if not prefix or not any(character.isdigit() for character in compact):
        return ""
    if not written.isascii():
        return f"is not a VAT number of {prefix}: it has characters that are not ASCII letters or digits"
    try:
        CHECKS[prefix](compact)
    except ValidationError as error:
        detail = next((text for kind, text in PROBLEMS if isinstance(error, kind)), "it has a wrong form")
        return f"is not a VAT number of {prefix}: {detail}"
    return ""
