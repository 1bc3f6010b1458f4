"""Exemptions from tax, of customers and of orders."""

from __future__ import annotations

import msgspec
from msgspec.structs import replace

from storekeep.server.domain.errors import InvalidField


class Exemption(msgspec.Struct, frozen=True, omit_defaults=True):
    """The reason why a customer or an order pays no tax, and when it holds; None for no bound."""

    reason: str
    certificate: str = ""
    until_time_us: int | None = None
    from_time_us: int | None = None

    def holds(self, now_us: int) -> bool:
        """Return whether it holds at an instant."""
        begun = self.from_time_us is None or self.from_time_us <= now_us
        return begun and (self.until_time_us is None or now_us < self.until_time_us)


def hide_exemption(exemption: Exemption | None) -> Exemption | None:
    """Return an exemption without its reason and its certificate: when it holds determines prices."""
    return None if exemption is None else replace(exemption, reason="", certificate="")


def check_exemption(exemption: Exemption | None, *, field: str) -> None:
    """Check that an exemption says why, and that it does not end before it begins.

    Args:
        field: the request field that contains it.

    Raises: InvalidField.
    """
    if exemption is None:
        return
    if not exemption.reason.strip():
        raise InvalidField(f"{field}.reason", "must not be blank")
    start_us, end_us = exemption.from_time_us, exemption.until_time_us
    if start_us is not None and end_us is not None and end_us <= start_us:
        raise InvalidField(f"{field}.end_time", "must be after start_time")
