"""The tables of service accounts, API keys, roles, sessions, tokens and signing keys.

They contain no secret in plain text: API keys and refresh tokens are hashed, signing keys are encrypted.
"""

from __future__ import annotations

import peewee

from storekeep.server.store.sql.statements import Statement, parameter
from storekeep.server.store.sql.transactions import Deletable, Table, Versioned
from storekeep.server.store.tables.users import User


class ServiceAccount(Deletable):
    """One program or person that may call; `roles` is a JSON array of role ids."""

    id = peewee.TextField(primary_key=True)
    display_name = peewee.TextField()
    roles = peewee.TextField()
    disabled = peewee.BooleanField()

    class Meta:
        table_name = "service_accounts"
        indexes = ((("create_time_us", "id"), False), (("display_name", "id"), False))


class ApiKey(Versioned):
    """One API key without its secret; `scopes` is JSON. `lookup_id` is the public part of the key.

    `key_digest` is the SHA-256 of the stored hash. The audit entry of the key contains it, so a changed hash is
    detected.
    """

    lookup_id = peewee.TextField(primary_key=True)
    account = peewee.ForeignKeyField(ServiceAccount, index=False)
    id = peewee.TextField()
    display_name = peewee.TextField()
    scopes = peewee.TextField()
    expire_time_us = peewee.BigIntegerField(null=True)
    revoke_time_us = peewee.BigIntegerField(null=True)
    key_digest = peewee.TextField(constraints=[peewee.SQL("DEFAULT ''")])

    class Meta:
        table_name = "api_keys"
        indexes = (
            (("account", "id"), True),
            (("account", "create_time_us", "lookup_id"), False),
            (("create_time_us", "lookup_id"), False),
        )


class ApiKeySecret(Table):
    """The HMAC of one API key, in its own table so that no listing, event or audit entry can show it.

    `secret_number` is the row of `server_secrets` that it was made with.
    """

    api_key = peewee.ForeignKeyField(ApiKey, column_name="lookup_id", primary_key=True)
    key_hash = peewee.BlobField()
    secret_number = peewee.BigIntegerField(constraints=[peewee.SQL("DEFAULT 1")])

    class Meta:
        table_name = "api_key_secrets"


class NewApiKeySecret(Table):
    """The encrypted secret of a new API key, kept for minutes so that a retry returns it again."""

    api_key = peewee.ForeignKeyField(ApiKey, column_name="lookup_id", primary_key=True)
    sealed_secret = peewee.BlobField()
    create_time_us = peewee.BigIntegerField()

    class Meta:
        table_name = "new_api_key_secrets"


class Role(Versioned):
    """One named set of permissions; `permissions` is a JSON array."""

    id = peewee.TextField(primary_key=True)
    display_name = peewee.TextField()
    permissions = peewee.TextField()
    built_in = peewee.BooleanField()

    class Meta:
        table_name = "roles"
        indexes = ((("create_time_us", "id"), False), (("display_name", "id"), False))


class Session(Table):
    """The tokens issued from one use of an API key, or one sign-in of a user. Revoking the session revokes them.

    `program` is how the program of a user named itself.
    """

    id = peewee.TextField(primary_key=True)
    api_key = peewee.ForeignKeyField(ApiKey, column_name="lookup_id", null=True)
    user = peewee.ForeignKeyField(User, null=True, index=False)
    program = peewee.TextField(constraints=[peewee.SQL("DEFAULT ''")])
    create_time_us = peewee.BigIntegerField()
    expire_time_us = peewee.BigIntegerField(index=True)
    revoke_time_us = peewee.BigIntegerField(null=True)

    class Meta:
        table_name = "sessions"
        indexes = ((("user", "create_time_us", "id"), False),)


class RefreshToken(Table):
    """One refresh token, as its SHA-256. Used tokens are kept, so that reuse is detected."""

    token_hash = peewee.BlobField(primary_key=True)
    session = peewee.ForeignKeyField(Session)
    expire_time_us = peewee.BigIntegerField(index=True)
    use_time_us = peewee.BigIntegerField(null=True)

    class Meta:
        table_name = "refresh_tokens"


class RevokedToken(Table):
    """The `jti` of one access token that was revoked before it expired."""

    token_id = peewee.TextField(primary_key=True)
    expire_time_us = peewee.BigIntegerField(index=True)

    class Meta:
        table_name = "revoked_tokens"


