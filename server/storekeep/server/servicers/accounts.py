"""Service accounts, API keys, roles and signing keys, between the contract's messages and the domain's values."""

from __future__ import annotations

from google.protobuf.timestamp_pb2 import Timestamp

from storekeep.server.domain.access.accounts import ServiceAccount
from storekeep.server.domain.access.api_keys import ApiKey
from storekeep.server.domain.access.roles import Role
from storekeep.server.domain.access.signing_keys import SigningKey
from storekeep.server.domain.access.tokens import TokenSet
from storekeep.server.domain.errors import InvalidField
from storekeep.server.domain.standard.resources import etag_of
from storekeep.server.servicers.converters import MICROS, id_of, key_of, optional_timestamp, timestamp_of
from storekeep.v1 import auth_pb2 as pb

ACCOUNT_FIELDS = {name: name for name in ("display_name", "roles", "disabled")}
ROLE_FIELDS = {name: name for name in ("display_name", "permissions")}
SECONDS_MAX = 253_402_300_799
"""The last second of the year 9999, which is the last of `Timestamp`."""


def account_message(account: ServiceAccount) -> pb.ServiceAccount:
    """A service account as the contract writes it."""
    return pb.ServiceAccount(
        name=account.name,
        display_name=account.display_name,
        roles=[f"roles/{role}" for role in account.roles],
        disabled=account.disabled,
        create_time=timestamp_of(account.create_time_us),
        update_time=timestamp_of(account.update_time_us),
        delete_time=optional_timestamp(account.delete_time_us),
        etag=etag_of(account.version),
    )


def account_from(message: pb.ServiceAccount, account_id: str) -> ServiceAccount:
    """What a request says of a service account."""
    return ServiceAccount(
        account_id,
        display_name=message.display_name,
        roles=tuple(id_of(role) for role in message.roles),
        disabled=message.disabled,
    )


def key_message(api_key: ApiKey) -> pb.ApiKey:
    """An API key, without its secret, as the contract writes it."""
    return pb.ApiKey(
        name=api_key.name,
        display_name=api_key.display_name,
        scopes=api_key.scopes,
        expire_time=optional_timestamp(api_key.expire_time_us),
        create_time=timestamp_of(api_key.create_time_us),
        revoke_time=optional_timestamp(api_key.revoke_time_us),
        etag=etag_of(api_key.version),
    )


def key_from(message: pb.ApiKey, *, parent: str, key_id: str) -> ApiKey:
    """What a request says of an API key.

    Raises: InvalidField.
    """
    expire_time_us = None
    if message.HasField("expire_time"):
        expire_time_us = _time_from(message.expire_time, field="api_key.expire_time")
    return ApiKey(
        id_of(parent),
        key_id,
        display_name=message.display_name,
        scopes=tuple(message.scopes),
        expire_time_us=expire_time_us,
    )


def _time_from(message: Timestamp, *, field: str) -> int:
    """Raises: InvalidField."""
    if not 0 <= message.seconds <= SECONDS_MAX or not 0 <= message.nanos < 1_000_000_000:
        raise InvalidField(field, "it is not a time between 1970 and 9999")
    return message.seconds * MICROS + message.nanos // 1_000


def key_ids(name: str) -> tuple[str, str]:
    """The ids of the account and of the key in an API key's name."""
    account_id, key_id = key_of(name)
    return account_id, key_id


def role_message(role: Role) -> pb.Role:
    """A role as the contract writes it."""
    return pb.Role(
        name=role.name,
        display_name=role.display_name,
        permissions=role.permissions,
        built_in=role.built_in,
        create_time=timestamp_of(role.create_time_us),
        update_time=timestamp_of(role.update_time_us),
        etag=etag_of(role.version),
    )


def role_from(message: pb.Role, role_id: str) -> Role:
    """What a request says of a role."""
    return Role(role_id, display_name=message.display_name, permissions=tuple(message.permissions))


def tokens_message(tokens: TokenSet) -> pb.TokenSet:
    """A pair of tokens as the contract writes it."""
    return pb.TokenSet(
        access_token=tokens.access_token,
        expire_time=timestamp_of(tokens.expire_us),
        refresh_token=tokens.refresh_token,
        refresh_expire_time=timestamp_of(tokens.refresh_expire_us),
    )


def jwk_message(key: SigningKey) -> pb.JsonWebKey:
    """A public signing key as the contract writes it."""
    return pb.JsonWebKey(kty="EC", kid=key.kid, use="sig", alg=key.algorithm, crv="P-256", x=key.x, y=key.y)
