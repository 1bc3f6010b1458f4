"""Each mutation of the contract once, as a request that succeeds, to be recorded and replayed by other callers."""

from __future__ import annotations

from typing import Any

from google.protobuf.message import Message

from storekeep.server.transport.contract import read_contract
from storekeep.v1 import auth_pb2 as pb
from storekeep.v1 import customers_pb2, inventory_pb2, orders_pb2
from tests.support.batches import BATCH_ITEMS, build_batch
from tests.support.hostile.accounts import key_request, make_account, make_key, make_role
from tests.support.hostile.trade import TRADE
from tests.support.hostile.users import USERS
from tests.support.mutations import CHANGES, copy_message
from tests.support.order_cases import Prepare
from tests.support.refusal_cases import build_transfer
from tests.support.shops import Shop, new_id, new_request_id

PATHS = {path.rpartition("/")[2]: path for path in read_contract().methods}
"""RPC -> path."""
MAKES_SECRETS = (
    "CreateApiKey",
    "RotateApiKey",
    "CreatePasswordLink",
    "CreateWebhookEndpoint",
    "RotateWebhookSecret",
)
"""The mutations whose replies hold a secret."""


def _account(shop: Shop) -> str:
    return make_account(shop, permissions=["orders.read"])


def _deleted_account(shop: Shop) -> str:
    name = _account(shop)
    shop.auth.DeleteServiceAccount(pb.DeleteServiceAccountRequest(name=name))
    return name


def _new_account(_shop: Shop) -> Message:
    account = pb.ServiceAccount(display_name="New", roles=["roles/viewer"])
    return pb.CreateServiceAccountRequest(service_account=account, service_account_id=new_id("a"))


def _update_account(shop: Shop) -> Message:
    return pb.UpdateServiceAccountRequest(
        service_account=pb.ServiceAccount(name=_account(shop), display_name="Other", roles=["roles/viewer"])
    )


def _new_role(_shop: Shop) -> Message:
    return pb.CreateRoleRequest(role=pb.Role(display_name="New", permissions=["orders.read"]), role_id=new_id("r"))


def _update_role(shop: Shop) -> Message:
    name = make_role(shop, ["orders.read"])
    return pb.UpdateRoleRequest(role=pb.Role(name=name, display_name="Other", permissions=["orders.write"]))


def _key(shop: Shop) -> str:
    return str(make_key(shop, _account(shop)).api_key.name)


def _import(shop: Shop) -> Message:
    line = orders_pb2.HistoricOrderLine(sku=shop.variant(stock=1).sku, quantity=1, unit_price={"currency_code": "EUR"})
    order = orders_pb2.HistoricOrder(
        number=new_id("H"), customer=shop.customer().name, currency_code="EUR", lines=[line], order_time={"seconds": 1}
    )
    return orders_pb2.ImportOrdersRequest(orders=[order])


ACCESS: dict[str, Prepare] = {
    "RotateSigningKey": lambda shop: pb.RotateSigningKeyRequest(),
    "CreateServiceAccount": _new_account,
    "UpdateServiceAccount": _update_account,
    "DeleteServiceAccount": lambda shop: pb.DeleteServiceAccountRequest(name=_account(shop)),
    "UndeleteServiceAccount": lambda shop: pb.UndeleteServiceAccountRequest(name=_deleted_account(shop)),
    "CreateApiKey": lambda shop: key_request(_account(shop)),
    "RotateApiKey": lambda shop: pb.RotateApiKeyRequest(name=_key(shop)),
    "RevokeApiKey": lambda shop: pb.RevokeApiKeyRequest(name=_key(shop)),
    "CreateRole": _new_role,
    "UpdateRole": _update_role,
    "DeleteRole": lambda shop: pb.DeleteRoleRequest(name=make_role(shop, ["orders.read"])),
    **USERS,
}
"""The mutations of accounts, keys, roles and users."""


def _batch(rpc: str, prepare: Prepare) -> Prepare:
    return lambda shop: build_batch(rpc, [prepare(shop)])


PREPARED: dict[str, Prepare] = {
    **{change.rpc: change.prepare for change in CHANGES},
    "TransferStock": build_transfer,
    "ReconcileStock": lambda shop: inventory_pb2.ReconcileStockRequest(skus=[shop.variant(stock=1).sku], repair=True),
    "ExportCustomerData": lambda shop: customers_pb2.ExportCustomerDataRequest(name=shop.customer().name),
    "EraseCustomer": lambda shop: customers_pb2.EraseCustomerRequest(name=shop.customer().name),
    "MergeCustomers": lambda shop: customers_pb2.MergeCustomersRequest(
        name=shop.customer().name, source=shop.customer().name
    ),
    "ImportOrders": _import,
    **TRADE,
    **ACCESS,
}
PREPARED |= {rpc: _batch(rpc, PREPARED[single]) for rpc, single in BATCH_ITEMS.items()}
"""RPC -> function that creates the required resources and returns a request that succeeds."""


def with_request_id(request: Message) -> Any:
    """Return the request with a new request id."""
    return copy_message(request, request_id=new_request_id())
