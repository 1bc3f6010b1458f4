"""Quotes: prices are fixed when they are sent, and an order accepts them once, whatever has changed but stock."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Any

import grpc
import pytest
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.timestamp_pb2 import Timestamp

from storekeep.server.domain.calls import Call, Caller
from storekeep.server.domain.customers import CUSTOMERS, Customer
from storekeep.server.domain.errors import IllegalState
from storekeep.server.domain.integrity.verification import verify
from storekeep.server.domain.orders import quotes
from storekeep.server.domain.orders.acceptance import accept_quote
from storekeep.server.domain.orders.numbers import OrderNumbers
from storekeep.server.domain.orders.placing import PlacingRules
from storekeep.server.domain.orders.quotes import QUOTES, Quote
from storekeep.server.domain.pricing.terms import DEFAULT_RULES
from storekeep.server.domain.samples import load_sample
from storekeep.server.domain.stock.expiry import expire_batch, set_expirers
from storekeep.server.runtime.durations import DAY_US
from storekeep.server.store.engine import Store
from storekeep.server.wiring.expirers import EXPIRERS
from storekeep.v1 import customers_pb2, events_pb2, orders_pb2, pricing_pb2, products_pb2, quotes_pb2
from tests.domain.orders.test_order_promotions import make_coupon, promote
from tests.domain.orders.test_order_taxes import show
from tests.support.buyers import verify as verify_server
from tests.support.databases import Database
from tests.support.processes import ServerProcess
from tests.support.refusals import parse_refusal, refused
from tests.support.shops import Shop, money, new_id, new_request_id
from tests.support.stores import open_store

CALLERS = 50
CALL = Call(Caller("serviceAccounts/sales"), "storekeep.v1.QuoteService/CreateQuote")
RULES = PlacingRules(OrderNumbers("SK-{sequence:08d}"), 0)
SKU = "SHORTBREAD-12"


def draft(shop: Shop, *lines: tuple[str, int], **fields: Any) -> quotes_pb2.Quote:
    """Create a draft for a new customer, unless another one is given."""
    requested = [orders_pb2.PlaceOrderLine(sku=sku, quantity=quantity) for sku, quantity in lines]
    chosen = {"currency_code": "EUR", "customer": fields.get("customer") or shop.customer().name} | fields
    quote = quotes_pb2.Quote(lines=requested, **chosen)
    return shop.quotes.CreateQuote(quotes_pb2.CreateQuoteRequest(quote=quote))


def send(shop: Shop, quote: quotes_pb2.Quote, **fields: Any) -> quotes_pb2.Quote:
    return shop.quotes.SendQuote(quotes_pb2.SendQuoteRequest(name=quote.name, **fields))


def accept(shop: Shop, quote: quotes_pb2.Quote, **fields: Any) -> orders_pb2.Order:
    return shop.quotes.AcceptQuote(quotes_pb2.AcceptQuoteRequest(name=quote.name, **fields))


def get(shop: Shop, quote: quotes_pb2.Quote) -> quotes_pb2.Quote:
    return shop.quotes.GetQuote(quotes_pb2.GetQuoteRequest(name=quote.name))


def update(shop: Shop, quote: quotes_pb2.Quote, *paths: str, etag: str = "", **fields: Any) -> quotes_pb2.Quote:
    changed = quotes_pb2.Quote(name=quote.name, etag=etag, **fields)
    mask = FieldMask(paths=paths or tuple(fields))
    return shop.quotes.UpdateQuote(quotes_pb2.UpdateQuoteRequest(quote=changed, update_mask=mask))


def expire(shop: Shop, quote: quotes_pb2.Quote) -> quotes_pb2.Quote:
    return shop.quotes.ExpireQuote(quotes_pb2.ExpireQuoteRequest(name=quote.name))


def reprice(shop: Shop, variant: products_pb2.Variant, amount: str) -> None:
    """Set the price of a variant in EUR."""
    changed = products_pb2.Variant(name=variant.name, prices=[money(amount)])
    shop.products.UpdateVariant(
        products_pb2.UpdateVariantRequest(variant=changed, update_mask=FieldMask(paths=["prices"]))
    )


def state(quote: quotes_pb2.Quote) -> str:
    return quotes_pb2.QuoteState.Name(quote.state).removeprefix("QUOTE_STATE_")


def list_events(shop: Shop, name: str) -> list[str]:
    """Return the types of the events of a resource."""
    request = events_pb2.ListEventsRequest(filter=f'resource = "{name}"')
    return [event.type for event in shop.events.ListEvents(request).events]


# -- the life of a quote


def test_sent_quote_is_ordered_at_its_prices_whatever_has_changed(shop: Shop):
    variant = shop.variant(stock=9)
    promotion = promote(shop, [variant.sku])
    quote = send(shop, draft(shop, (variant.sku, 2), note="As discussed."))
    assert (state(quote), show(quote.total), show(quote.price_details.discount_total)) == ("SENT", "18.00", "2.00")
    reprice(shop, variant, "99")
    shop.pricing.EndPromotion(pricing_pb2.EndPromotionRequest(name=promotion))
    shop.products.ArchiveVariant(products_pb2.ArchiveVariantRequest(name=variant.name))
    assert get(shop, quote) == quote
    order = accept(shop, quote)
    assert (show(order.total), order.quote, order.note) == ("18.00", quote.name, "As discussed.")
    assert order.price_details == quote.price_details
    accepted = get(shop, quote)
    assert (state(accepted), accepted.order) == ("ACCEPTED", order.name)
    assert list_events(shop, quote.name) == ["quote.created", "quote.sent", "quote.accepted"]
    with refused("ILLEGAL_STATE"):
        accept(shop, quote)


def test_many_callers_accept_at_once_and_one_gets_the_order(shop: Shop):
    sku = shop.variant(stock=200).sku
    quote = send(shop, draft(shop, (sku, 1)))
    request = shop.order_request((sku, 1), customer=quote.customer, quote=quote.name)

    def attempt(index: int) -> str:
        try:
            return (shop.orders.PlaceOrder(request) if index % 2 else accept(shop, quote)).name
        except grpc.RpcError as error:
            return parse_refusal(error).reason

    with ThreadPoolExecutor(CALLERS) as pool:
        outcomes = list(pool.map(attempt, range(CALLERS)))
    assert outcomes.count("ILLEGAL_STATE") == CALLERS - 1
    assert get(shop, quote).order in outcomes
    assert shop.level(sku).allocated == 1


def test_retry_with_the_same_request_id_returns_the_order(shop: Shop):
    quote = send(shop, draft(shop, (shop.variant(stock=9).sku, 1)))
    request_id = new_request_id()
    assert accept(shop, quote, request_id=request_id) == accept(shop, quote, request_id=request_id)


def test_draft_is_priced_by_each_change_and_a_sent_quote_by_none(shop: Shop):
    variant = shop.variant(stock=9)
    quote = draft(shop, (variant.sku, 1))
    reprice(shop, variant, "12")
    assert show(get(shop, quote).total) == "10.00"
    assert show(update(shop, quote, note="urgent").total) == "12.00"
    reprice(shop, variant, "13")
    line = orders_pb2.PlaceOrderLine(sku=variant.sku, quantity=2)
    assert show(update(shop, quote, lines=[line]).total) == "26.00"
    with refused("PRICE_CHANGED"):
        send(shop, quote, expected_total=money("10"))
    sent = send(shop, quote, expected_total=money("26"))
    for change in (lambda: update(shop, quote, note="later"), lambda: send(shop, quote)):
        with refused("ILLEGAL_STATE"):
            change()
    assert get(shop, quote) == sent


def test_update_that_changes_nothing_writes_nothing(shop: Shop):
    quote = draft(shop, (shop.variant(stock=9).sku, 1), note="same")
    assert update(shop, quote, note="same") == quote
    with refused("ETAG_MISMATCH"):
        update(shop, quote, note="other", etag="v9")


def test_draft_cannot_be_accepted_and_a_withdrawn_quote_neither(shop: Shop):
    sku = shop.variant(stock=9).sku
    quote = draft(shop, (sku, 1))
    with refused("ILLEGAL_STATE"):
        accept(shop, quote)
    send(shop, quote)
    with refused("ILLEGAL_STATE") as late_change:
        update(shop, quote, note="too late")
    assert "is SENT; only drafts can be changed" in str(late_change.refusal)
    assert state(expire(shop, quote)) == "EXPIRED"
    for late in (accept, expire, send):
        with refused("ILLEGAL_STATE"):
            late(shop, quote)
    assert list_events(shop, quote.name) == ["quote.created", "quote.sent", "quote.expired"]


def test_missing_quote_is_not_found(shop: Shop):
    missing = quotes_pb2.Quote(name=f"quotes/{new_id()}")
    for call in (get, send, accept, expire, lambda shop, quote: update(shop, quote, note="x")):
        with refused("QUOTE_NOT_FOUND"):
            call(shop, missing)
    with refused("QUOTE_NOT_FOUND"):
        shop.order((shop.variant(stock=1).sku, 1), quote=missing.name)


def test_only_stock_prevents_an_order(shop: Shop):
    sku = shop.variant(stock=1).sku
    quote = send(shop, draft(shop, (sku, 1)))
    shop.order((sku, 1))
    with refused("OUT_OF_STOCK"):
        accept(shop, quote)
    assert state(get(shop, quote)) == "SENT"
    shop.adjust(sku, 1)
    accept(shop, quote)


def test_deleted_customer_accepts_nothing(shop: Shop):
    quote = send(shop, draft(shop, (shop.variant(stock=1).sku, 1)))
    shop.customers.DeleteCustomer(customers_pb2.DeleteCustomerRequest(name=quote.customer))
    with refused("RESOURCE_DELETED"):
        accept(shop, quote)


# -- orders that name a quote


def test_order_is_at_the_quotes_price_or_refused_as_asked(shop: Shop):
    sku = shop.variant(stock=9).sku
    promotion = promote(shop, [sku])
    quote = send(shop, draft(shop, (sku, 1)))
    shop.pricing.EndPromotion(pricing_pb2.EndPromotionRequest(name=promotion))
    request = shop.order_request((sku, 1), customer=quote.customer, expected_total=money("9"))
    with refused("PRICE_CHANGED"):
        shop.orders.PlaceOrder(request)
    request.quote = quote.name
    assert show(shop.orders.PlaceOrder(request).total) == "9.00"


def test_order_adds_what_no_price_depends_on_and_must_agree_in_the_rest(shop: Shop):
    sku = shop.variant(stock=9).sku
    address = {"region_code": "DE", "postal_code": "10115"}
    quote = send(shop, draft(shop, (sku, 2), shipping_address=address, shipping=money("4")))
    valid = shop.order_request(
        (sku, 2), customer=quote.customer, quote=quote.name, shipping_address=address, external_reference="PO 7"
    )
    wrong = {
        "customer": shop.customer().name,
        "lines": [orders_pb2.PlaceOrderLine(sku=sku, quantity=1)],
        "currency_code": "USD",
        "shipping_address": {"region_code": "AT"},
        "billing_address": {"region_code": "AT"},
        "tax_address": {"region_code": "AT"},
        "shipping": money("3"),
        "coupon_codes": ["SPRING"],
        "shipping_method": "shippingMethods/parcel",
        "tax_exemption": {"reason": "reseller"},
    }
    for field, value in wrong.items():
        request = orders_pb2.PlaceOrderRequest()
        request.CopyFrom(valid)
        request.ClearField(field)
        request.MergeFrom(orders_pb2.PlaceOrderRequest(**{field: value}))
        with refused("INVALID_FIELD") as expected:
            shop.orders.PlaceOrder(request)
        assert list(expected.refusal.violations) == [field]
    order = shop.orders.PlaceOrder(valid)
    assert (show(order.total), order.external_reference, order.shipping_address.region_code) == ("24.00", "PO 7", "DE")


# -- coupons and budgets


def test_use_of_a_coupon_counts_when_the_quote_is_accepted(shop: Shop):
    sku = shop.variant(stock=9).sku
    code = make_coupon(shop, promote(shop, [sku], requires_coupon=True), max_uses=1)
    first, second = (send(shop, draft(shop, (sku, 1), coupon_codes=[code])) for _ in range(2))
    coupon = pricing_pb2.GetCouponRequest(name=f"coupons/{code.lower()}")
    assert shop.pricing.GetCoupon(coupon).uses == 0
    order = accept(shop, first)
    assert shop.pricing.GetCoupon(coupon).uses == 1
    with refused("COUPON_NOT_APPLICABLE"):
        accept(shop, second)
    assert state(get(shop, second)) == "SENT"
    shop.cancel(order)
    assert show(accept(shop, second).total) == "9.00"


def test_budget_is_not_exceeded_by_quotes(shop: Shop):
    sku = shop.variant(stock=9).sku
    promotion = promote(shop, [sku], currency_code="EUR", budget=money("1.50"))
    first, second = (send(shop, draft(shop, (sku, 1))) for _ in range(2))
    accept(shop, first)
    with refused("COUPON_NOT_APPLICABLE"):
        accept(shop, second)
    spent = shop.pricing.GetPromotion(pricing_pb2.GetPromotionRequest(name=promotion)).spent
    assert show(spent) == "1.00"


def test_code_that_does_not_apply_makes_no_quote(shop: Shop):
    with refused("COUPON_NOT_APPLICABLE"):
        draft(shop, (shop.variant().sku, 1), coupon_codes=["NOWHERE"])


# -- what is refused


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"currency_code": "XXQ"}, "UNKNOWN_CURRENCY"),
        ({"currency_code": "USD"}, "CURRENCY_MISMATCH"),
        ({"shipping": money("1", "USD")}, "CURRENCY_MISMATCH"),
        ({"shipping_method": "shippingMethods/nowhere"}, "INVALID_FIELD"),
        ({"customer": "customers/nobody"}, "CUSTOMER_NOT_FOUND"),
        ({"expire_time": Timestamp(seconds=1_000_000_000)}, "INVALID_FIELD"),
        ({"expire_time": Timestamp(seconds=4_102_444_799)}, "INVALID_FIELD"),
    ],
)
def test_quote_of_wrong_values_is_refused(shop: Shop, fields: dict[str, Any], reason: str):
    with refused(reason):
        draft(shop, (shop.variant(stock=1).sku, 1), **fields)


def test_quote_of_unknown_or_unfit_lines_is_refused(shop: Shop):
    with refused("SKU_NOT_FOUND"):
        draft(shop, ("NO-SUCH-SKU", 1))
    archived = shop.variant()
    shop.products.ArchiveVariant(products_pb2.ArchiveVariantRequest(name=archived.name))
    with refused("NOT_FOR_SALE"):
        draft(shop, (archived.sku, 1))
    by_six = shop.variant(quantity_rules=products_pb2.QuantityRules(multiple=6))
    with refused("QUANTITY_NOT_ALLOWED"):
        draft(shop, (by_six.sku, 5))


def test_taken_id_is_refused(shop: Shop):
    quote = draft(shop, (shop.variant().sku, 1))
    with refused("ALREADY_EXISTS"):
        shop.quotes.CreateQuote(quotes_pb2.CreateQuoteRequest(quote=quote, quote_id=quote.name.removeprefix("quotes/")))


def test_list_finds_quotes_by_customer_state_and_order(shop: Shop):
    sku, customer = shop.variant(stock=9).sku, shop.customer().name
    made = [draft(shop, (sku, 1), customer=customer) for _ in range(3)]
    send(shop, made[0])
    order = accept(shop, made[0])
    send(shop, made[1])

    def find(text: str) -> list[str]:
        request = quotes_pb2.ListQuotesRequest(filter=f'customer = "{customer}" AND {text}')
        return [quote.name for quote in shop.quotes.ListQuotes(request).quotes]

    assert find("state = ACCEPTED") == find(f'order = "{order.name}"') == [made[0].name]
    assert find("state = SENT") == [made[1].name]
    assert find("state != EXPIRED") == [quote.name for quote in reversed(made)]
    with refused("INVALID_FILTER"):
        find("price = 3")


def test_order_of_a_quote_is_edited_by_its_terms(shop: Shop, server: ServerProcess):
    variant = shop.variant(stock=9)
    promote(shop, [variant.sku])
    order = accept(shop, send(shop, draft(shop, (variant.sku, 4))))
    reprice(shop, variant, "50")
    changed = orders_pb2.OrderEdit(changed_lines=[orders_pb2.OrderLineQuantity(line_number=1, quantity=2)])
    edited = shop.orders.ApplyOrderEdit(orders_pb2.ApplyOrderEditRequest(name=order.name, edit=changed))
    assert (show(edited.total), edited.quote) == ("18.00", order.quote)
    verify_server(server)


# -- expiry, by a clock of the test's own


class Clock:
    """A clock that only the test advances."""

    def __init__(self) -> None:
        self.now_us = 1_700_000_000_000_000

    def __call__(self) -> int:
        """Return the current time in microseconds."""
        return self.now_us


@pytest.fixture
def clock() -> Clock:
    """Make a clock."""
    return Clock()


@pytest.fixture
def store(database: Database, clock: Clock) -> Iterator[Store]:
    """Open a store with the sample, a customer and the test's own clock. Verify it at the end."""
    with closing(open_store(database.url, clock=clock)) as opened:
        set_expirers(opened, EXPIRERS)
        load_sample(opened)
        CUSTOMERS.create(opened, CALL, Customer("ann", "Ann"))
        yield opened
        assert [finding for finding in verify(opened) if not finding.holds] == []


