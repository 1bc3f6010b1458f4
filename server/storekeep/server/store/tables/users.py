"""The tables of users: people who sign in, their encrypted secrets, and the links with which they set a password."""

from __future__ import annotations

import peewee

from storekeep.server.store.sql.statements import Statement, parameter
from storekeep.server.store.sql.transactions import Deletable, Table


class User(Deletable):
    """One person who signs in. `roles` is a JSON array of role ids.

    `encrypted` has the name and the email address. Their columns have blind indexes, that of an address in lower case;
    they are empty if the data key of the user is lost.

    `identity` is a blind index of the issuer and the subject of the person at the identity provider; empty without one.

    `secrets_digest` is a SHA-256 over the secrets. The audit entry of the user contains it, so changed secrets are
    detected.
    """

    id = peewee.TextField(primary_key=True)
    display_name = peewee.TextField()
    email = peewee.TextField()
    roles = peewee.TextField()
    disabled = peewee.BooleanField()
    has_password = peewee.BooleanField()
    totp_enabled = peewee.BooleanField()
    secrets_digest = peewee.TextField()
    encrypted = peewee.TextField(constraints=[peewee.SQL("DEFAULT ''")])
    identity = peewee.TextField(constraints=[peewee.SQL("DEFAULT ''")])

    class Meta:
        table_name = "users"
        indexes = ((("create_time_us", "id"), False),)


User.add_index(User.index(User.email, unique=True, where=peewee.SQL("email <> ''"), name="users_email"))


User.add_index(User.index(User.identity, unique=True, where=peewee.SQL("identity <> ''"), name="users_identity"))


class UserSecret(Table):
    """The password hash, the TOTP secret and the recovery codes of one user, encrypted as one value.

    `totp_step` is the time step of the last accepted code, so that no code is accepted twice. `permissions` is a JSON
    array of those that the password gives at most. The encrypted value has them too.
    """

    user = peewee.ForeignKeyField(User, primary_key=True)
    sealed_secrets = peewee.BlobField()
    totp_step = peewee.BigIntegerField()
    permissions = peewee.TextField(constraints=[peewee.SQL("DEFAULT '[]'")])

    class Meta:
        table_name = "user_secrets"


class PasswordLink(Table):
    """The token of an invitation or a password reset, as its SHA-256. `id` is that of its entry in the audit log.

    `permissions` is a JSON array of those that its creator had, and that a password set with it gives at most.
    """

    token_hash = peewee.BlobField(primary_key=True)
    user = peewee.ForeignKeyField(User)
    id = peewee.TextField()
    expire_time_us = peewee.BigIntegerField(index=True)
    permissions = peewee.TextField(constraints=[peewee.SQL("DEFAULT '[]'")])

    class Meta:
        table_name = "password_links"


class UsedIdentityToken(Table):
    """An ID token that has signed in, as the SHA-256 of its signed part, until it expires."""

    token_id = peewee.TextField(primary_key=True)
    expire_time_us = peewee.BigIntegerField(index=True)

    class Meta:
        table_name = "used_identity_tokens"


TABLES: tuple[type[Table], ...] = (User, UserSecret, PasswordLink, UsedIdentityToken)
"""All tables of this module, referenced tables first."""

