"""Windows of time of prices, rates and promotions."""

from __future__ import annotations

from storekeep.server.domain.errors import InvalidField


def check_window(start_time_us: int | None, end_time_us: int | None, *, field: str) -> None:
    """Raise InvalidField unless a window starts before it ends. None stands for no bound.

    Args:
        field: the request field of the end, for the error.
    """
    if start_time_us is not None and end_time_us is not None and end_time_us <= start_time_us:
        raise InvalidField(field, "must be after start_time")
