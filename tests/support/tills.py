"""A till: a caller of a running server that configures prices, taxes and promotions, and prices baskets by them.

Each basket is quoted and then ordered, and both have to cost the same. All amounts are integers in minor units, so that
a test states its numbers as a person computes them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

from google.type.money_pb2 import Money

from storekeep.client import (
    Address,
    Coupon,
    Customer,
    Order,
    OrderLine,
    Price,
    Product,
    Promotion,
    PromotionAction,
    ShippingMethod,
    StockLevel,
    Storekeep,
    TaxArea,
    TaxComponent,
    TaxRate,
    TaxZone,
    Variant,
)
from storekeep.server.domain.money import MINOR_DIGITS
from tests.support.buyers import verify
from tests.support.databases import new_database
from tests.support.processes import ServerProcess
from tests.support.shops import MAIN, get_amount, money, new_id

STOCK = 10_000
COUNTRY = "CA"
"""The country of all zones that a till creates. Each zone has a postal prefix of its own."""


@dataclass(frozen=True)
class Receipt:
    """What a basket costs, in minor units.

    Attributes:
        discounts, nets, taxes, totals: of each line; a total is net and tax.
        components: the tax of each component, by line.
        shipping: (price before discounts, tax, what is paid); empty without shipping.
        applied: the discount of each promotion, in the order in which they applied.
        net, tax, total: of the whole order.
    """

    discounts: list[int]
    nets: list[int]
    taxes: list[int]
    totals: list[int]
    components: list[list[int]]
    shipping: tuple[int, ...]
    applied: list[int]
    net: int
    tax: int
    total: int
    order: Order


def minor(amount: Money) -> int:
    """Return an amount in minor units of its currency."""
    return int(get_amount(amount) * 10 ** MINOR_DIGITS.get(amount.currency_code, 2))


def make_money(amount: int, currency_code: str = "EUR") -> Money:
    """Return an amount from minor units."""
    return money(str(Decimal(amount).scaleb(-MINOR_DIGITS[currency_code])), currency_code)


def read_receipt(order: Order) -> Receipt:
    """Return what an order costs now. The lines that are cancelled cost nothing."""
    details, lines = order.price_details, order.lines
    shipping: tuple[int, ...] = ()
    if details.HasField("shipping"):
        line = details.shipping
        shipping = minor(line.price), minor(line.tax_total), minor(line.gross_total)
    receipt = Receipt(
        discounts=[minor(line.discount) for line in lines],
        nets=[minor(line.net_total) for line in lines],
        taxes=[minor(line.tax_total) for line in lines],
        totals=[minor(line.gross_total) for line in lines],
        components=[[minor(tax.amount) for tax in line.taxes] for line in lines],
        shipping=shipping,
        applied=[minor(discount.amount) for discount in details.discounts],
        net=minor(details.net_total),
        tax=minor(details.tax_total),
        total=minor(order.total),
        order=order,
    )
    check_sums(receipt)
    return receipt


def check_sums(receipt: Receipt) -> None:
    """Assert that the parts of a receipt add up."""
    details = receipt.order.price_details
    assert receipt.total == receipt.net + receipt.tax == sum(receipt.totals) + sum(receipt.shipping[2:])
    assert receipt.tax == sum(receipt.taxes) + sum(receipt.shipping[1:2]) == sum(map(minor_tax, details.taxes))
    assert sum(receipt.applied) == minor(details.discount_total)
    for line, parts in zip(receipt.order.lines, receipt.components, strict=True):
        assert minor(line.tax_total) == sum(parts)
        assert minor(line.discount) == sum(minor(share.amount) for share in line.discount_shares)


def minor_tax(tax: Any) -> int:
    """Return the amount of a tax in minor units."""
    return minor(tax.amount)


class Till:
    """Creates what a basket needs, each with a name of its own, so that tests can share a server."""

    def __init__(self, client: Storekeep) -> None:
        self.client = client
        self.product = client.products.create(Product(display_name="P")).name
        self.customer = client.customers.create(Customer(display_name="C")).name

    # -- what is sold

    def sku(self, price: int, *, currency: str = "EUR", **fields: Any) -> str:
        """Create a variant with stock and return its SKU. Its price is in minor units."""
        sku = new_id("SKU").upper()
        new = Variant(sku=sku, prices=[make_money(price, currency)], **fields)
        self.client.variants.create(self.product, new)
        self.client.inventory.adjust_stock(f"{MAIN}/stockLevels/{sku}", quantity_delta=STOCK)
        return sku

    def skus(self, *prices: int, classes: Sequence[str] = ()) -> list[str]:
        """Create several variants, with a tax class each if `classes` are given."""
        return [
            self.sku(price, tax_class=tax_class)
            for price, tax_class in zip(prices, classes or [""] * len(prices), strict=True)
        ]

    def add_price(self, sku: str, amount: int, *, floor: int | None = None, **fields: Any) -> str:
        """Create a price of a SKU and return its name."""
        lowest = None if floor is None else make_money(floor)
        return self.client.prices.create(Price(sku=sku, amount=make_money(amount), floor=lowest, **fields)).name

    def add_customer(self, **fields: Any) -> str:
        """Create a customer and return its name."""
        return self.client.customers.create(Customer(display_name="C", **fields)).name

    def available(self, sku: str) -> int:
        """Return the units of a SKU that can be sold."""
        return self.client.inventory.get_stock_level(f"{MAIN}/stockLevels/{sku}").available

    def limit_stock(self, sku: str, **limits: int) -> None:
        """Set the limits of the stock level of a SKU."""
        level = StockLevel(name=f"{MAIN}/stockLevels/{sku}", **limits)
        self.client.inventory.update_stock_level(level, update_mask=list(limits))

    # -- tax

    def zone(self, zone_id: str = "", *, prefix: str = "", **rates: Sequence[str] | str) -> Address:
        """Create a tax zone and return an address in it.

        Args:
            prefix: the postal prefix (default: one that no other zone has).
            rates: tax class -> percent, or the percent of each component, such as `("5", "9.975 compound")`.
                `standard` is the class without a name.
        """
        prefix = prefix or new_id().upper()
        zone = TaxZone(areas=[TaxArea(region_code=COUNTRY, postal_code_prefix=prefix)])
        name = self.client.tax_zones.create(zone, tax_zone_id=zone_id or new_id("z")).name
        for tax_class, parts in rates.items():
            self.add_rate(name, (parts,) if isinstance(parts, str) else parts, tax_class=tax_class)
        return Address(recipient="Ada", region_code=COUNTRY, postal_code=f"{prefix} 1")

    def add_rate(self, zone: str, parts: Sequence[str], *, tax_class: str = "standard", **fields: Any) -> str:
        """Create a tax rate and return its name; see `zone`."""
        components = [
            TaxComponent(
                display_name=part, rate_ppm=int(Decimal(part.split()[0]) * 10_000), compound=part.endswith("compound")
            )
            for part in parts
        ]
        named = "" if tax_class == "standard" else tax_class
        rate = TaxRate(tax_zone=zone, tax_class=named, components=components, **fields)
        return self.client.tax_rates.create(rate).name

    # -- promotions, coupons and shipping

    def promote(self, *skus: str, priority: int = 0, **fields: Any) -> str:
        """Create an active promotion on SKUs, or on all lines without any, and return its name.

        Args:
            fields: `percent`, `off`, `each` (price of a unit) or `get` (percent off the units to get) for the action,
                with the fields of `PromotionAction` as `with_FIELD`; all others are those of `Promotion`.
        """
        more = {key.removeprefix("with_"): fields.pop(key) for key in list(fields) if key.startswith("with_")}
        more = {key: "PROMOTION_TARGET_" + value if key == "target" else value for key, value in more.items()}
        action = _build_action(fields, more | {"items": more.get("items", {"skus": skus})})
        has_amount = action.HasField("amount") or action.HasField("max_discount") or "conditions" in fields
        fields.setdefault("currency_code", "EUR" if has_amount or "budget" in fields else "")
        promotion = Promotion(action=action, priority=priority, **fields)
        name = self.client.promotions.create(promotion, promotion_id=new_id("p")).name
        self.client.promotions.activate(name)
        return name

    def coupon(self, promotion: str, **fields: Any) -> str:
        """Create a coupon and return its code."""
        code = new_id("c").upper()
        self.client.coupons.create(Coupon(promotion=promotion, **fields), coupon_id=code)
        return code

    def method(self, *prices: dict[str, Any], **fields: Any) -> str:
        """Create a shipping method and return its name. `prices` are fields of `ShippingPrice`."""
        method = ShippingMethod(prices=prices, **fields)
        return self.client.shipping_methods.create(method, shipping_method_id=new_id("s")).name

    # -- the basket

    def buy(self, *lines: tuple[str, int], **fields: Any) -> Receipt:
        """Quote and order lines of (SKU, units). Both cost the same."""
        requested = {"currency_code": "EUR", "customer": self.customer} | fields
        quote = self.client.orders.quote(lines=lines, **requested)
        order = self.client.orders.place(lines=lines, expected_total=quote.total, **requested)
        assert quote.price_details == order.price_details
        assert [cost(line) for line in quote.lines] == [cost(line) for line in order.lines]
        return read_receipt(order)

    def refuse(self, *lines: tuple[str, int], **fields: Any) -> list[str]:
        """Quote lines and return the problem of each code that does not apply."""
        requested = {"currency_code": "EUR", "customer": self.customer} | fields
        refused = self.client.orders.quote(lines=lines, **requested).refused_codes
        names = refused[0].DESCRIPTOR.fields_by_name["problem"].enum_type if refused else None
        return [names.values_by_number[one.problem].name.removeprefix("COUPON_PROBLEM_") for one in refused]

    def cancel(self, receipt: Receipt, **units: int) -> Receipt:
        """Cancel units: `line_1=2` cancels two units of the first line."""
        chosen = {int(key.removeprefix("line_")): count for key, count in units.items()}
        return read_receipt(self.client.orders.cancel_lines(receipt.order.name, chosen))

    def edit(self, receipt: Receipt, **changes: Any) -> Receipt:
        """Edit the lines of an order. The preview costs the same."""
        preview = self.client.orders.preview_edit(receipt.order.name, **changes)
        edited = self.client.orders.apply_edit(receipt.order.name, **changes)
        assert preview.price_details == edited.price_details
        return read_receipt(edited)

    def move(self, receipt: Receipt, address: Address) -> Receipt:
        """Change the shipping address of an order."""
        changed = Order(name=receipt.order.name, shipping_address=address)
        return read_receipt(self.client.orders.update(changed, update_mask=["shipping_address"]))


def _build_action(fields: dict[str, Any], more: dict[str, Any]) -> PromotionAction:
    """Return the action that `fields` state, and remove them."""
    if "percent" in fields:
        kind, value = "PERCENTAGE", {"percentage_ppm": _to_ppm(fields.pop("percent"))}
    elif "off" in fields:
        kind, value = "AMOUNT", {"amount": make_money(fields.pop("off"), fields.get("currency_code", "EUR"))}
    elif "each" in fields:
        kind, value = "FIXED_UNIT_PRICE", {"amount": make_money(fields.pop("each"))}
    else:
        kind, value = "BUY_X_GET_Y", {"percentage_ppm": _to_ppm(fields.pop("get"))}
    return PromotionAction(kind=f"PROMOTION_ACTION_KIND_{kind}", **value | more)


def _to_ppm(percent: str) -> int:
    return int(Decimal(percent) * 10_000)


def cost(line: OrderLine) -> tuple[Any, ...]:
    """Return what a line costs, without the fields that only an order has."""
    return line.sku, line.quantity, minor(line.unit_price), minor(line.total), minor(line.tax_total)


@contextmanager
def open_till(engine: str, folder: Path, **settings: str) -> Iterator[Till]:
    """Open a till at a server with settings of its own. Verify the database at the end."""
    database = new_database(engine, folder)
    server = ServerProcess(folder, database=database, **settings)
    try:
        with Storekeep(server.address, api_key=server.admin_key) as client:
            yield Till(client)
        verify(server)
    finally:
        server.kill()
        database.remove()
