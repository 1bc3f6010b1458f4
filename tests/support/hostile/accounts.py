"""Service accounts for attacks: each with its own role with the given permissions, and keys of all kinds."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import grpc

from storekeep.server.transport.contract import read_contract
from storekeep.v1 import auth_pb2 as pb
from tests.support.shops import Shop, new_id, new_request_id

MANAGER = ("accounts.read", "accounts.write", "audit.read")
"""The permissions of an account manager."""
ALL = ("*",)
"""The scopes of a key with all current and future permissions of its account."""
IMPERSONAL = sorted(read_contract().permissions - {"customers.personal.read"})
"""All permissions but the one for personal data."""


def make_account(owner: Shop, *, permissions: Iterable[str] = (), roles: Iterable[str] = ()) -> str:
    """Create an account with these roles, and an own role with the permissions; return its name."""
    names = [*roles, *([make_role(owner, permissions)] if permissions else [])]
    account = pb.ServiceAccount(display_name="Made for a test", roles=names)
    request = pb.CreateServiceAccountRequest(service_account=account, service_account_id=new_id("a"))
    return str(owner.auth.CreateServiceAccount(request).name)


def make_role(owner: Shop, permissions: Iterable[str]) -> str:
    """Create a role; return its name."""
    role = pb.Role(display_name="Made for a test", permissions=permissions)
    return str(owner.auth.CreateRole(pb.CreateRoleRequest(role=role, role_id=new_id("r"))).name)


def key_request(account: str, *, scopes: Iterable[str] = (), **fields: Any) -> pb.CreateApiKeyRequest:
    """Build a request for a key of an account, with a request id."""
    fields = {"api_key_id": new_id("k"), "request_id": new_request_id()} | fields
    return pb.CreateApiKeyRequest(parent=account, api_key=pb.ApiKey(scopes=scopes), **fields)


def make_key(owner: Shop, account: str, *, scopes: Iterable[str] = ()) -> pb.CreateApiKeyResponse:
    """Create a key of an account."""
    return owner.auth.CreateApiKey(key_request(account, scopes=scopes))


def sign_in(channel: grpc.Channel, owner: Shop, account: str, *, scopes: Iterable[str] = ()) -> Shop:
    """Sign in with a new key of an account."""
    return Shop(channel, api_key=make_key(owner, account, scopes=scopes).secret)
