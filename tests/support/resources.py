"""The resources that have the standard methods, so that what holds for all of them is tested once for each."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from google.protobuf.field_mask_pb2 import FieldMask

from storekeep.v1 import customers_pb2, inventory_pb2, products_pb2
from tests.support.shops import Shop


@dataclass(frozen=True)
class Kind:
    """One type of resource.

    Attributes:
        noun: as in `GetProduct`.
        plural: as in `ListProducts`.
        messages: the module of its requests.
        make: makes a new one; takes fields.
        missing: the name of one that is not there.
        not_found: the reason of that.
        changes: field -> a value unlike the one that `make` gives; all that an update can change.
        sortable: what `order_by` takes.
        archives: whether it can be archived.
        field: the resource's field in Create and Update requests, and of pages in the plural.
        parent: the resource name of its parent, for a new one; None where it has none.
    """

    noun: str
    plural: str
    messages: Any
    make: Callable[..., Any]
    missing: str
    not_found: str
    changes: dict[str, Any]
    sortable: tuple[str, ...]
    archives: bool
    field: str
    items: str
    parent: Callable[[Shop], str] | None = None

    def __str__(self) -> str:
        """As tests are called."""
        return self.noun

    def request(self, rpc: str, **fields: Any) -> Any:
        """The request of a method, such as `GetProduct`."""
        return getattr(self.messages, f"{rpc}Request")(**fields)

    def by_name(self, verb: str, name: str, **fields: Any) -> Any:
        """The request of a method that takes one name, such as `Archive`."""
        return self.request(f"{verb}{self.noun}", name=name, **fields)

    def get(self, shop: Shop, name: str) -> Any:
        """The resource."""
        return shop.stub(f"Get{self.noun}")(self.by_name("Get", name))

    def do(self, shop: Shop, verb: str, name: str, **fields: Any) -> Any:
        """Archive, Unarchive, Delete or Undelete it."""
        return shop.stub(f"{verb}{self.noun}")(self.by_name(verb, name, **fields))

    def update_request(self, resource: Any, *paths: str, **fields: Any) -> Any:
        """The request of an update to what the message says, in the fields of the mask; without paths without one."""
        mask = FieldMask(paths=paths) if paths else None
        return self.request(f"Update{self.noun}", **{self.field: resource}, update_mask=mask, **fields)

    def update(self, shop: Shop, resource: Any, *paths: str, **fields: Any) -> Any:
        """Update it."""
        return shop.stub(f"Update{self.noun}")(self.update_request(resource, *paths, **fields))

    def changed(self, resource: Any, *, fields: Iterable[str] = (), etag: str = "") -> Any:
        """A copy with other values in some fields, or in all that can be changed."""
        copy = type(resource)()
        copy.CopyFrom(resource)
        copy.etag = etag
        for name in tuple(fields) or self.changes:
            copy.ClearField(name)
            copy.MergeFrom(type(resource)(**{name: self.changes[name]}))
        return copy

    def create_request(self, shop: Shop, resource_id: str, **fields: Any) -> Any:
        """The request that creates one under an id."""
        draft = getattr(self.messages, self.noun)()
        if "display_name" not in fields:
            draft.display_name = "New"
        if self.noun == "Variant":
            draft.sku = resource_id
        parent = {"parent": self.parent(shop)} if self.parent else {}
        request = self.request(f"Create{self.noun}", **{self.field: draft, f"{self.field}_id": resource_id}, **parent)
        getattr(request, self.field).MergeFrom(type(draft)(**fields))
        return request

    def list(self, shop: Shop, **fields: Any) -> Any:
        """One page."""
        parent = {"parent": "products/-"} if self.parent else {}
        return shop.stub(f"List{self.plural}")(self.request(f"List{self.plural}", **parent | fields))

    def names(self, page: Any) -> list[str]:
        """The names on a page."""
        return [item.name for item in getattr(page, self.items)]

    def batch_request(self, names: Iterable[str]) -> Any:
        """The request of a batch of names."""
        parent = {"parent": "products/-"} if self.parent else {}
        return self.request(f"BatchGet{self.plural}", names=names, **parent)


ADDRESS = {"recipient": "Ana Trujillo", "locality": "México D.F.", "region_code": "MX", "address_lines": ["Avda. 1"]}
PRICE = {"currency_code": "USD", "units": 12, "nanos": 500_000_000}
CATEGORY = Kind(
    "Category",
    "Categories",
    products_pb2,
    Shop.category,
    missing="categories/nowhere",
    not_found="CATEGORY_NOT_FOUND",
    changes={"display_name": "Teas", "description": "Green and black."},
    sortable=("display_name", "create_time"),
    archives=True,
    field="category",
    items="categories",
)
PRODUCT = Kind(
    "Product",
    "Products",
    products_pb2,
    Shop.product,
    missing="products/nowhere",
    not_found="PRODUCT_NOT_FOUND",
    changes={"display_name": "Chai", "description": "10 boxes x 20 bags", "labels": {"origin": "IN", "shelf": "3"}},
    sortable=("display_name", "create_time", "update_time"),
    archives=True,
    field="product",
    items="products",
)
VARIANT = Kind(
    "Variant",
    "Variants",
    products_pb2,
    Shop.variant,
    missing="products/nowhere/variants/none",
    not_found="VARIANT_NOT_FOUND",
    changes={
        "display_name": "Large",
        "options": {"size": "L", "colour": "red"},
        "prices": [PRICE],
        "tax_class": "reduced",
        "weight_g": 250,
        "barcode": "4006381333931",
    },
    sortable=("sku", "create_time"),
    archives=True,
    field="variant",
    items="variants",
    parent=lambda shop: shop.product().name,
)
LOCATION = Kind(
    "Location",
    "Locations",
    inventory_pb2,
    Shop.location,
    missing="locations/nowhere",
    not_found="LOCATION_NOT_FOUND",
    changes={"display_name": "Warehouse", "address": ADDRESS},
    sortable=("display_name", "create_time"),
    archives=False,
    field="location",
    items="locations",
)
CUSTOMER = Kind(
    "Customer",
    "Customers",
    customers_pb2,
    Shop.customer,
    missing="customers/nobody",
    not_found="CUSTOMER_NOT_FOUND",
    changes={
        "display_name": "Ana Trujillo",
        "email": "ana@example.com",
        "phone": "+52 5 555 4729",
        "addresses": [{"label": "home", "address": ADDRESS}],
        "labels": {"tier": "gold"},
    },
    sortable=("display_name", "create_time"),
    archives=False,
    field="customer",
    items="customers",
)
KINDS = (CATEGORY, PRODUCT, VARIANT, LOCATION, CUSTOMER)
