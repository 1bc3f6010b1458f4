"""Reloads on SIGHUP: reload the settings, or stop if the controlling terminal was closed."""

from __future__ import annotations

import logging
import os

from storekeep.server.config import InvalidSettings, LoadedSettings, load_settings

ON_TERMINAL = os.isatty(0)
"""Whether standard input was a terminal at the start. A closed terminal is no longer one."""

log = logging.getLogger("storekeep.server")


def is_terminal_closed() -> bool:
    """Return whether the terminal that started the server was closed, for which the kernel also sends SIGHUP."""
    return ON_TERMINAL and not os.isatty(0)


def reload_settings(loaded: LoadedSettings) -> LoadedSettings | None:
    """Return the current settings, or log an error and return None if they are invalid."""
    try:
        return load_settings(arguments=loaded.arguments)
    except InvalidSettings as error:
        log.error("the new settings cannot be used; nothing changes", extra={"problems": error.problems})
        return None
