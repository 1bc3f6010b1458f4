"""Webhook endpoints: where events are sent, and the secrets that sign them.

Invariant: a secret appears only in the reply to the call that made it. Nobody sends events to an endpoint that they
could not read themselves.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence

import msgspec

from storekeep.server.domain.access.permissions import require_held
from storekeep.server.domain.calls import Call
from storekeep.server.domain.errors import (
    IllegalState,
    InvalidField,
    ReplyExpired,
    WebhookEndpointNotFound,
)
from storekeep.server.domain.keys.encryption import DecryptionFailed
from storekeep.server.domain.keys.keyrings import Keyring
from storekeep.server.domain.mutations import CheckAccess, Mutation, mutate
from storekeep.server.domain.standard.collections import Collection
from storekeep.server.domain.standard.filters import FilterField, Kind
from storekeep.server.domain.standard.lists import Column, Listing
from storekeep.server.domain.standard.resources import MICROS, check_etag, check_not_deleted
from storekeep.server.domain.webhooks.event_types import find_unknown, list_required_permissions
from storekeep.server.store.engine import Store
from storekeep.server.store.sql.transactions import Transaction
from storekeep.server.store.tables import webhooks as store

ENABLED, PAUSED, DISABLED = "ENABLED", "PAUSED", "DISABLED"
STATES = (ENABLED, PAUSED, DISABLED)
THIN, FULL = "THIN", "FULL"
PURPOSE = "webhook-secret"
"""The encryption purpose of signing secrets."""
CheckUrl = Callable[[str], str]
"""Returns why a URL is not allowed; empty if it is."""


class SigningSecret(msgspec.Struct, frozen=True):
    """One signing secret, without the secret itself.

    Attributes:
        number: 1 for the first secret of an endpoint; each rotation adds one.
        digest: shows changes of the stored secret in the audit log.
        expire_time_us: when it stops signing, microseconds since 1970; None for the current secret.
    """

    number: int
    digest: str
    create_time_us: int
    expire_time_us: int | None = None


class WebhookEndpoint(msgspec.Struct, frozen=True):
    """An endpoint; see `WebhookEndpoint` in the contract."""

    id: str
    display_name: str = ""
    url: str = ""
    event_types: tuple[str, ...] = ()
    payload: str = THIN
    ordered: bool = False
    labels: dict[str, str] = {}
    state: str = ENABLED
    state_reason: str = ""
    secrets: tuple[SigningSecret, ...] = ()
    exclude_personal_data: bool = False
    version: int = 0
    create_time_us: int = 0
    update_time_us: int = 0
    delete_time_us: int | None = None

    @property
    def name(self) -> str:
        """The resource name."""
        return f"webhookEndpoints/{self.id}"

    def find_overlap_end_us(self, now_us: int) -> int | None:
        """Return until when an older secret signs too, microseconds since 1970; None if none does."""
        return max(
            (s.expire_time_us for s in self.secrets if s.expire_time_us and s.expire_time_us > now_us), default=None
        )


class IssuedSecret(msgspec.Struct, frozen=True):
    """An endpoint with its new secret, which is shown once."""

    endpoint: WebhookEndpoint
    secret: str

    def __repr__(self) -> str:
        """Return a text without the secret, so that no log shows it."""
        return f"IssuedSecret({self.endpoint.name})"


ENDPOINTS = Collection(
    WebhookEndpoint,
    store.WebhookEndpoint,
    key=("id",),
    pattern="webhookEndpoints/{}",
    event="webhook_endpoint",
    not_found=WebhookEndpointNotFound,
)
LISTING = Listing(
    method="ListWebhookEndpoints",
    query=lambda: store.WebhookEndpoint.select(*ENDPOINTS.rows.fields),
    columns={
        "display_name": Column(store.WebhookEndpoint.display_name, FilterField(Kind.TEXT), sortable=True),
        "url": Column(store.WebhookEndpoint.url, FilterField(Kind.TEXT)),
        "state": Column(store.WebhookEndpoint.state, FilterField(Kind.STATE, STATES)),
        "failing": Column(store.FAILING, FilterField(Kind.BOOLEAN)),
        "labels": Column(store.WebhookEndpoint.labels, FilterField(Kind.MAP)),
        "create_time": Column(store.WebhookEndpoint.create_time_us, FilterField(Kind.TIME), sortable=True),
        "update_time": Column(store.WebhookEndpoint.update_time_us, FilterField(Kind.TIME), sortable=True),
    },
    unique=(store.WebhookEndpoint.id,),
    read_rows=ENDPOINTS.read_rows,
    deleted=store.WebhookEndpoint.delete_time_us,
)


class EndpointSecrets:
    """Generates, encrypts and decrypts signing secrets.

    Args:
        keyring: the server's secrets.
        generate: returns a new signing secret.
        retention_s: how long a retry returns a new secret again.
    """

    def __init__(self, keyring: Keyring, *, generate: Callable[[], str], retention_s: float) -> None:
        self.keyring = keyring
        self.generate = generate
        self._retention_us = round(retention_s * MICROS)

    def describe_new(self, tx: Transaction, *, number: int) -> tuple[SigningSecret, str]:
        """Return the description of a new secret, and the secret itself."""
        secret = self.generate()
        return SigningSecret(number, digest_secret(secret), tx.now_us), secret

    def insert(self, tx: Transaction, endpoint_id: str, *, number: int, secret: str) -> None:
        """Store a new secret, encrypted."""
        owner = _format_owner(endpoint_id, number)
        encrypted = self.keyring.encrypt(tx, secret.encode(), purpose=PURPOSE, owner=owner)
        store.INSERT_SECRET.run(tx, endpoint_id=endpoint_id, number=number, sealed_secret=encrypted)

    def find_new(self, tx: Transaction, endpoint: WebhookEndpoint) -> str:
        """Return the newest secret of an endpoint as a stored reply shows it.

        Raises: ReplyExpired if the reply is too old or the secret was replaced, DecryptionFailed.
        """
        described = endpoint.secrets[-1]
        stored = {number: bytes(sealed) for number, sealed in store.SECRETS.all(tx, endpoint_id=endpoint.id)}
        if described.number not in stored or described.create_time_us <= tx.now_us - self._retention_us:
            raise ReplyExpired(endpoint.name)
        return self._decrypt(endpoint.id, described.number, stored[described.number])

    def list_valid(self, tx: Transaction, endpoint: WebhookEndpoint) -> list[str]:
        """Return the secrets that sign now, newest first. Skip secrets that cannot be decrypted.

        Raises: DecryptionFailed if none is left.
        """
        valid = {s.number for s in endpoint.secrets if s.expire_time_us is None or s.expire_time_us > tx.now_us}
        rows = [row for row in reversed(store.SECRETS.all(tx, endpoint_id=endpoint.id)) if row[0] in valid]
        found = [decrypt_secret(endpoint.id, number, sealed, keyring=self.keyring) for number, sealed in rows]
        secrets = [secret for secret in found if secret is not None]
        if not secrets:
            raise DecryptionFailed
        return secrets

    def _decrypt(self, endpoint_id: str, number: int, encrypted: bytes) -> str:
        return self.keyring.decrypt(encrypted, purpose=PURPOSE, owner=_format_owner(endpoint_id, number)).decode()


def reencrypt_secrets(tx: Transaction, keyring: Keyring) -> None:
    """Re-encrypt all signing secrets with the current server secret. Skip secrets that cannot be decrypted."""
    for endpoint_id, number, encrypted in store.ALL_SECRETS.all(tx):
        owner = _format_owner(endpoint_id, number)
        secret = keyring.try_decrypt(encrypted, purpose=PURPOSE, owner=owner)
        if secret is not None:
            sealed = keyring.encrypt(tx, secret, purpose=PURPOSE, owner=owner)
            store.REENCRYPT_SECRET.run(tx, endpoint_id=endpoint_id, number=number, sealed_secret=sealed)


def decrypt_secret(endpoint_id: str, number: int, encrypted: object, *, keyring: Keyring) -> str | None:
    """Return a stored secret; None if it cannot be decrypted."""
    secret = keyring.try_decrypt(encrypted, purpose=PURPOSE, owner=_format_owner(endpoint_id, number))
    return None if secret is None else secret.decode()


def digest_secret(secret: str) -> str:
    """Return the digest of a signing secret, in hexadecimal digits, for the audit log."""
    return hashlib.sha256(b"webhook-secret:" + secret.encode()).hexdigest()


def _format_owner(endpoint_id: str, number: int) -> str:
    return f"{endpoint_id}/{number}"


def _require_readable(mutation: Mutation, *filters: Sequence[str]) -> None:
    """Raise PrivilegeEscalation unless the caller may read all that endpoints with these filters get."""
    for one in filters:
        require_held(list_required_permissions(one), caller=mutation.call.caller)


def make_endpoint_check(endpoint_id: str) -> CheckAccess[object]:
    """Return the access check of each mutation of an existing endpoint: only who may read its events may change it."""

    def check(mutation: Mutation, _stored: object) -> None:
        _require_readable(mutation, ENDPOINTS.find(mutation.tx, (endpoint_id,)).event_types)

    return check


CHECKED_FIELDS = ("url", "event_types")


def _check_fields(endpoint: WebhookEndpoint, *, fields: Sequence[str] = CHECKED_FIELDS, check_url: CheckUrl) -> None:
    """Raise InvalidField for a URL that is not allowed, or a type filter that selects nothing, in the given fields."""
    problem = check_url(endpoint.url) if "url" in fields else ""
    if problem:
        raise InvalidField("webhook_endpoint.url", problem)
    index, problem = find_unknown(endpoint.event_types) if "event_types" in fields else (-1, "")
    if problem:
        raise InvalidField(f"webhook_endpoint.event_types[{index}]", problem)


SENDING = ("url", "event_types", "payload", "exclude_personal_data")
"""The fields that decide what is sent where."""


def _protect_personal_data(new: WebhookEndpoint, old: WebhookEndpoint | None, *, call: Call) -> WebhookEndpoint:
    """Return the endpoint without personal data if a caller that may not read it decides what is sent where."""
    changed = old is None or any(getattr(old, field) != getattr(new, field) for field in SENDING)
    if not changed or call.caller.reads_personal_data:
        return new
    return msgspec.structs.replace(new, exclude_personal_data=True)


def create_endpoint(
    database: Store, call: Call, new: WebhookEndpoint, *, secrets: EndpointSecrets, check_url: CheckUrl
) -> IssuedSecret:
    """Create an endpoint, which gets the events after its creation.

    Raises: InvalidField, PrivilegeEscalation, AlreadyExists, ReplyExpired.
    """
    _check_fields(new, check_url=check_url)

    def effect(mutation: Mutation) -> IssuedSecret:
        tx = mutation.tx
        described, secret = secrets.describe_new(tx, number=1)
        protected = _protect_personal_data(new, None, call=call)
        created = ENDPOINTS.add(mutation, msgspec.structs.replace(protected, secrets=(described,)))
        secrets.insert(tx, new.id, number=1, secret=secret)
        store.INSERT_PROGRESS.run(tx, endpoint_id=new.id, sequence=mutation.last_entry)
        return IssuedSecret(created, secret)

    return _issue(
        database, call, effect, secrets=secrets, check=lambda mutation: _require_readable(mutation, new.event_types)
    )


def rotate_secret(
    database: Store, call: Call, endpoint_id: str, *, overlap_us: int, etag: str, secrets: EndpointSecrets
) -> IssuedSecret:
    """Create a new signing secret. The old one signs too until the overlap ends.

    Args:
        overlap_us: how long the old secret signs too, in microseconds.

    Raises: WebhookEndpointNotFound, PrivilegeEscalation, ResourceDeleted, EtagMismatch, ReplyExpired.
    """

    def effect(mutation: Mutation) -> IssuedSecret:
        tx = mutation.tx
        old = _find_existing(mutation, endpoint_id, etag=etag)
        last = old.secrets[-1]
        described, secret = secrets.describe_new(tx, number=last.number + 1)
        ending = msgspec.structs.replace(last, expire_time_us=tx.now_us + overlap_us)
        new = msgspec.structs.replace(old, secrets=(ending, described))
        rotated = ENDPOINTS.replace(mutation, old, new, action="secret_rotated")
        store.DELETE_SECRETS.run(tx, endpoint_id=endpoint_id, first_number=last.number)
        secrets.insert(tx, endpoint_id, number=described.number, secret=secret)
        return IssuedSecret(rotated, secret)

    check = make_endpoint_check(endpoint_id)
    return _issue(database, call, effect, secrets=secrets, check=lambda mutation: check(mutation, None))


def _issue(
    database: Store,
    call: Call,
    effect: Callable[[Mutation], IssuedSecret],
    *,
    secrets: EndpointSecrets,
    check: Callable[[Mutation], None],
) -> IssuedSecret:
    """Run a mutation that creates a secret. Its stored reply omits the secret, which a retry reads for some minutes.

    Raises: ReplyExpired, and the errors of `check` and `effect`.
    """
    issued: dict[int, str] = {}

    def create(mutation: Mutation) -> WebhookEndpoint:
        created = effect(mutation)
        issued[created.endpoint.version] = created.secret
        return created.endpoint

    def check_access(mutation: Mutation, stored: WebhookEndpoint | None) -> None:
        check(mutation)
        if stored is not None:
            issued[stored.version] = secrets.find_new(mutation.tx, stored)

    endpoint = mutate(database, call, create, WebhookEndpoint, check_access=check_access, hides_request_id=True)
    return IssuedSecret(endpoint, issued[endpoint.version])


def _find_existing(mutation: Mutation, endpoint_id: str, *, etag: str) -> WebhookEndpoint:
    """Return an endpoint that is not deleted.

    Raises: WebhookEndpointNotFound, ResourceDeleted, EtagMismatch.
    """
    endpoint = ENDPOINTS.find(mutation.tx, (endpoint_id,))
    check_not_deleted(endpoint)
    check_etag(endpoint, etag)
    return endpoint


def update_endpoint(
    database: Store, call: Call, new: WebhookEndpoint, *, fields: Sequence[str], etag: str, check_url: CheckUrl
) -> WebhookEndpoint:
    """Set the named fields to the values in `new`.

    Raises: InvalidField, WebhookEndpointNotFound, PrivilegeEscalation, ResourceDeleted, EtagMismatch.
    """

    def check(mutation: Mutation, _stored: WebhookEndpoint | None) -> None:
        old = ENDPOINTS.find(mutation.tx, (new.id,))
        changed = msgspec.structs.replace(old, **{field: getattr(new, field) for field in fields})
        _check_fields(changed, fields=fields, check_url=check_url)
        _require_readable(mutation, old.event_types, changed.event_types)

    def effect(mutation: Mutation) -> WebhookEndpoint:
        old = ENDPOINTS.find(mutation.tx, (new.id,))
        changed = msgspec.structs.replace(old, **{field: getattr(new, field) for field in fields})
        protected = _protect_personal_data(changed, old, call=call)
        return ENDPOINTS.edit(mutation, protected, fields=[*fields, "exclude_personal_data"], etag=etag)

    return mutate(database, call, effect, WebhookEndpoint, check_access=check)


def delete_endpoint(database: Store, call: Call, endpoint_id: str, *, etag: str) -> WebhookEndpoint:
    """Soft-delete an endpoint: nothing is sent to it.

    Raises: WebhookEndpointNotFound, also for a deleted endpoint; PrivilegeEscalation, EtagMismatch.
    """
    return ENDPOINTS.delete(database, call, (endpoint_id,), etag=etag, check_access=make_endpoint_check(endpoint_id))


def undelete_endpoint(database: Store, call: Call, endpoint_id: str, *, etag: str) -> WebhookEndpoint:
    """Restore a soft-deleted endpoint, which continues with the first event that it has not got.

    Raises: WebhookEndpointNotFound, PrivilegeEscalation, ResourceNotDeleted, EtagMismatch.
    """
    return ENDPOINTS.undelete(database, call, (endpoint_id,), etag=etag, check_access=make_endpoint_check(endpoint_id))


def pause_endpoint(database: Store, call: Call, endpoint_id: str, *, etag: str) -> WebhookEndpoint:
    """Pause an enabled endpoint: events wait.

    Raises: WebhookEndpointNotFound, PrivilegeEscalation, ResourceDeleted, EtagMismatch, IllegalState.
    """

    def effect(mutation: Mutation) -> WebhookEndpoint:
        old = _find_existing(mutation, endpoint_id, etag=etag)
        if old.state != ENABLED:
            way_out = "it sends nothing either: resume it first" if old.state != PAUSED else ""
            raise IllegalState(old.name, state=old.state, target=PAUSED, way_out=way_out)
        return ENDPOINTS.replace(mutation, old, msgspec.structs.replace(old, state=PAUSED), action="paused")

    return mutate(database, call, effect, WebhookEndpoint, check_access=make_endpoint_check(endpoint_id))


def resume_endpoint(database: Store, call: Call, endpoint_id: str, *, etag: str) -> WebhookEndpoint:
    """Resume a paused or disabled endpoint. Waiting deliveries get all their attempts again.

    Raises: WebhookEndpointNotFound, PrivilegeEscalation, ResourceDeleted, EtagMismatch, IllegalState.
    """

    def effect(mutation: Mutation) -> WebhookEndpoint:
        tx = mutation.tx
        old = _find_existing(mutation, endpoint_id, etag=etag)
        if old.state == ENABLED:
            raise IllegalState(old.name, state=old.state, target=ENABLED)
        store.WORKS.run(tx, endpoint_id=endpoint_id)
        store.RESTART.run(tx, endpoint_id=endpoint_id, now_us=tx.now_us)
        new = msgspec.structs.replace(old, state=ENABLED, state_reason="")
        return ENDPOINTS.replace(mutation, old, new, action="resumed")

    return mutate(database, call, effect, WebhookEndpoint, check_access=make_endpoint_check(endpoint_id))
