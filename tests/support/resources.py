"""The resources with the standard methods, so that the common behaviour is tested once for each."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from google.protobuf.field_mask_pb2 import FieldMask

from storekeep.v1 import customers_pb2, inventory_pb2, products_pb2
from tests.support.shops import Shop


@dataclass(frozen=True)
class Kind:
    """A type of resource.

    Attributes:
        noun: Name as in `GetProduct`.
        plural: Name as in `ListProducts`.
        messages: Module of its request messages.
        make: Creates a new resource; takes fields.
        missing: Name of a resource that does not exist.
        not_found: Error reason for a missing resource.
        changes: Field -> a value that differs from that of `make`, for every field that an update can change.
        sortable: Fields that `order_by` accepts.
        archives: Whether it can be archived.
        field: Field of the resource in Create and Update requests; pages use the plural.
        parent: Resource name of the parent of a new resource; None if it has no parent.
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
        """Return the name in test ids."""
        return self.noun

    def request(self, rpc: str, **fields: Any) -> Any:
        """Build the request of a method such as `GetProduct`."""
        return getattr(self.messages, f"{rpc}Request")(**fields)

    def by_name(self, verb: str, name: str, **fields: Any) -> Any:
        """Build the request of a method that takes one name, such as `Archive`."""
        return self.request(f"{verb}{self.noun}", name=name, **fields)

    def get(self, shop: Shop, name: str) -> Any:
        """Get a resource."""
        return shop.stub(f"Get{self.noun}")(self.by_name("Get", name))

    def do(self, shop: Shop, verb: str, name: str, **fields: Any) -> Any:
        """Archive, Unarchive, Delete or Undelete a resource."""
        return shop.stub(f"{verb}{self.noun}")(self.by_name(verb, name, **fields))

    def update_request(self, resource: Any, *paths: str, **fields: Any) -> Any:
        """Build an update request with a mask of these paths; without paths, without a mask."""
        mask = FieldMask(paths=paths) if paths else None
        return self.request(f"Update{self.noun}", **{self.field: resource}, update_mask=mask, **fields)

    def update(self, shop: Shop, resource: Any, *paths: str, **fields: Any) -> Any:
        """Update a resource."""
        return shop.stub(f"Update{self.noun}")(self.update_request(resource, *paths, **fields))

    def changed(self, resource: Any, *, fields: Iterable[str] = (), etag: str = "") -> Any:
        """Return a copy with other values in some fields, or in all fields that can be changed."""
        copy = type(resource)()
        copy.CopyFrom(resource)
        copy.etag = etag
        for name in tuple(fields) or self.changes:
            copy.ClearField(name)
            copy.MergeFrom(type(resource)(**{name: self.changes[name]}))
        return copy

    def create_request(self, shop: Shop, resource_id: str, **fields: Any) -> Any:
        """Build the request that creates a resource with an id."""
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
        """List one page."""
        parent = {"parent": "products/-"} if self.parent else {}
        return shop.stub(f"List{self.plural}")(self.request(f"List{self.plural}", **parent | fields))

    def names(self, page: Any) -> list[str]:
        """Return the names on a page."""
        return [item.name for item in getattr(page, self.items)]

    def batch_request(self, names: Iterable[str]) -> Any:
        """Build the request of a batch of names."""
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
    changes={
        "display_name": "Teas",
        "description": "Green and black.",
        "translations": {"de": {"display_name": "Tee"}},
    },
    sortable=("display_name", "create_time", "update_time"),
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
    changes={
        "display_name": "Chai",
        "description": "10 boxes x 20 bags",
        "labels": {"origin": "IN", "shelf": "3"},
        "translations": {
            "de": {"display_name": "Chai-Tee", "description": "10 Schachteln"},
            "pt-BR": {"description": "Chá"},
        },
        "media": [{"uri": "https://img.example/2.jpg", "alt_text": "A box"}, {"uri": "https://img.example/1.jpg"}],
    },
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
        "labels": {"season": "winter"},
        "translations": {"de": {"display_name": "Groß", "options": {"Größe": "L"}}},
        "quantity_rules": {"minimum": 2, "maximum": 10, "multiple": 2},
    },
    sortable=("sku", "create_time", "update_time"),
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
    changes={"display_name": "Warehouse", "address": ADDRESS, "labels": {"region": "north"}},
    sortable=("display_name", "create_time", "update_time"),
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
        "groups": ["retail", "wholesale"],
        "company": "Trujillo S.A.",
        "tax_id": "MX-123",
        "tax_exemption": {"reason": "reseller", "certificate": "R-7"},
        "language_code": "es-MX",
    },
    sortable=("create_time", "update_time"),
    archives=False,
    field="customer",
    items="customers",
)
KINDS = (CATEGORY, PRODUCT, VARIANT, LOCATION, CUSTOMER)
