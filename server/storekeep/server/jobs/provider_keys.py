"""The job that downloads the public keys of the identity provider, in each server process.

Invariant: however many tokens with unknown keys arrive, a download starts at most every `DOWNLOADS_APART_S`. If one
fails, the keys of the last one stay in use.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from storekeep.server.integrations.provider_keys import KeysNotAvailable
from storekeep.server.jobs.periodic import PeriodicJob
from storekeep.server.transport.provider_tokens import KeySetUnreadable, ProviderKeys, parse_key_set

CHECK_INTERVAL_S = 0.5
DOWNLOADS_APART_S = 30.0

log = logging.getLogger("storekeep.jobs")


class ProviderKeysJob(PeriodicJob):
    """Downloads the keys at the start, at an interval, and soon after an unknown key.

    Args:
        keys: takes the keys.
        fetch: returns the key set; raises KeysNotAvailable or OSError.
        interval_s: time between two downloads.
        apart_s: time between two downloads if there are no keys, or a key was unknown.
    """

    def __init__(
        self,
        keys: ProviderKeys,
        fetch: Callable[[], bytes],
        *,
        interval_s: float,
        apart_s: float = DOWNLOADS_APART_S,
    ) -> None:
        super().__init__(
            "provider-keys",
            interval_s=CHECK_INTERVAL_S,
            success_message="new keys of the identity provider",
            failure_message="the keys of the identity provider were not downloaded",
        )
        self._keys = keys
        self._fetch = fetch
        self._apart_s = apart_s
        self._refresh_s = interval_s
        self._next_s = 0.0
        self._earliest_s = 0.0
        self._last_failure = ""

    def run_once(self) -> int:
        """Download the keys if that is due.

        Returns: 1 if the keys are others than before; 0 otherwise.
        """
        now_s = time.monotonic()
        if now_s < self._earliest_s or (now_s < self._next_s and not self._keys.is_wanted):
            return 0
        self._earliest_s, self._next_s = now_s + self._apart_s, now_s + self._refresh_s
        try:
            is_changed = self._keys.replace(parse_key_set(self._fetch()))
        except (KeysNotAvailable, KeySetUnreadable, OSError) as error:
            self._next_s = self._earliest_s
            if str(error) != self._last_failure:  # log a repeated failure once
                log.warning(self._failure_message, extra={"problem": str(error)})
            self._last_failure = str(error)
            return 0
        self._last_failure = ""
        return int(is_changed)
