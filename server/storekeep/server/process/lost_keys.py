"""The command `give-up-keys`: the way on after the key-encryption key (KEK) was lost, on both engines.

Invariant: it gives up no data key that this server can use, and a run that was killed is finished by the next one.
"""

from __future__ import annotations

from contextlib import closing

from storekeep.server.config import Settings
from storekeep.server.domain.integrity.search_documents import check_documents, rebuild_documents
from storekeep.server.domain.keys.personal_fields import has_index_key
from storekeep.server.domain.personal_data.lost_keys import LostKeys, find_lost_keys, give_up_keys
from storekeep.server.store.engine import Store
from storekeep.server.store.opening import hold_serve_lock, open_store
from storekeep.server.transport.contract import read_contract
from storekeep.server.wiring.access import make_access
from storekeep.server.wiring.data_keys import find_data_keys
from storekeep.server.wiring.keyrings import read_keyring


def run_give_up(settings: Settings, *, confirmed: bool) -> list[str]:
    """Give up the data keys that need a lost KEK, or say what that would lose.

    Args:
        confirmed: do it.

    Returns: lines for the operator.

    Raises: DatabaseInUse if a server serves the SQLite file; FileNotFoundError without the server's secret;
        SecretUnknown; WeakSecret; ExposedFile; OSError; the store's errors.
    """
    with (
        hold_serve_lock(settings.database),
        closing(open_store(settings.database, limits=settings.database_limits)) as store,
    ):
        data_keys = find_data_keys(settings)
        lost = find_lost_keys(store, () if data_keys is None else data_keys.encryption.list_key_ids())
        is_lost = bool(lost.key_ids) or lost.missing
        store.data_keys = data_keys
        if not is_lost and not (lost.given_up and _is_unfinished(store)):
            return ["Every data key can be used: nothing is lost, and nothing was given up."]
        if not confirmed and not is_lost:
            return [
                "Keys were given up, but the search documents were not rebuilt: an earlier run was interrupted.",
                "To finish it, stop all servers, and run: storekeep-server give-up-keys --yes",
            ]
        if not confirmed:
            return [
                f"This would lose {_describe(lost)} for good. Orders, totals and the audit log stay.",
                "To lose nothing, put the right kek.key into the data directory, or restore the data keys of a backup.",
                "To give them up, stop all servers, make a backup, and run: storekeep-server give-up-keys --yes",
            ]
        make_access(settings, store, read_contract(), keyring=read_keyring(settings))
        give_up_keys(store)
        rebuild_documents(store)
    if not is_lost:
        return ["Rebuilt the search documents: every data key can be used."]
    lines = [f"Gave up {_describe(lost)}. New personal data gets new keys."]
    if lost.persons.get("users"):
        lines.append("These users cannot sign in any more: delete them, and invite the people anew under other ids.")
    return lines


def _is_unfinished(store: Store) -> bool:
    """Return whether the key of blind indexes or search documents do not fit the keys that were given up."""
    return not store.read(has_index_key) or any(True for _ in check_documents(store))


def _describe(lost: LostKeys) -> str:
    """Return whose personal data is lost, and why."""
    counts = [f"{count} {collection}" for collection, count in sorted(lost.persons.items())]
    persons = f"the personal data of {', '.join(counts)}" if counts else "the personal data without a data key"
    needed = f" (it needs the key-encryption key {', '.join(lost.key_ids)})" if lost.key_ids else ""
    return f"{persons}{needed}"
