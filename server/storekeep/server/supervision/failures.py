"""Failures of supervision, apart from it: every command reports them, and only `serve` supervises."""

from __future__ import annotations


class WorkerFailed(Exception):
    """A worker could not start, so the server does not start."""
