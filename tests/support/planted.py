"""Resources with a mark in each of their personal fields, for tests that search where such values get to."""

from __future__ import annotations

from storekeep.v1 import customers_pb2, orders_pb2, quotes_pb2, users_pb2
from storekeep.v1.addresses_pb2 import Address
from tests.domain.orders.test_order_taxes import add_zone
from tests.support.shops import Shop, new_id

MARK = "planted-"


def plant_address(number: str) -> Address:
    """Return an address with a mark in every text."""
    marked = {name: f"{MARK}{name}{number}" for name in ("recipient", "organization", "locality", "phone")}
    return Address(
        **marked,
        administrative_area=f"{MARK}area{number}",
        address_lines=[f"{MARK}line{number}", f"{MARK}line2{number}"],
        postal_code=f"{MARK}code",
        region_code="AT",
    )


class Planted:
    """Resources with a mark in each of their personal fields, made by the administrator.

    Args:
        admin: the administrator.
    """

    def __init__(self, admin: Shop) -> None:
        address = plant_address("1")
        self.customer = admin.customer(
            display_name=f"{MARK}name",
            email=f"{MARK}email@example.com",
            phone=f"{MARK}phone",
            company=f"{MARK}company",
            tax_id=f"{MARK}tax",
            addresses=[customers_pb2.CustomerAddress(label=f"{MARK}label", address=address)],
            tax_exemption=customers_pb2.CustomerTaxExemption(reason=f"{MARK}why", certificate=f"{MARK}paper"),
        )
        add_zone(admin, "aq", "AQ", standard=190_000)  # orders keep the exemption of their customer if there are rates
        sku = admin.variant(stock=50).sku
        self.quote = self._offer(admin, sku)
        user = users_pb2.User(display_name=f"{MARK}user", email=f"{MARK}{new_id()}@example.com")
        self.user = admin.users.CreateUser(users_pb2.CreateUserRequest(user=user))
        self.reservation = admin.reserve((sku, 1), reference=f"{MARK}cart")
        order = admin.order(
            (sku, 2),
            customer=self.customer.name,
            reservation=self.reservation.name,
            note=f"{MARK}note",
            shipping_address=address,
            billing_address=plant_address("2"),
            tax_address=plant_address("4"),
            email=f"{MARK}order@example.com",
            phone=f"{MARK}call",
            tax_exemption=orders_pb2.OrderTaxExemption(reason=f"{MARK}exempt", certificate=f"{MARK}certificate"),
        )
        order = admin.orders.HoldOrder(orders_pb2.HoldOrderRequest(name=order.name, reason=f"{MARK}hold"))
        self.order = admin.orders.UpdateOrder(
            orders_pb2.UpdateOrderRequest(
                order=orders_pb2.Order(
                    name=order.name,
                    note=f"{MARK}other note",
                    email=f"{MARK}other@example.com",
                    shipping_address=plant_address("3"),
                ),
                reason=f"{MARK}reason",
            )
        )
        admin.orders.ResumeOrder(orders_pb2.ResumeOrderRequest(name=order.name))
        admin.confirm(order)
        request = orders_pb2.AddOrderNoteRequest(parent=order.name, content=f"{MARK}content")
        self.note = admin.orders.AddOrderNote(request)
        parcel = orders_pb2.Parcel(tracking_number=f"{MARK}parcel", tracking_url=f"https://example.com/{MARK}url")
        other = orders_pb2.Parcel(tracking_number=f"{MARK}parcel2")
        self.fulfillment = admin.ship(admin.fulfill(order, (1, 1)), parcels=[parcel, other])
        cancelled = admin.order((sku, 1), customer=self.customer.name)
        self.cancelled = admin.cancel(cancelled, reason=f"{MARK}cancel")

    def _offer(self, admin: Shop, sku: str) -> quotes_pb2.Quote:
        """Create a quote, and send it."""
        line = orders_pb2.PlaceOrderLine(sku=sku, quantity=1)
        quote = quotes_pb2.Quote(
            customer=self.customer.name,
            lines=[line],
            currency_code="EUR",
            shipping_address=plant_address("1"),
            billing_address=plant_address("5"),
            tax_address=plant_address("6"),
            tax_exemption=orders_pb2.OrderTaxExemption(reason=f"{MARK}quoted", certificate=f"{MARK}quoted too"),
            note=f"{MARK}offer",
        )
        draft = admin.quotes.CreateQuote(quotes_pb2.CreateQuoteRequest(quote=quote))
        sent: quotes_pb2.Quote = admin.quotes.SendQuote(quotes_pb2.SendQuoteRequest(name=draft.name))
        return sent
