"""Users: the people who sign in with an email address and a password.

A caller can neither grant a user permissions that it lacks itself, nor change a user who has such permissions. This
holds for disabled and deleted users too. Users themselves change only their password, second factor and sessions.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import ClassVar

import msgspec

from storekeep.server.domain.access.accounts import check_no_lookalike, make_check
from storekeep.server.domain.access.permissions import find_permissions, raise_version, require_held
from storekeep.server.domain.calls import Call, Caller
from storekeep.server.domain.errors import AlreadyExists, InvalidField, UserNotFound
from storekeep.server.domain.keys.personal_fields import PersonalFields, decrypt_texts, hide_text, make_token
from storekeep.server.domain.mutations import Mutation, mutate
from storekeep.server.domain.standard.collections import Collection
from storekeep.server.domain.standard.filters import FilterField, Kind
from storekeep.server.domain.standard.lists import Column, Listing
from storekeep.server.runtime.emails import find_email_problem
from storekeep.server.store.engine import Store
from storekeep.server.store.sql.transactions import Transaction
from storekeep.server.store.tables import users as store

PREFIX = "users/"
STAYS_LINKED = "stays"
"""The `identity` of a user in a request that says that it is linked. It is never stored."""


class User(msgspec.Struct, frozen=True):
    """A user; see `User` in the contract. `roles` holds role ids.

    Attributes:
        email: the email address, in lower case and NFC.
        identity: the blind index of the person at the identity provider; empty for a user of this server alone.
        secrets_digest: a digest of the password hash and the second factor, so that the audit log shows changes.
    """

    PERSONAL: ClassVar = PersonalFields(
        {"display_name": hide_text, "email": hide_text},
        find_subject=lambda _, user: user.name,
        tokens=("display_name", "email"),
    )

    id: str
    display_name: str
    email: str
    roles: tuple[str, ...] = ()
    disabled: bool = False
    has_password: bool = False
    totp_enabled: bool = False
    secrets_digest: str = ""
    identity: str = ""
    encrypted: str = ""
    version: int = 0
    create_time_us: int = 0
    update_time_us: int = 0
    delete_time_us: int | None = None

    @property
    def name(self) -> str:
        """The resource name."""
        return f"{PREFIX}{self.id}"


def find_own_id(caller: Caller) -> str:
    """Return the id of the user who calls; an id that no user has if the caller is a program."""
    return caller.subject.removeprefix(PREFIX) if caller.subject.startswith(PREFIX) else ""


def index_email(tx: Transaction, email: str) -> str:
    """Return the blind index of an email address in lower case and NFC.

    Raises: DataKeysMissing.
    """
    return make_token(tx, "email", email)


def index_identity(tx: Transaction, issuer: str, subject: str) -> str:
    """Return the blind index of a person at an identity provider.

    Raises: DataKeysMissing.
    """
    return make_token(tx, "identity", f"{issuer} {subject}")


def make_own_mutation(tx: Transaction, call: Call, user_id: str) -> Mutation:
    """Return a mutation on behalf of a user whose password, link or ID token was presented."""
    return Mutation(tx, msgspec.structs.replace(call, caller=Caller(f"{PREFIX}{user_id}")))


class _Names(msgspec.Struct, frozen=True):
    """The part of the encrypted data that a caller has."""

    display_name: str = ""


_decode_names = msgspec.json.Decoder(_Names).decode


def read_display_name(tx: Transaction, user_id: str, encrypted: str) -> str:
    """Return the name of a user, from the column `encrypted` of its row; empty if its data key is lost.

    Raises: DataKeysMissing, DecryptionFailed.
    """
    (values,) = decrypt_texts(tx, [(encrypted, f"{PREFIX}{user_id}")])
    return _decode_names(values).display_name if values else ""


def _end_access(tx: Transaction, new: User, old: User | None) -> None:
    """Have other rights take effect, and end the password links of a user who changes in what they rest on.

    Their holders may not have the new permissions, or may be at the old address. The link of a deleted or disabled user
    would work again when the user is restored.
    """
    if old is None:
        return
    raise_version(tx)
    ends = (new.disabled and not old.disabled) or new.delete_time_us is not None
    if ends or (new.roles, new.email) != (old.roles, old.email):
        store.DELETE_PASSWORD_LINKS.run(tx, user_id=new.id)


def _check_email(tx: Transaction, new: User, old: User | None) -> None:
    """Raise unless a new email address is fit to tell its user from the others.

    Raises: InvalidField; AlreadyExists if another user, deleted or not, has the email address.
    """
    if old is not None and old.email == new.email:
        is_lost = not old.display_name and not old.email
        if is_lost and not new.identity and new.display_name:
            raise InvalidField("user.email", "the address is lost with its data key; set it together with the name")
        return
    problem = find_email_problem(new.email)
    if problem:
        raise InvalidField("user.email", problem)
    row = store.FIND_USER_BY_EMAIL.one(tx, email=index_email(tx, new.email))
    if row is not None and row[0] != new.id:
        raise AlreadyExists(f"{PREFIX}{row[0]}", problem="has this email address already")


@contextmanager
def hide_owner(call: Call) -> Iterator[None]:
    """Do not name the user who has the email address to a caller who may not read addresses.

    Raises: AlreadyExists.
    """
    try:
        yield
    except AlreadyExists:
        if call.caller.reads_personal_data:
            raise
        raise AlreadyExists("another user", problem="has this email address, or this id, already") from None


USERS = Collection(
    User,
    store.User,
    key=("id",),
    pattern="users/{}",
    event="user",
    not_found=UserNotFound,
    check=_check_email,
    store_parts=_end_access,
)
LISTING = Listing(
    method="ListUsers",
    query=lambda: store.User.select(*USERS.rows.fields),
    columns={
        **{
            field: Column(getattr(store.User, field), FilterField(Kind.ENCRYPTED), index=field)
            for field in User.PERSONAL.tokens
        },
        "disabled": Column(store.User.disabled, FilterField(Kind.BOOLEAN)),
        "create_time": Column(store.User.create_time_us, FilterField(Kind.TIME), sortable=True),
        "update_time": Column(store.User.update_time_us, FilterField(Kind.TIME), sortable=True),
    },
    unique=(store.User.id,),
    read_rows=USERS.read_rows,
    deleted=store.User.delete_time_us,
)


def check_user(mutation: Mutation, user_id: str) -> User:
    """Return a user; raise PrivilegeEscalation unless the caller has all permissions of its roles.

    Raises: UserNotFound, PrivilegeEscalation.
    """
    user = USERS.find(mutation.tx, (user_id,))
    require_held(find_permissions(mutation.tx, user.roles), caller=mutation.call.caller)
    return user


def check_link(old: User | None, new_user: User) -> None:
    """Raise InvalidField if a request says that a user is linked who is not."""
    if new_user.identity and (old is None or not old.identity):
        raise InvalidField("user.identity_linked", "only a sign-in with an ID token links a user")


def create_user(database: Store, call: Call, new_user: User) -> User:
    """Create a user without a password. The caller must have all permissions of its roles.

    Raises: InvalidField if it is linked; RoleNotFound, PrivilegeEscalation, AlreadyExists (also for an id or an email
        address that differs only in letter case).
    """
    check_link(None, new_user)

    def check(mutation: Mutation, _stored: User | None) -> None:
        require_held(find_permissions(mutation.tx, new_user.roles), caller=call.caller)

    def effect(mutation: Mutation) -> User:
        check_no_lookalike(mutation, store.USER_LIKE, pattern="users/{}", id=new_user.id)
        with hide_owner(call):
            return USERS.add(mutation, new_user)

    return mutate(database, call, effect, User, check_access=check)


def delete_user(database: Store, call: Call, user_id: str, *, etag: str) -> User:
    """Soft-delete a user. The caller must have all permissions of its roles.

    Raises: UserNotFound, PrivilegeEscalation, EtagMismatch.
    """
    return USERS.delete(database, call, (user_id,), etag=etag, check_access=make_check(check_user, user_id))


def undelete_user(database: Store, call: Call, user_id: str, *, etag: str) -> User:
    """Restore a deleted user with its roles and password. The caller must have all permissions of its roles.

    Raises: UserNotFound, PrivilegeEscalation, ResourceNotDeleted, EtagMismatch.
    """
    return USERS.undelete(database, call, (user_id,), etag=etag, check_access=make_check(check_user, user_id))