def offer(store: Store, quote_id: str, *, sent: bool = True) -> Quote:
    new = Quote(quote_id, customer_id="ann", currency_code="EUR", lines=((SKU, 1),))
    made = quotes.create_quote(store, CALL, new, rules=DEFAULT_RULES)
    if sent:
        return quotes.send_quote(store, CALL, quote_id, expected_total=None, etag="", rules=DEFAULT_RULES)
    return made


def test_quote_expires_to_the_microsecond_before_it_is_written(store: Store, clock: Clock):
    made = offer(store, "q")
    assert made.expire_time_us == clock.now_us + 30 * DAY_US
    clock.now_us = made.expire_time_us - 1
    assert QUOTES.get(store, ("q",)).state == "SENT"
    clock.now_us += 1
    assert QUOTES.get(store, ("q",)).state == "EXPIRED"
    with pytest.raises(IllegalState) as caught:
        accept_quote(store, CALL, "q", etag="", rules=RULES)
    assert caught.value.metadata["state"] == "EXPIRED"


def test_expirer_writes_drafts_and_sent_quotes_and_no_others(store: Store, clock: Clock):
    for quote_id in ("draft", "sent", "accepted", "withdrawn"):
        offer(store, quote_id, sent=quote_id != "draft")
    accept_quote(store, CALL, "accepted", etag="", rules=RULES)
    quotes.expire_quote(store, CALL, "withdrawn", etag="")
    versions = {one: QUOTES.get(store, (one,)).version for one in ("accepted", "withdrawn")}
    clock.now_us += 30 * DAY_US
    assert (expire_batch(store), expire_batch(store)) == (2, 0)
    assert {one: QUOTES.get(store, (one,)).version for one in versions} == versions
    written = store.read(lambda tx: QUOTES.rows.find_many(tx, [("draft",), ("sent",)]))
    assert {row[QUOTES.rows.columns.index("state")] for row in written} == {"EXPIRED"}
