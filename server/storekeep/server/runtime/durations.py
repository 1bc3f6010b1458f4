"""Lengths of time in microseconds, the unit of all stored times."""

from __future__ import annotations

DAY_US = 86_400_000_000