USER_LIKE = Statement("SELECT id FROM users WHERE LOWER(id) = LOWER(:id) LIMIT 1")
FIND_USER_BY_EMAIL = Statement("SELECT id FROM users WHERE email = :email AND email <> ''")
FIND_USER_BY_IDENTITY = Statement("SELECT id FROM users WHERE identity = :identity AND identity <> ''")
FIND_IDENTITY_GRANT = Statement(
    """
    SELECT users.id, users.delete_time_us IS NULL AND NOT users.disabled, users.encrypted,
           (SELECT STRING_AGG(permission.value, ' ')
            FROM TEXTS(:roles) AS held
            JOIN roles ON roles.id = held.value
            CROSS JOIN TEXTS(roles.permissions) AS permission)
    FROM users WHERE users.identity = :identity AND users.identity <> ''
    """
)
"""The user of a person at the identity provider, whether it is active, its encrypted data, and the permissions of the
given roles."""
USE_IDENTITY_TOKEN = Statement(
    """
    INSERT INTO used_identity_tokens (token_id, expire_time_us) VALUES (:token_id, :expire_time_us)
    ON CONFLICT DO NOTHING
    """
)
"""Use up an ID token; changes no row if it was used before."""
PURGE_IDENTITY_TOKENS = Statement(
    """
    DELETE FROM used_identity_tokens WHERE token_id IN
    (SELECT token_id FROM used_identity_tokens WHERE expire_time_us < :before_us LIMIT :rows_max)
    """
)
FIND_SECRETS = Statement(
    lambda: UserSecret.select(UserSecret.sealed_secrets).where(UserSecret.user == parameter("user_id"))
)
FIND_CREDENTIALS = Statement(
    """
    SELECT users.id, users.delete_time_us IS NULL AND NOT users.disabled, user_secrets.sealed_secrets
    FROM users LEFT JOIN user_secrets ON user_secrets.user_id = users.id WHERE users.email = :email
          AND users.email <> ''
    """
)
"""The id of the user with the blind index of an email address, whether it is active, and its secrets (NULL without a
password)."""
PUT_SECRETS = Statement(
    """
    INSERT INTO user_secrets (user_id, sealed_secrets, totp_step, permissions)
    VALUES (:user_id, :sealed_secrets, 0, :permissions)
    ON CONFLICT (user_id) DO UPDATE SET sealed_secrets = excluded.sealed_secrets, permissions = excluded.permissions
    """
)
REENCRYPT_SECRETS = Statement("UPDATE user_secrets SET sealed_secrets = :sealed_secrets WHERE user_id = :user_id")
PASSWORD_PERMISSIONS = Statement("SELECT permissions FROM user_secrets WHERE user_id = :user_id")
DELETE_SECRETS = Statement("DELETE FROM user_secrets WHERE user_id = :user_id")
USE_TOTP_STEP = Statement(
    "UPDATE user_secrets SET totp_step = :totp_step WHERE user_id = :user_id AND totp_step < :totp_step"
)
"""Use up the codes up to a time step; changes no row if a code of this step or a later one was used."""
ALL_SECRETS = Statement("SELECT user_id, sealed_secrets FROM user_secrets ORDER BY user_id")
SECRETS_AFTER = Statement(
    """
    SELECT users.id, users.has_password, users.secrets_digest, user_secrets.sealed_secrets, user_secrets.permissions
    FROM users LEFT JOIN user_secrets ON user_secrets.user_id = users.id
    WHERE users.id > :after ORDER BY users.id LIMIT :rows_max
    """
)
SECRETS_OF_NOBODY = Statement("SELECT user_id FROM user_secrets WHERE user_id NOT IN (SELECT id FROM users)")
PASSWORD_LINKS_AFTER = Statement(
    """
    SELECT 'users/' || user_id || '/passwordLinks/' || id, token_hash, expire_time_us, permissions FROM password_links
    WHERE id > :after ORDER BY id LIMIT :rows_max
    """
)
INSERT_PASSWORD_LINK = Statement(
    lambda: PasswordLink.insert(
        token_hash=parameter("token_hash"),
        user=parameter("user_id"),
        id=parameter("id"),
        expire_time_us=parameter("expire_time_us"),
        permissions=parameter("permissions"),
    )
)
FIND_PASSWORD_LINK = Statement(
    """
    SELECT users.id, password_links.permissions FROM password_links JOIN users ON users.id = password_links.user_id
    WHERE token_hash = :token_hash AND expire_time_us > :now_us
          AND users.delete_time_us IS NULL AND NOT users.disabled AND users.identity = ''
    """
)
"""The user of a link that works now, and the permissions of the link."""
DELETE_PASSWORD_LINKS = Statement("DELETE FROM password_links WHERE user_id = :user_id")
DELETE_PASSWORD_LINKS_OF_ROLE = Statement(
    """
    DELETE FROM password_links WHERE user_id IN
    (SELECT users.id FROM users, TEXTS(users.roles) AS held WHERE held.value = :role_id)
    """
)
PURGE_PASSWORD_LINKS = Statement(
    """
    DELETE FROM password_links WHERE token_hash IN
    (SELECT token_hash FROM password_links WHERE expire_time_us < :before_us LIMIT :rows_max)
    """
)
