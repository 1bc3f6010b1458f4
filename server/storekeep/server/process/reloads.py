"""Reloads: what SIGHUP means: read the settings again, or, from a terminal that was closed, stop."""

from __future__ import annotations

import logging
import os

from storekeep.server.config import InvalidSettings, LoadedSettings, load_settings

ON_TERMINAL = os.isatty(0)
"""Whether whoever started the server sits at a terminal. Once that is closed, it is none any more."""

log = logging.getLogger("storekeep.server")


def is_abandoned() -> bool:
    """Whether the terminal that the server was started from is gone, which the kernel tells by SIGHUP too."""
    return ON_TERMINAL and not os.isatty(0)


def reload_settings(loaded: LoadedSettings) -> LoadedSettings | None:
    """The settings as they are now; None, and a line in the log, where they cannot be used."""
    try:
        return load_settings(arguments=loaded.arguments)
    except InvalidSettings as error:
        log.error("the new settings cannot be used; nothing changes", extra={"problems": error.problems})
        return None
