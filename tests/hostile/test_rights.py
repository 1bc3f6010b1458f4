"""The permission matrix: every RPC with every kind of credential, and every change of an account by every role.

The permission of each RPC is repeated here, so that a change of the contract cannot weaken one unnoticed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import grpc
import pytest

from storekeep.server.domain.calls import Call, Caller
from storekeep.server.domain.mutations import mutate
from storekeep.server.transport.contract import read_contract
from storekeep.v1 import auth_pb2 as pb
from storekeep.v1 import orders_pb2, pricing_pb2
from tests.support.hostile.accounts import ALL, MANAGER, key_request, make_account, make_key, make_role, sign_in
from tests.support.hostile.trade import TRADE
from tests.support.processes import ServerProcess
from tests.support.records import Records
from tests.support.refusals import refusal, refused
from tests.support.shops import Shop, new_id
from tests.support.streams import open_method

CONTRACT = read_contract()
TIMEOUT_S = 60.0
PUBLIC = {
    "IssueToken",
    "RefreshToken",
    "RevokeToken",
    "GetJwks",
    "SignIn",
    "SignInWithIdentityToken",
    "RedeemPasswordLink",
}
AUTHENTICATED = {"WhoAmI", "TestPermissions", "GetOwnUser", "EndOwnSessions"}
AUTHENTICATED |= {"ChangePassword", "EnableTotp", "DisableTotp"}
NOUNS = {
    "products": "Category Categories Product Products Variant Variants",
    "stock": "Location Locations Stock StockLevel StockLevels LowStock Availability StockMovement StockMovements",
    "reservations": "Reservation Reservations",
    "customers": "Customer Customers",
    "orders": (
        "Order Orders Quote Quotes OrderLines OrderEdit OrderNote OrderNotes OrderHistory Fulfillment Fulfillments"
    ),
    "accounts": (
        "ServiceAccount ServiceAccounts ApiKey ApiKeys SigningKey Role Roles User Users UserSession UserSessions"
        " UserTotp PasswordLink"
    ),
    "events": "Event Events",
    "webhooks": "WebhookEndpoint WebhookEndpoints WebhookSecret WebhookDelivery WebhookDeliveries",
    "pricing": (
        "Price Prices PriceHistory LowestPrice TaxZone TaxZones TaxRate TaxRates Promotion Promotions"
        " ShippingMethod ShippingMethods"
    ),
    "coupons": "Coupon Coupons",
    "audit": "AuditEntry AuditEntries AuditChain AuditCheckpoints",
}
"""The resource of a permission -> the nouns that end the names of its RPCs."""
READS = ("Get", "List", "BatchGet", "Search", "Check", "Verify", "Watch", "Quote")
BATCHES = ("BatchCreate", "BatchUpdate", "BatchAdjust", "BatchSet")
PARTICULAR = {
    "EraseCustomer": "customers.erase",
    "ExportCustomerData": "customers.export",
    "MergeCustomers": "customers.merge",
    "ReadCustomerData": "customers.export",
    "ImportOrders": "orders.import",
    "RedeliverEvents": "webhooks.write",
    "ReserveStock": "reservations.write",
}


def derive_permission(rpc: str) -> str:
    """Return the permission that an RPC must require, by its name."""
    if rpc in PARTICULAR:
        return PARTICULAR[rpc]
    verb = next((verb for verb in READS if rpc.startswith(verb)), "")
    for noun, names in NOUNS.items():
        for name in names.split():
            if rpc.endswith(name) and rpc.removesuffix(name).isalpha() and _is_verb(rpc.removesuffix(name)):
                return f"{noun}.{'read' if verb else 'write'}"
    raise AssertionError(f"{rpc}: say what it asks for")


def _is_verb(text: str) -> bool:
    """Return whether a text is the verb of an RPC: one word, such as `Undelete`, or that of a batch."""
    return text in READS or text in BATCHES or (text[:1].isupper() and text[1:].islower())


RPCS = {path: method.name.rpartition("/")[2] for path, method in CONTRACT.methods.items()}
PERMISSIONS = sorted(CONTRACT.permissions)


def send(channel: grpc.Channel, path: str, token: str) -> str:
    """Send an empty request with a token; return the error reason, or an empty text if it succeeds."""
    metadata = [("authorization", f"Bearer {token}")] if token else []
    outcome = refusal(open_method(channel, path), b"", timeout=TIMEOUT_S, metadata=metadata)
    return "" if outcome is None else outcome.reason


def find_holes(channel: grpc.Channel, token: str, *, held: Iterable[str]) -> dict[str, str]:
    """Return the outcome of each RPC that a caller with these permissions must not get."""
    found = {}
    for path, rpc in RPCS.items():
        reason = send(channel, path, token)
        if rpc in PUBLIC:
            right = reason not in ("UNAUTHENTICATED", "PERMISSION_DENIED")
        elif not token:
            right = reason == "UNAUTHENTICATED"
        elif rpc in AUTHENTICATED or derive_permission(rpc) in held:
            right = reason not in ("UNAUTHENTICATED", "PERMISSION_DENIED")
        else:
            right = reason == "PERMISSION_DENIED"
        if not right:
            found[rpc] = reason
    return found


def test_every_rpc_asks_for_its_own_permission():
    told = {rpc: CONTRACT.methods[path].permission for path, rpc in RPCS.items()}
    wanted = {
        rpc: "public" if rpc in PUBLIC else "authenticated" if rpc in AUTHENTICATED else derive_permission(rpc)
        for rpc in told
    }
    assert told == wanted


def test_nobody_reaches_what_is_public_and_nothing_else(channel: grpc.Channel, records: Records):
    before = records.last_sequence()
    assert find_holes(channel, "", held=()) == {}
    assert records.last_sequence() == before


@pytest.mark.engine("sqlite", reason="scopes are compared before the database; roles are tested on each engine below")
@pytest.mark.parametrize("permission", PERMISSIONS)
def test_key_of_an_administrator_with_one_scope_reaches_that_and_nothing_else(
    admin: Shop, channel: grpc.Channel, permission: str
):
    limited = sign_in(channel, admin, "serviceAccounts/admin", scopes=[permission])
    assert find_holes(channel, limited.token, held=[permission]) == {}


def test_orders_are_not_found_by_what_a_caller_may_not_read_of_their_customers(channel: grpc.Channel, admin: Shop):
    customer = admin.customer(email=f"{new_id('mail')}@example.com")
    order = admin.order(customer=customer.name, email="other@example.com")
    request = orders_pb2.ListOrdersRequest(filter=f'customer.email = "{customer.email}"')
    reader = sign_in(channel, admin, "serviceAccounts/admin", scopes=["orders.read"])
    with refused("INVALID_FILTER"):
        reader.orders.ListOrders(request)
    both = sign_in(
        channel, admin, "serviceAccounts/admin", scopes=["orders.read", "customers.read", "customers.personal.read"]
    )
    assert [one.name for one in both.orders.ListOrders(request).orders] == [order.name]


@pytest.mark.parametrize(
    "held",
    [(), MANAGER, tuple(p for p in PERMISSIONS if p.endswith(".read")), tuple(PERMISSIONS)],
    ids=["no role", "lesser manager", "all reads", "administrator"],
)
def test_account_reaches_what_its_roles_hold_and_nothing_else(
    admin: Shop, channel: grpc.Channel, held: tuple[str, ...]
):
    caller = sign_in(channel, admin, make_account(admin, permissions=held))
    assert find_holes(channel, caller.token, held=held) == {}


# -- privilege escalation: role of the actor by role of the subject by method

HIGHER = tuple(sorted({*MANAGER, "orders.read"}))
"""The permissions of a manager, and reading orders."""
LEVELS: dict[str, tuple[str, ...]] = {
    "nothing": (),
    "reader": ("orders.read",),
    "manager": MANAGER,
    "higher": HIGHER,
    "administrator": tuple(PERMISSIONS),
}
ACTORS = ("manager", "higher", "administrator")
STATES = ("active", "disabled", "deleted")


STATE_REASONS = {
    "RESOURCE_DELETED",
    "SERVICE_ACCOUNT_NOT_FOUND",
    "RESOURCE_NOT_DELETED",
    "RESOURCE_IN_USE",
    "ILLEGAL_STATE",
}
"""Reasons for which a permitted call may fail."""


class Subject:
    """An account to be changed by actors, with its own key and role."""

    def __init__(self, admin: Shop, level: str, state: str) -> None:
        self.level = level
        self.role = make_role(admin, LEVELS[level])
        self.account = make_account(admin, roles=[self.role])
        self.key = make_key(admin, self.account).api_key.name
        if state == "disabled":
            admin.auth.UpdateServiceAccount(switch(self.account, disabled=True))
        if state == "deleted":
            admin.auth.DeleteServiceAccount(pb.DeleteServiceAccountRequest(name=self.account))


def switch(account: str, *, disabled: bool) -> pb.UpdateServiceAccountRequest:
    """Build a request that disables or enables an account."""
    changed = pb.ServiceAccount(name=account, display_name="x", disabled=disabled)
    return pb.UpdateServiceAccountRequest(service_account=changed, update_mask={"paths": ["disabled"]})


def strip(account: str, *roles: str) -> pb.UpdateServiceAccountRequest:
    """Build a request that replaces the roles of an account."""
    changed = pb.ServiceAccount(name=account, display_name="x", roles=roles)
    return pb.UpdateServiceAccountRequest(service_account=changed, update_mask={"paths": ["roles"]})


def rename(account: str) -> pb.UpdateServiceAccountRequest:
    """Build a request that changes no permission."""
    changed = pb.ServiceAccount(name=account, display_name=new_id("n"))
    return pb.UpdateServiceAccountRequest(service_account=changed, update_mask={"paths": ["display_name"]})


ACTS: dict[str, tuple[str, Callable[[Subject], Any]]] = {
    "enable": ("UpdateServiceAccount", lambda s: switch(s.account, disabled=False)),
    "disable": ("UpdateServiceAccount", lambda s: switch(s.account, disabled=True)),
    "strip": ("UpdateServiceAccount", lambda s: strip(s.account)),
    "rename": ("UpdateServiceAccount", lambda s: rename(s.account)),
    "delete": ("DeleteServiceAccount", lambda s: pb.DeleteServiceAccountRequest(name=s.account)),
    "undelete": ("UndeleteServiceAccount", lambda s: pb.UndeleteServiceAccountRequest(name=s.account)),
    "make a key": ("CreateApiKey", lambda s: key_request(s.account)),
    "make a limited key": ("CreateApiKey", lambda s: key_request(s.account, scopes=["accounts.read"])),
    "rotate a key": ("RotateApiKey", lambda s: pb.RotateApiKeyRequest(name=s.key)),
    "revoke a key": ("RevokeApiKey", lambda s: pb.RevokeApiKeyRequest(name=s.key)),
    "lower its role": (
        "UpdateRole",
        lambda s: pb.UpdateRoleRequest(role=pb.Role(name=s.role, display_name="x"), update_mask={"paths": ["*"]}),
    ),
    "rename its role": (
        "UpdateRole",
        lambda s: pb.UpdateRoleRequest(
            role=pb.Role(name=s.role, display_name="y"), update_mask={"paths": ["display_name"]}
        ),
    ),
    "delete its role": ("DeleteRole", lambda s: pb.DeleteRoleRequest(name=s.role)),
    "make its like": (
        "CreateServiceAccount",
        lambda s: pb.CreateServiceAccountRequest(service_account={"display_name": "x", "roles": [s.role]}),
    ),
    "copy its role": (
        "CreateRole",
        lambda s: pb.CreateRoleRequest(role=pb.Role(display_name="x", permissions=LEVELS[s.level])),
    ),
}


@pytest.fixture(scope="module")
def actors(admin: Shop, channel: grpc.Channel) -> dict[str, Shop]:
    """Sign in the actors, by level."""
    return {level: sign_in(channel, admin, make_account(admin, permissions=LEVELS[level])) for level in ACTORS}


def check_acts(
    subject: Any,
    acts: Mapping[str, tuple[str, Callable[[Any], Any]]],
    actors: Mapping[str, Shop],
    records: Records,
    *,
    level: str,
    reasons: Iterable[str] = (),
) -> None:
    """Check that only actors with all permissions of a subject may act on it, and that nothing was changed.

    Args:
        acts: the method, and what builds its request for the subject.
        level: the permissions of the subject.
        reasons: further reasons for which permitted acts may fail.
    """
    before = records.last_sequence()
    wrong = {}
    for actor, shop in actors.items():
        above = not set(LEVELS[level]) <= set(LEVELS[actor])
        for act, (rpc, request_for) in acts.items():
            request = request_for(subject)
            request.validate_only = not above
            outcome = refusal(shop.stub(rpc), request)
            reason = "" if outcome is None else outcome.reason
            if reason not in ({"PRIVILEGE_ESCALATION"} if above else {"", *reasons, *STATE_REASONS}):
                wrong[actor, act] = reason
    assert wrong == {}
    assert records.last_sequence() == before


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("level", LEVELS)
def test_accounts_are_touched_only_by_who_holds_all_that_they_hold(
    admin: Shop, actors: dict[str, Shop], records: Records, level: str, state: str
):
    check_acts(Subject(admin, level, state), ACTS, actors, records, level=level)


def test_giving_a_role_above_oneself_is_refused_on_every_way(admin: Shop, actors: dict[str, Shop]):
    target = make_account(admin)
    for roles in (["roles/admin"], ["roles/operator"], ["roles/viewer"], ["roles/viewer", "roles/admin"]):
        with refused("PRIVILEGE_ESCALATION"):
            actors["manager"].auth.UpdateServiceAccount(strip(target, *roles))
    with refused("PRIVILEGE_ESCALATION"):
        actors["manager"].auth.CreateApiKey(key_request(target, scopes=["orders.write"]))
    with refused("PRIVILEGE_ESCALATION"):
        actors["manager"].auth.CreateApiKey(key_request(target, scopes=ALL))


def test_signing_key_is_rotated_only_by_who_holds_everything(actors: dict[str, Shop]):
    for level in ("manager", "higher"):
        with refused("PRIVILEGE_ESCALATION"):
            actors[level].auth.RotateSigningKey(pb.RotateSigningKeyRequest())
    actors["administrator"].auth.RotateSigningKey(pb.RotateSigningKeyRequest())


def test_role_that_an_account_above_has_too_is_not_changed(admin: Shop, actors: dict[str, Shop]):
    shared = make_role(admin, ["audit.read"])
    make_account(admin, roles=[shared, "roles/operator"])
    for change in (pb.Role(name=shared, display_name="x"), pb.Role(name=shared, display_name="x", permissions=MANAGER)):
        with refused("PRIVILEGE_ESCALATION"):
            actors["manager"].auth.UpdateRole(pb.UpdateRoleRequest(role=change, update_mask={"paths": ["*"]}))


def test_key_planted_on_an_account_does_not_grow_with_it(admin: Shop, actors: dict[str, Shop], channel: grpc.Channel):
    target = make_account(admin)
    planted = sign_in(channel, actors["manager"], target)
    admin.auth.UpdateServiceAccount(strip(target, "roles/admin"))
    assert list(planted.auth.WhoAmI(pb.WhoAmIRequest()).permissions) == []


def test_key_with_scopes_that_its_account_may_get_later_is_not_rotated_from_below(
    admin: Shop, actors: dict[str, Shop], channel: grpc.Channel
):
    target = make_account(admin)
    for scopes in (["orders.write"], ALL):
        key = make_key(admin, target, scopes=scopes).api_key.name
        with refused("PRIVILEGE_ESCALATION"):
            actors["manager"].auth.RotateApiKey(pb.RotateApiKeyRequest(name=key))
        actors["manager"].auth.RevokeApiKey(pb.RevokeApiKeyRequest(name=key))


def test_limited_key_counts_for_what_it_may_do_not_for_what_its_account_may(admin: Shop, channel: grpc.Channel):
    limited = sign_in(channel, admin, "serviceAccounts/admin", scopes=MANAGER)
    target = make_account(admin, permissions=["orders.read"])
    for rpc, request in (
        ("UpdateServiceAccount", switch(target, disabled=True)),
        ("UpdateServiceAccount", switch("serviceAccounts/admin", disabled=True)),
        ("CreateApiKey", key_request("serviceAccounts/admin", scopes=MANAGER)),
        ("RotateSigningKey", pb.RotateSigningKeyRequest()),
    ):
        with refused("PRIVILEGE_ESCALATION"):
            limited.stub(rpc)(request)


def test_own_account_is_an_account_like_others(admin: Shop, channel: grpc.Channel):
    own = make_account(admin, permissions=HIGHER)
    limited = sign_in(channel, admin, own, scopes=MANAGER)
    with refused("PRIVILEGE_ESCALATION"):
        limited.auth.UpdateServiceAccount(strip(own))
    whole = sign_in(channel, admin, own)
    whole.auth.UpdateServiceAccount(strip(own))
    with refused("PERMISSION_DENIED"):
        whole.auth.UpdateServiceAccount(strip(own, "roles/viewer"))


@pytest.mark.parametrize("path", [path for path, m in CONTRACT.methods.items() if m.permission == "accounts.write"])
def test_no_change_of_who_may_call_runs_without_a_check_of_access(path: str):
    with pytest.raises(TypeError, match="no access check"):
        mutate(None, Call(Caller("serviceAccounts/x"), path.removeprefix("/")), lambda mutation: None, type(None))


@pytest.mark.engine("sqlite", reason="a permission does not depend on the engine")
@pytest.mark.parametrize(
    ("permissions", "fields", "missing"),
    [
        ((), {}, "pricing.read"),
        (("customers.read",), {"customer_groups": ["vip"]}, "pricing.read"),
        (("pricing.read",), {}, ""),
        (("pricing.read",), {"customer_groups": ["vip"]}, "customers.read"),
        (("pricing.read",), {"first_order": True}, "customers.read"),
        (("pricing.read", "customers.read"), {"customer_groups": ["vip"], "first_order": True}, ""),
    ],
)
def test_draft_promotion_tells_nothing_that_one_may_not_read(
    admin: Shop, channel: grpc.Channel, permissions: tuple[str, ...], fields: dict[str, Any], missing: str
):
    action = pricing_pb2.PromotionAction(kind="PROMOTION_ACTION_KIND_PERCENTAGE", percentage_ppm=1, items={})
    request = orders_pb2.QuoteOrderRequest(
        customer=admin.customer(groups=["vip"]).name,
        currency_code="EUR",
        lines=[{"sku": admin.variant(stock=1).sku, "quantity": 1}],
        draft_promotion=pricing_pb2.Promotion(
            action=action, conditions=pricing_pb2.PromotionConditions(**fields), display_name="Draft"
        ),
    )
    caller = sign_in(channel, admin, make_account(admin, permissions=["orders.read", *permissions]))
    if not missing:
        assert caller.orders.QuoteOrder(request).lines
        return
    with refused("PERMISSION_DENIED") as outcome:
        caller.orders.QuoteOrder(request)
    assert missing in outcome.text


# -- metadata


def test_two_authorizations_are_refused_whichever_comes_last(admin: Shop, channel: grpc.Channel):
    path = "/storekeep.v1.AuthService/WhoAmI"
    good, bad = f"Bearer {admin.token}", "Bearer x"
    for pair in ((good, bad), (bad, good), (good, good), ("", good), (good, "")):
        metadata = [("authorization", value) for value in pair]
        outcome = refusal(open_method(channel, path), b"", timeout=TIMEOUT_S, metadata=metadata)
        assert outcome is not None
        assert outcome.reason == "UNAUTHENTICATED"
        assert "more than one" in outcome.text


# -- forged tokens


def test_unknown_tokens_change_nothing_and_real_ones_work_beside_them(
    server: ServerProcess, admin: Shop, channel: grpc.Channel, records: Records
):
    tokens = admin.auth.IssueToken(pb.IssueTokenRequest(api_key=server.admin_key))
    before = records.last_sequence()
    for number in range(20):
        with refused("UNAUTHENTICATED"):
            admin.auth.RefreshToken(pb.RefreshTokenRequest(refresh_token=f"rt_{number}"))
        admin.auth.RevokeToken(pb.RevokeTokenRequest(token=f"rt_{number}"))
    assert records.last_sequence() == before
    second = admin.auth.RefreshToken(pb.RefreshTokenRequest(refresh_token=tokens.refresh_token))
    with refused("TOKEN_REVOKED"):
        admin.auth.RefreshToken(pb.RefreshTokenRequest(refresh_token=tokens.refresh_token))
    with refused("TOKEN_REVOKED"):
        admin.auth.RefreshToken(pb.RefreshTokenRequest(refresh_token=second.refresh_token))
    assert send(channel, "/storekeep.v1.AuthService/WhoAmI", second.access_token) == "TOKEN_REVOKED"
    assert records.last_sequence() == before + 2  # the refresh, and the end of the session


WEBHOOK_CHANGES = sorted(method.name for method in CONTRACT.methods.values() if method.permission == "webhooks.write")


@pytest.mark.parametrize("method", WEBHOOK_CHANGES)
def test_endpoint_is_changed_only_by_who_may_read_what_it_gets(
    admin: Shop, channel: grpc.Channel, records: Records, method: str
):
    rpc = method.rpartition("/")[2]
    request = TRADE[rpc](admin)  # its endpoint gets events of locations
    below = sign_in(channel, admin, make_account(admin, permissions=["webhooks.write", "orders.read"]))
    equal = sign_in(channel, admin, make_account(admin, permissions=["webhooks.write", "stock.read"]))
    before = records.last_sequence()
    with refused("PRIVILEGE_ESCALATION"):
        below.stub(rpc)(request)
    assert records.last_sequence() == before
    equal.stub(rpc)(request)
    assert records.last_sequence() == before + 1
