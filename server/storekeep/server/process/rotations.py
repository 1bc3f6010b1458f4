"""The command `rotate-secret`: starts a rotation of the server's secret, and finishes it.

Invariant: the previous secret is deleted only if no valid API key needs it, or on explicit request.
"""

from __future__ import annotations

from storekeep.server.config import Settings
from storekeep.server.domain.access.server_secrets import list_keys_under_older_secrets
from storekeep.server.runtime.secrets import (
    PREVIOUS_FILE,
    SECRET_FILE,
    RotationRefused,
    begin_rotation,
    end_rotation,
)
from storekeep.server.store.engine import Store
from storekeep.server.wiring.access import rotate_secret
from storekeep.server.wiring.keyrings import make_keyring

NAMES_MAX = 20
"""Maximum number of API keys to name in a message."""


def start_rotation(settings: Settings, store: Store) -> list[str]:
    """Make the database use the new secret, and create that first if it is in a file.

    Returns: lines for the operator.

    Raises: RotationRefused, WeakSecret, ExposedFile, OSError.
    """
    keyring = make_keyring(settings)
    newest = keyring.list_secrets()[0]
    is_started = store.read(lambda tx: keyring.read_current(tx)).secret != newest
    if not is_started and settings.secret.get_secret_value():
        raise RotationRefused(
            "the secret is in the environment: restart all servers with the new one as STOREKEEP_SECRET and the "
            "current one as STOREKEEP_SECRET_PREVIOUS, then run this command with both"
        )
    rotate_secret(settings, store, newest if is_started else begin_rotation(settings.data_dir))
    days = f"{settings.secret_overlap_days:g}"
    lines = [f"The database uses the new secret. API keys move to it when they are used, within {days} days."]
    if not settings.secret.get_secret_value():
        lines.append(f"Back up {settings.data_dir / SECRET_FILE}. When all keys have been used: rotate-secret --finish")
    return lines


def finish_rotation(settings: Settings, store: Store, *, force: bool) -> list[str]:
    """Delete the previous secret.

    Args:
        force: delete it even if valid API keys are still stored under it, which invalidates them.

    Returns: lines for the operator.

    Raises: RotationRefused, with the keys that need the secret; WeakSecret; ExposedFile; OSError.
    """
    keyring = make_keyring(settings)
    if store.read(lambda tx: keyring.read_current(tx)).secret != keyring.list_secrets()[0]:
        raise RotationRefused("the database still uses the previous secret; run rotate-secret first")
    is_configured = bool(settings.secret.get_secret_value())
    if not (is_configured or (settings.data_dir / PREVIOUS_FILE).exists()):
        raise RotationRefused(f"no rotation is in progress: {settings.data_dir / PREVIOUS_FILE} does not exist")
    keys = list_keys_under_older_secrets(store)
    if keys and not force:
        days = f"{settings.secret_overlap_days:g}"
        raise RotationRefused(
            f"{_describe_loss(keys)}. Nothing was deleted. Log in with each key once within {days} days of the "
            "rotation, revoke keys that nobody needs, or add --force to invalidate them"
        )
    loss = f" {_describe_loss(keys)}." if keys else ""
    if is_configured:
        return [f"Remove STOREKEEP_SECRET_PREVIOUS and restart all servers.{loss}"]
    end_rotation(settings.data_dir)
    return [f"The previous secret is deleted.{loss or ' No API key needed it.'}"]


def _describe_loss(keys: list[str]) -> str:
    """Return how many API keys end with the previous secret, and their names."""
    count = "1 API key stops" if len(keys) == 1 else f"{len(keys)} API keys stop"
    names = ", ".join(keys[:NAMES_MAX])
    more = f" and {len(keys) - NAMES_MAX} more" if len(keys) > NAMES_MAX else ""
    return f"{count} working without the previous secret: {names}{more}"
