"""Updates of users, and the sessions and passwords that they end.

Invariant: nobody gets permissions through the password of another. The creator of a password link may have set the
password itself, so new roles that give more than the creator had end it.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from storekeep.server.domain.access.permissions import apply_limit, find_permissions, require_held
from storekeep.server.domain.access.user_secrets import discard_secrets, find_limit
from storekeep.server.domain.access.user_sessions import end_sessions
from storekeep.server.domain.access.users import USERS, User, check_link, check_user, hide_owner
from storekeep.server.domain.calls import Call
from storekeep.server.domain.errors import AlreadyExists
from storekeep.server.domain.mutations import Mutation, mutate
from storekeep.server.domain.standard.resources import check_etag, check_not_deleted
from storekeep.server.store.engine import Store
from storekeep.server.store.sql.transactions import Transaction


def update_user(database: Store, call: Call, new_user: User, *, fields: Sequence[str], etag: str) -> User:
    """Set the named fields to the values in `new_user`.

    The caller must have all permissions of the old and the new roles. Unlinking a user from the identity provider ends
    its sessions: the provider vouched for them, and limited how long they go on. Permissions that the creator of the
    link for the password lacked end the password, the second factor and the sessions.

    Raises: InvalidField if a field links the user; UserNotFound, RoleNotFound, PrivilegeEscalation, ResourceDeleted,
        EtagMismatch, AlreadyExists.
    """

    def check(mutation: Mutation, _stored: User | None) -> None:
        check_user(mutation, new_user.id)
        if "roles" in fields:
            require_held(find_permissions(mutation.tx, new_user.roles), caller=call.caller)

    def effect(mutation: Mutation) -> User:
        old = USERS.find(mutation.tx, (new_user.id,))
        check_not_deleted(old)
        check_etag(old, etag)
        if "identity" in fields:
            check_link(old, new_user)
        changed = msgspec.structs.replace(new_user, identity=old.identity if new_user.identity else "")
        with hide_owner(call):
            if "email" in fields and new_user.email == old.email and not call.caller.reads_personal_data:
                raise AlreadyExists(old.name)  # as for the address of another: else a caller could try whose it is
            new = USERS.edit(mutation, changed, fields=fields, etag=etag)
        if old.identity and not new.identity:
            end_sessions(mutation, new.id)
        if new.has_password and not _is_password_enough(mutation.tx, old, new):
            end_sessions(mutation, new.id)
            return discard_secrets(mutation, new)
        return new

    return mutate(database, call, effect, User, check_access=check)


def _is_password_enough(tx: Transaction, old: User, new: User) -> bool:
    """Return whether the password of a user gives all permissions that its new roles add."""
    more = frozenset(find_permissions(tx, new.roles)).difference(find_permissions(tx, old.roles))
    return apply_limit(more, frozenset(find_limit(tx, new.id))) == more
