"""Conversion of service accounts, API keys, roles and tokens between contract messages and domain values."""

from __future__ import annotations

from google.protobuf.timestamp_pb2 import Timestamp

from storekeep.server.domain.access.accounts import ServiceAccount
from storekeep.server.domain.access.api_keys import ApiKey
from storekeep.server.domain.access.roles import Role
from storekeep.server.domain.access.signing_keys import SigningKey
from storekeep.server.domain.access.tokens import TokenSet
from storekeep.server.domain.errors import InvalidField
from storekeep.server.domain.standard.resources import MICROS, make_etag
from storekeep.server.servicers.converters import build_optional_timestamp, build_timestamp, parse_id, parse_key
from storekeep.v1 import auth_pb2 as pb

ACCOUNT_FIELDS = {name: name for name in ("display_name", "roles", "disabled")}
ROLE_FIELDS = {name: name for name in ("display_name", "permissions")}
SECONDS_MAX = 253_402_300_799
"""The last second of the year 9999, the maximum of `Timestamp`."""


def build_account(account: ServiceAccount) -> pb.ServiceAccount:
    """Build the message of a service account."""
    return pb.ServiceAccount(
        name=account.name,
        display_name=account.display_name,
        roles=[f"roles/{role}" for role in account.roles],
        disabled=account.disabled,
        create_time=build_timestamp(account.create_time_us),
        update_time=build_timestamp(account.update_time_us),
        delete_time=build_optional_timestamp(account.delete_time_us),
        etag=make_etag(account.version),
    )


def parse_account(message: pb.ServiceAccount, account_id: str) -> ServiceAccount:
    """Parse a service account from a request."""
    return ServiceAccount(
        account_id,
        display_name=message.display_name,
        roles=tuple(parse_id(role) for role in message.roles),
        disabled=message.disabled,
    )


def build_api_key(api_key: ApiKey) -> pb.ApiKey:
    """Build the message of an API key, without its secret."""
    return pb.ApiKey(
        name=api_key.name,
        display_name=api_key.display_name,
        scopes=api_key.scopes,
        expire_time=build_optional_timestamp(api_key.expire_time_us),
        create_time=build_timestamp(api_key.create_time_us),
        revoke_time=build_optional_timestamp(api_key.revoke_time_us),
        etag=make_etag(api_key.version),
    )


def parse_api_key(message: pb.ApiKey, *, parent: str, key_id: str) -> ApiKey:
    """Parse an API key from a request.

    Raises: InvalidField.
    """
    expire_time_us = None
    if message.HasField("expire_time"):
        expire_time_us = _parse_time_us(message.expire_time, field="api_key.expire_time")
    return ApiKey(
        parse_id(parent),
        key_id,
        display_name=message.display_name,
        scopes=tuple(message.scopes),
        expire_time_us=expire_time_us,
    )


def _parse_time_us(message: Timestamp, *, field: str) -> int:
    """Return a timestamp as microseconds since 1970.

    Raises: InvalidField.
    """
    if not 0 <= message.seconds <= SECONDS_MAX or not 0 <= message.nanos < 1_000_000_000:
        raise InvalidField(field, "must be between the years 1970 and 9999")
    return message.seconds * MICROS + message.nanos // 1_000


def parse_key_ids(name: str) -> tuple[str, str]:
    """Parse the account id and the key id in the name of an API key."""
    account_id, key_id = parse_key(name)
    return account_id, key_id


def build_role(role: Role) -> pb.Role:
    """Build the message of a role."""
    return pb.Role(
        name=role.name,
        display_name=role.display_name,
        permissions=role.permissions,
        built_in=role.built_in,
        create_time=build_timestamp(role.create_time_us),
        update_time=build_timestamp(role.update_time_us),
        etag=make_etag(role.version),
    )


def parse_role(message: pb.Role, role_id: str) -> Role:
    """Parse a role from a request."""
    return Role(role_id, display_name=message.display_name, permissions=tuple(message.permissions))


def build_token_set(tokens: TokenSet) -> pb.TokenSet:
    """Build the message of a pair of tokens."""
    return pb.TokenSet(
        access_token=tokens.access_token,
        expire_time=build_timestamp(tokens.expire_us),
        refresh_token=tokens.refresh_token,
        refresh_expire_time=build_optional_timestamp(tokens.refresh_expire_us),
    )


def build_jwk(key: SigningKey) -> pb.JsonWebKey:
    """Build the message of a public signing key."""
    return pb.JsonWebKey(kty="EC", kid=key.kid, use="sig", alg=key.algorithm, crv="P-256", x=key.x, y=key.y)