class SigningKey(Table):
    """One key that signs tokens, its private key encrypted; `expire_time_us` is NULL for the current key."""

    kid = peewee.TextField(primary_key=True)
    public_key = peewee.BlobField()
    sealed_private_key = peewee.BlobField()
    create_time_us = peewee.BigIntegerField()
    expire_time_us = peewee.BigIntegerField(null=True)

    class Meta:
        table_name = "signing_keys"


class AccessVersion(Table):
    """One row, whose version rises with every change of access rights. Workers poll it."""

    id = peewee.IntegerField(primary_key=True)
    version = peewee.BigIntegerField()

    class Meta:
        table_name = "access_versions"


TABLES: tuple[type[Table], ...] = (
    ServiceAccount,
    ApiKey,
    ApiKeySecret,
    NewApiKeySecret,
    Role,
    Session,
    RefreshToken,
    RevokedToken,
    SigningKey,
    AccessVersion,
)
"""All tables of this module, referenced tables first."""

FIND_ACCESS_VERSION = Statement(lambda: AccessVersion.select(AccessVersion.version))
RAISE_ACCESS_VERSION = Statement(
    "INSERT INTO access_versions (id, version) VALUES (1, :step) ON CONFLICT (id) DO UPDATE "
    "SET version = access_versions.version + :step"
)
ANY_ACCOUNT = Statement(lambda: ServiceAccount.select(ServiceAccount.id).limit(1))
HOLDER_OF_ROLE = Statement(
    """
    SELECT 'serviceAccounts/' || service_accounts.id FROM service_accounts, TEXTS(service_accounts.roles) AS held
    WHERE held.value = :role_id
    UNION ALL
    SELECT 'users/' || users.id FROM users, TEXTS(users.roles) AS held WHERE held.value = :role_id
    LIMIT 1
    """
)
"""The name of an account or user with a role. Deleted ones count, because undeleting one restores its roles."""
ROLE_PERMISSIONS = Statement(
    """
    SELECT requested.value, roles.permissions FROM TEXTS(:roles) AS requested
    LEFT JOIN roles ON roles.id = requested.value ORDER BY requested.key
    """
)
"""(role, permissions as JSON) of each requested role; NULL permissions if the role does not exist."""
HOLDER_PERMISSIONS = Statement(
    """
    SELECT DISTINCT roles.permissions
    FROM (SELECT roles FROM service_accounts UNION ALL SELECT roles FROM users) AS holders
    CROSS JOIN TEXTS(holders.roles) AS held
    CROSS JOIN TEXTS(holders.roles) AS other
    JOIN roles ON roles.id = other.value
    WHERE held.value = :role_id
    """
)
"""Permissions, as JSON, of all roles of the accounts and users with a role, including deleted and disabled ones."""
ACCOUNT_LIKE = Statement("SELECT id FROM service_accounts WHERE LOWER(id) = LOWER(:id) LIMIT 1")
KEY_LIKE = Statement("SELECT id FROM api_keys WHERE account_id = :account_id AND LOWER(id) = LOWER(:id) LIMIT 1")
ROLE_LIKE = Statement("SELECT id FROM roles WHERE LOWER(id) = LOWER(:id) LIMIT 1")
INSERT_NEW_SECRET = Statement(
    lambda: NewApiKeySecret.insert(
        api_key=parameter("lookup_id"), sealed_secret=parameter("sealed_secret"), create_time_us=parameter("now_us")
    )
)
FIND_NEW_SECRET = Statement(
    "SELECT sealed_secret FROM new_api_key_secrets WHERE lookup_id = :lookup_id AND create_time_us > :since_us"
)
"""The encrypted secret of a key created after `since_us`."""
PURGE_NEW_SECRETS = Statement(
    """
    DELETE FROM new_api_key_secrets WHERE lookup_id IN
    (SELECT lookup_id FROM new_api_key_secrets WHERE create_time_us <= :since_us LIMIT :rows_max)
    """
)
NEW_SECRETS = Statement("SELECT lookup_id, sealed_secret FROM new_api_key_secrets ORDER BY lookup_id")
REENCRYPT_NEW_SECRET = Statement(
    "UPDATE new_api_key_secrets SET sealed_secret = :sealed_secret WHERE lookup_id = :lookup_id"
)
INSERT_API_KEY_SECRET = Statement(
    lambda: ApiKeySecret.insert(
        api_key=parameter("lookup_id"), key_hash=parameter("key_hash"), secret_number=parameter("secret_number")
    )
)
REPLACE_API_KEY_SECRET = Statement(
    """
    UPDATE api_key_secrets SET key_hash = :key_hash, secret_number = :secret_number
    WHERE lookup_id = :lookup_id AND key_hash = :old_hash
    """
)
"""Replace the hash of a key; changes no row if another call has replaced it already."""
SET_KEY_DIGEST = Statement("UPDATE api_keys SET key_digest = :key_digest WHERE lookup_id = :lookup_id")
KEYS_UNDER_OLDER_SECRETS = Statement(
    """
    SELECT api_keys.account_id, api_keys.id FROM api_key_secrets
    JOIN api_keys ON api_keys.lookup_id = api_key_secrets.lookup_id
    WHERE revoke_time_us IS NULL AND (expire_time_us IS NULL OR expire_time_us > :now_us)
      AND secret_number < (SELECT MAX(number) FROM server_secrets)
    ORDER BY api_keys.account_id, api_keys.id
    """
)
"""Account and id of each active key whose hash was made with a previous secret."""
KEYS_WITHOUT_DIGEST = Statement(
    """
    SELECT api_keys.account_id, api_keys.id, key_hash FROM api_keys
    JOIN api_key_secrets ON api_key_secrets.lookup_id = api_keys.lookup_id WHERE key_digest = ''
    """
)
ROLE_IDS = Statement("SELECT id FROM roles ORDER BY id")
WORKING_KEYS = Statement("SELECT account_id, id FROM api_keys WHERE revoke_time_us IS NULL ORDER BY lookup_id")
EMPTY_IDS = Statement(
    """
    SELECT 'sessions' WHERE EXISTS (SELECT 1 FROM sessions WHERE id = '')
    UNION ALL SELECT 'api_keys' WHERE EXISTS (SELECT 1 FROM api_keys WHERE lookup_id = '')
    """
)
"""The tables that have a row with an empty id, which the pages below do not contain: they start after it."""
NEXT_API_KEY = Statement("SELECT lookup_id FROM api_keys WHERE lookup_id > :after ORDER BY lookup_id LIMIT 1")
KEY_HASHES_AFTER = Statement(
    """
    SELECT api_keys.lookup_id, account_id, id, key_digest, key_hash FROM api_keys
    LEFT JOIN api_key_secrets ON api_key_secrets.lookup_id = api_keys.lookup_id
    WHERE api_keys.lookup_id > :after ORDER BY api_keys.lookup_id LIMIT :rows_max
    """
)
SESSIONS_AFTER = Statement(
    """
    SELECT sessions.id, account_id, api_keys.id, sessions.create_time_us, sessions.expire_time_us,
           sessions.revoke_time_us, sessions.user_id, sessions.program
    FROM sessions LEFT JOIN api_keys ON api_keys.lookup_id = sessions.lookup_id
    WHERE sessions.id > :after ORDER BY sessions.id LIMIT :rows_max
    """
)
NEXT_SESSION = Statement("SELECT id FROM sessions WHERE id > :after ORDER BY id LIMIT 1")
EXISTING_SESSIONS = Statement("SELECT id FROM sessions WHERE id IN (SELECT value FROM TEXTS(:ids) AS requested)")
UNUSED_REFRESH_TOKENS = Statement(
    """
    SELECT session_id, token_hash, expire_time_us FROM refresh_tokens
    WHERE use_time_us IS NULL AND session_id IN (SELECT value FROM TEXTS(:ids) AS requested)
    """
)
"""The unused refresh tokens of the requested sessions: at most one per session."""
REVOKED_TOKENS = Statement("SELECT token_id, expire_time_us FROM revoked_tokens ORDER BY token_id")
REENCRYPT_SIGNING_KEY = Statement("UPDATE signing_keys SET sealed_private_key = :sealed_private_key WHERE kid = :kid")
FIND_CREDENTIAL = Statement(
    """
    SELECT api_key_secrets.key_hash, api_keys.account_id, api_keys.id, api_keys.expire_time_us,
           api_keys.revoke_time_us IS NULL AND service_accounts.delete_time_us IS NULL
           AND NOT service_accounts.disabled
    FROM api_key_secrets
    JOIN api_keys ON api_keys.lookup_id = api_key_secrets.lookup_id
    JOIN service_accounts ON service_accounts.id = api_keys.account_id
    WHERE api_key_secrets.lookup_id = :lookup_id
    """
)
"""The stored hash that an API key is verified against, its account, expiry, and whether it is active."""
COUNT_OTHER_KEYS = Statement(
    """
    SELECT COUNT(*) FROM api_keys JOIN service_accounts ON service_accounts.id = api_keys.account_id
    WHERE api_keys.lookup_id <> :lookup_id AND api_keys.revoke_time_us IS NULL
          AND (api_keys.expire_time_us IS NULL OR api_keys.expire_time_us > :now_us)
          AND service_accounts.delete_time_us IS NULL AND NOT service_accounts.disabled
          AND EXISTS (SELECT 1 FROM TEXTS(service_accounts.roles) AS held WHERE held.value = :role_id)
    """
)
"""Number of active keys of accounts with a role, except one key."""
INSERT_SESSION = Statement(
    lambda: Session.insert(
        id=parameter("id"),
        api_key=parameter("lookup_id"),
        user=parameter("user_id"),
        program=parameter("program"),
        create_time_us=parameter("now_us"),
        expire_time_us=parameter("expire_time_us"),
    )
)
EXTEND_SESSION = Statement(
    lambda: Session.update(expire_time_us=parameter("expire_time_us")).where(Session.id == parameter("id"))
)
REVOKE_SESSION = Statement(
    lambda: Session.update(revoke_time_us=parameter("now_us")).where(
        (Session.id == parameter("id")) & Session.revoke_time_us.is_null()
    )
)
"""Revoke a session; changes no row if it is already revoked or does not exist."""
REVOKE_ALL_SESSIONS = Statement("UPDATE sessions SET revoke_time_us = :now_us WHERE revoke_time_us IS NULL")
INSERT_REFRESH_TOKEN = Statement(
    lambda: RefreshToken.insert(
        token_hash=parameter("token_hash"), session=parameter("session_id"), expire_time_us=parameter("expire_time_us")
    )
)
USE_REFRESH_TOKEN = Statement(
    lambda: RefreshToken.update(use_time_us=parameter("now_us")).where(
        RefreshToken.token_hash == parameter("token_hash")
    )
)
FIND_REFRESH_TOKEN = Statement(
    """
    SELECT refresh_tokens.expire_time_us, refresh_tokens.use_time_us,
           sessions.id, sessions.create_time_us, api_keys.account_id, api_keys.id,
           api_keys.expire_time_us,
           sessions.revoke_time_us IS NULL AND CASE WHEN sessions.user_id IS NULL
           THEN api_keys.revoke_time_us IS NULL AND service_accounts.delete_time_us IS NULL
                AND NOT service_accounts.disabled
           ELSE users.delete_time_us IS NULL AND NOT users.disabled END,
           sessions.revoke_time_us IS NOT NULL, sessions.user_id, sessions.program,
           COALESCE(users.identity <> '', FALSE)
    FROM refresh_tokens
    JOIN sessions ON sessions.id = refresh_tokens.session_id
    LEFT JOIN api_keys ON api_keys.lookup_id = sessions.lookup_id
    LEFT JOIN service_accounts ON service_accounts.id = api_keys.account_id
    LEFT JOIN users ON users.id = sessions.user_id
    WHERE refresh_tokens.token_hash = :token_hash
    """
)
"""One refresh token with its session and its key or user, whether session, key and account, or session and user, are
all active, whether the session was revoked, and whether its user is a person of the identity provider."""
FIND_GRANT = Statement(
    """
    SELECT sessions.revoke_time_us IS NOT NULL OR api_keys.revoke_time_us IS NOT NULL
           OR service_accounts.delete_time_us IS NOT NULL OR service_accounts.disabled
           OR EXISTS (SELECT 1 FROM revoked_tokens WHERE token_id = :token_id),
           api_keys.expire_time_us, api_keys.scopes, service_accounts.display_name, service_accounts.roles,
           (SELECT STRING_AGG(permission.value, ' ')
            FROM TEXTS(service_accounts.roles) AS held
            JOIN roles ON roles.id = held.value
            CROSS JOIN TEXTS(roles.permissions) AS permission)
    FROM api_keys
    JOIN service_accounts ON service_accounts.id = api_keys.account_id
    LEFT JOIN sessions ON sessions.lookup_id = api_keys.lookup_id AND sessions.id = :session_id
    WHERE api_keys.account_id = :account_id AND api_keys.id = :key_id
          AND (sessions.id IS NOT NULL OR :session_id = '')
    """
)
"""The grant of an access token: whether it is revoked, the expiry and scopes of its key, its account and roles, and the
permissions of the roles, separated by spaces (NULL if none). A token that was issued while the disk was full has no
session; it depends on its key and account alone."""
FIND_USER_GRANT = Statement(
    """
    SELECT sessions.revoke_time_us IS NOT NULL OR users.delete_time_us IS NOT NULL OR users.disabled
           OR EXISTS (SELECT 1 FROM revoked_tokens WHERE token_id = :token_id),
           users.encrypted, users.roles,
           (SELECT STRING_AGG(permission.value, ' ')
            FROM TEXTS(users.roles) AS held
            JOIN roles ON roles.id = held.value
            CROSS JOIN TEXTS(roles.permissions) AS permission),
           COALESCE(user_secrets.permissions, CASE WHEN users.identity <> '' THEN '["*"]' ELSE '[]' END)
    FROM sessions JOIN users ON users.id = sessions.user_id
    LEFT JOIN user_secrets ON user_secrets.user_id = users.id
    WHERE sessions.id = :session_id AND users.id = :user_id
    """
)
"""The grant of an access token of a user: whether it is revoked, the user's encrypted data and roles, their
permissions, and those that its password, or the identity provider, gives at most."""
USER_SESSIONS = Statement(
    """
    SELECT id, program, create_time_us, expire_time_us FROM sessions
    WHERE user_id = :user_id AND revoke_time_us IS NULL AND expire_time_us > :now_us
    ORDER BY create_time_us DESC, id DESC LIMIT :rows_max
    """
)
"""The sessions of a user that have not ended, the latest first."""
FIND_REVOKED_TOKEN = Statement(
    lambda: RevokedToken.select(RevokedToken.token_id).where(RevokedToken.token_id == parameter("token_id"))
)
INSERT_REVOKED_TOKEN = Statement(
    "INSERT INTO revoked_tokens (token_id, expire_time_us) VALUES (:token_id, :expire_time_us) ON CONFLICT DO NOTHING"
)
"""Revoke an access token; changes no row if it is already revoked."""
INSERT_SIGNING_KEY = Statement(
    lambda: SigningKey.insert(
        kid=parameter("kid"),
        public_key=parameter("public_key"),
        sealed_private_key=parameter("sealed_private_key"),
        create_time_us=parameter("now_us"),
    )
)
RETIRE_SIGNING_KEY = Statement(
    lambda: SigningKey.update(expire_time_us=parameter("expire_time_us")).where(SigningKey.kid == parameter("kid"))
)
SIGNING_KEYS = Statement(
    """
    SELECT kid, public_key, sealed_private_key, create_time_us, expire_time_us FROM signing_keys
    WHERE expire_time_us IS NULL OR expire_time_us > :now_us
    ORDER BY expire_time_us IS NOT NULL, create_time_us DESC, kid
    """
)
"""The signing keys that verify tokens now, the current one first."""
PURGES: tuple[Statement, ...] = (
    Statement(
        """
        DELETE FROM refresh_tokens WHERE token_hash IN
        (SELECT token_hash FROM refresh_tokens WHERE expire_time_us < :before_us LIMIT :rows_max)
        """
    ),
    Statement(
        """
        DELETE FROM sessions WHERE id IN
        (SELECT id FROM sessions WHERE expire_time_us < :before_us
         AND NOT EXISTS (SELECT 1 FROM refresh_tokens WHERE session_id = sessions.id) LIMIT :rows_max)
        """
    ),
    Statement(
        """
        DELETE FROM revoked_tokens WHERE token_id IN
        (SELECT token_id FROM revoked_tokens WHERE expire_time_us < :before_us LIMIT :rows_max)
        """
    ),
    Statement("DELETE FROM signing_keys WHERE expire_time_us < :before_us AND :rows_max > 0"),
)
"""Delete rows that expired before `before_us`, at most `rows_max` per run."""
