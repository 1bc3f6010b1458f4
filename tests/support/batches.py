"""The batches of the contract, built from the requests of single calls."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from storekeep.v1 import batches_pb2, customers_pb2, inventory_pb2, products_pb2

WHOLE = batches_pb2.BATCH_MODE_ALL_OR_NOTHING
PER_ITEM = batches_pb2.BATCH_MODE_PER_ITEM
BATCH_ITEMS = {
    "BatchCreateProducts": "CreateProduct",
    "BatchUpdateProducts": "UpdateProduct",
    "BatchCreateVariants": "CreateVariant",
    "BatchUpdateVariants": "UpdateVariant",
    "BatchCreateCustomers": "CreateCustomer",
    "BatchUpdateCustomers": "UpdateCustomer",
    "BatchAdjustStock": "AdjustStock",
    "BatchSetStock": "SetStock",
}
"""RPC -> the RPC that makes the change of one item."""
PARENTS = {"Variants": "products/-", "Stock": "locations/-"}


def build_batch(rpc: str, items: Iterable[Any], *, mode: int = WHOLE, **fields: Any) -> Any:
    """Build the request of a batch whose items may have different parents."""
    name = f"{rpc}Request"
    kind = next(getattr(file, name) for file in (products_pb2, customers_pb2, inventory_pb2) if hasattr(file, name))
    parent = next((parent for noun, parent in PARENTS.items() if rpc.endswith(noun)), None)
    return kind(requests=items, mode=mode, **({} if parent is None else {"parent": parent}) | fields)
