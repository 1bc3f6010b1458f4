"""Events on the wire parse to the messages that the builders of their resources make."""

from __future__ import annotations

import logging
import re
from typing import Any

import msgspec
import pytest
from google.protobuf.internal import decoder
from hypothesis import given
from hypothesis import strategies as st

from storekeep.server.domain.events.cursors import START, write_cursor
from storekeep.server.domain.events.reading import PERSONAL_NOUNS, Event
from storekeep.server.domain.events.types import VERBS
from storekeep.server.domain.events.watching import Entries, EventFilter
from storekeep.server.domain.orders.orders import Order, OrderLine
from storekeep.server.domain.standard.pages import PageTokens
from storekeep.server.servicers.event_bytes import EventEncoder
from storekeep.server.servicers.events import CONTENTS
from storekeep.server.transport.event_blocks import BLOCK_ENTRIES, EVENT_BYTES, EventBlocks, LedgerChanged, ReadEntries
from storekeep.server.transport.personal_data import MASK, RESOURCES
from storekeep.server.transport.wire import write_varint
from storekeep.v1 import events_pb2, orders_pb2, pricing_pb2
from tests.support.mutations import CHANGES
from tests.support.processes import ServerProcess
from tests.support.shops import Shop, money, new_id

SELECT = """
SELECT sequence, create_time_us, type, actor, resource, request_id, entry_hash, after FROM audit_entries
WHERE after IS NOT NULL ORDER BY sequence
"""
TEXTS = st.text(max_size=300)


class _Keyring:
    """A fixed secret."""

    def get_write_secret(self) -> bytes:
        return b"of these tests"

    def list_secrets(self) -> list[bytes]:
        return [self.get_write_secret()]


keyring: Any = _Keyring()
TOKENS = PageTokens(keyring)
ENCODER = EventEncoder(CONTENTS, tokens=TOKENS)
ORDER = Order(
    id="o",
    customer_id="c",
    state="PLACED",
    currency_code="EUR",
    total_minor=900,
    location_id="main",
    shipping_address=None,
    external_reference="",
    note="",
    cancel_reason="",
    version=1,
    create_time_us=1,
    update_time_us=1,
    email="jo@example.com",
    lines=(OrderLine(1, "SKU", "Mug", 3, 300, 900),),
)


def build_event(event: Event, *, omit_content: bool = False) -> events_pb2.Event:
    """Return the message of an event, built field by field."""
    message = events_pb2.Event(
        name=event.name,
        type=event.type,
        resource=event.resource,
        actor=event.actor,
        request_id=event.request_id,
        cursor=write_cursor(event.position, tokens=TOKENS),
    )
    message.create_time.FromMicroseconds(event.create_time_us)
    if not omit_content:
        kind, build = CONTENTS[event.noun]
        resource: Any = msgspec.json.decode(event.content, type=kind)
        message.content.Pack(build(resource))
        version = getattr(resource, "version", None)
        message.resource_sequence = version or 1
        message.etag = "" if version is None else f"v{version}"
    return message


def unpack(event: events_pb2.Event) -> tuple[Any, ...]:
    """Return an event for a comparison. Fields of a message on the wire have no fixed order."""
    content = event.content
    if not content.Is(orders_pb2.Order.DESCRIPTOR):
        return (event,)
    order = orders_pb2.Order()
    assert content.Unpack(order)
    rest = events_pb2.Event()
    rest.CopyFrom(event)
    rest.ClearField("content")
    return rest, content.type_url, order


def check_event(event: Event) -> None:
    for omit_content in (False, True):
        parsed = events_pb2.Event.FromString(ENCODER.encode([event], omit_content)[0])
        assert unpack(parsed) == unpack(build_event(event, omit_content=omit_content))


def make_event(sequence: int = 1, *, noun: str = "order", content: bytes = b"", **fields: Any) -> Event:
    made: dict[str, Any] = {
        "create_time_us": 1,
        "actor": "a",
        "resource": "orders/o",
        "request_id": "",
        "entry_hash": b"%d" % sequence,
    }
    made |= fields
    return Event(sequence=sequence, type=f"{noun}.placed", content=content, **made)


def discount(shop: Shop) -> str:
    """Make a promotion and return a SKU that it is for."""
    sku = shop.variant(stock=9, prices={"EUR": "10"}).sku
    action = {"kind": "PROMOTION_ACTION_KIND_AMOUNT", "amount": money("2"), "target": "PROMOTION_TARGET_ORDER"}
    chosen = pricing_pb2.PromotionAction(items={"skus": [sku]}, **action)
    promotion = pricing_pb2.Promotion(action=chosen, currency_code="EUR")
    made = shop.pricing.CreatePromotion(
        pricing_pb2.CreatePromotionRequest(promotion_id=new_id("p"), promotion=promotion)
    )
    shop.pricing.ActivatePromotion(pricing_pb2.ActivatePromotionRequest(name=made.name))
    return sku


def test_each_event_is_the_message_of_its_resource(shop: Shop, server: ServerProcess):
    for change in CHANGES:
        change.send(shop, change.prepare(shop))
    sku = discount(shop)
    orders = [shop.order((sku, 3)) for _ in range(2)]  # the second one has cached lines
    assert orders[0].price_details.discounts
    with server.database.opened() as session:
        entries = [Event(*row[:6], bytes(row[6]), bytes(row[7])) for row in session.rows(SELECT)]
    events = [event for event in entries if event.noun in CONTENTS]
    assert {change.event for change in CHANGES} <= {event.type for event in events}
    for event in events:
        check_event(event)


@given(
    sequence=st.integers(1, 2**63 - 1),
    create_time_us=st.integers(0, 2**55),
    actor=TEXTS,
    resource=TEXTS,
    request_id=TEXTS,
    note=TEXTS,
    minor=st.integers(-(10**15), 10**15),
    version=st.integers(1, 2**40),
)
def test_any_values_survive(note: str, minor: int, version: int, **fields: Any):
    line = OrderLine(1, "SKU", note, 3, minor, minor)
    order = msgspec.structs.replace(ORDER, note=note, version=version, lines=(line, line))
    check_event(make_event(content=msgspec.json.encode(order), **fields))


HOSTILE_TEXTS = st.lists(st.sampled_from(['"', "\\", ',"lines":[{', "},{", "}]}", "a"]), max_size=6).map("".join)


@given(note=HOSTILE_TEXTS, names=st.lists(HOSTILE_TEXTS, max_size=3), tax_minor=st.sampled_from([0, 7]), data=st.data())
def test_order_with_the_bytes_of_its_lines_in_a_text_survives(
    note: str, names: list[str], tax_minor: int, data: st.DataObject
):
    lines = tuple([OrderLine(number, "SKU", name, 3, 300, 900) for number, name in enumerate(names, start=1)])
    reason = data.draw(HOSTILE_TEXTS)  # stands behind the lines
    order = msgspec.structs.replace(ORDER, note=note, lines=lines, tax_minor=tax_minor, change_reason=reason)
    check_event(make_event(content=msgspec.json.encode(order)))


@given(st.integers(0, 2**64 - 1))
def test_varint_is_that_of_protobuf(number: int):
    assert decoder._DecodeVarint(write_varint(number), 0)[0] == number


def test_content_of_another_release_is_left_out():
    order = msgspec.json.encode(ORDER)
    for content in (b"", b"{}", b'{"lines": 7}', b"\xff", order.replace(b'"sku":"SKU"', b'"sku":7')):
        event = events_pb2.Event.FromString(ENCODER.encode([make_event(content=content)])[0])
        assert (event.HasField("content"), event.etag, event.name) == (False, "", "events/1")


def test_content_of_another_release_is_counted_and_logged_once(caplog):
    caplog.set_level(logging.WARNING, logger="storekeep.events")
    encoder = EventEncoder(CONTENTS, tokens=TOKENS)
    for sequence in (1, 2):
        encoder.encode([make_event(sequence, content=b'{"lines": 7}')])
    encoder.encode([make_event(3, content=b'{"lines": 7}')], omit_content=True)
    assert encoder.omitted == {"order": 2}
    (record,) = caplog.records
    assert (record.levelname, record.__dict__["event"], record.exc_info) == ("WARNING", "events/1", None)


def test_fault_in_a_builder_costs_the_content_and_is_logged_with_its_traceback(caplog):
    """Every watcher reads the event, so an error would end all of them."""
    caplog.set_level(logging.WARNING, logger="storekeep.events")

    def build(line: OrderLine) -> orders_pb2.OrderLine:
        raise KeyError(line.sku)

    kinds = CONTENTS | {"order_note": (OrderLine, build), "quote": (OrderLine, build)}
    encoder = EventEncoder(kinds, tokens=TOKENS)
    line = msgspec.json.encode(ORDER.lines[0])
    contents = {"order": msgspec.json.encode(ORDER)}
    for noun in ("order_note", "quote", "order_note", "order", "no_such_noun"):
        (encoded,) = encoder.encode([make_event(noun=noun, content=contents.get(noun, line))])
        event = events_pb2.Event.FromString(encoded)
        assert (event.HasField("content"), event.name) == (noun == "order", "events/1")
    assert encoder.omitted == {"order_note": 2, "quote": 1, "no_such_noun": 1}
    assert [record.levelname for record in caplog.records] == ["ERROR"] * 3
    assert all(record.exc_info for record in caplog.records)


def test_nouns_with_personal_data_are_those_of_the_contract():
    names = {re.sub(r"(?<!^)(?=[A-Z])", "_", kind.DESCRIPTOR.name).lower() for kind in RESOURCES}
    assert names & VERBS.keys() == PERSONAL_NOUNS


def make_read(ledger: list[Event]) -> ReadEntries:
    """Return the reads of a ledger whose entries are all events."""

    def read(after: int, until: int) -> Entries:
        hashes = {event.sequence: event.entry_hash for event in ledger[max(after - 1, 0) : until]}
        return Entries(ledger[after:until], hashes)

    return read


def read_all(blocks: EventBlocks, selected: EventFilter, head: int) -> list[events_pb2.Event]:
    events: list[events_pb2.Event] = []
    position = START
    while position.sequence < head:
        batch = blocks.get_batch(selected, after=position, head=head)
        got = events_pb2.WatchEventsResponse.FromString(batch.body).events
        assert len(got) == batch.events
        assert batch.personal == (batch.events if selected.shows_personal_data else 0)
        events += got
        position = batch.until
    return events


NAMES = st.sampled_from(["orders/a", "orders/b", "orders/a/notes/n", "orders/ab", "customers/a"])
TYPES = st.sampled_from(["order.placed", "order.cancelled", "order_note.added", "customer.created", "stock.low"])
NOUNS = frozenset({"order", "order_note", "customer"})


def is_selected(event: Event, selected: EventFilter) -> bool:
    """Return whether a filter selects an event, as the contract says."""
    noun = event.type.partition(".")[0]
    has_type = not selected.types or bool({event.type, f"{noun}.*", "*"} & selected.types)
    has_resource = not selected.resources or any(
        event.resource == name or event.resource.startswith(f"{name}/") for name in selected.resources
    )
    return noun in selected.nouns and has_type and has_resource


@given(
    pairs=st.lists(st.tuples(TYPES, NAMES), max_size=60),
    types=st.sets(st.sampled_from(["order.placed", "order.*", "*", "customer.*", "stock.low"])),
    resources=st.sets(NAMES),
    data=st.data(),
)
def test_filter_selects_what_the_contract_says(
    pairs: list[tuple[str, str]], types: set[str], resources: set[str], data: st.DataObject
):
    """Also in a block that grows between two reads."""
    ledger = [Event(number, 1, kind, "", name, "", b"", b"") for number, (kind, name) in enumerate(pairs, start=1)]
    selected = EventFilter(NOUNS, frozenset(types), frozenset(resources), omit_content=True)
    blocks = EventBlocks(make_read(ledger), ENCODER.encode, size_max_bytes=2**20)
    names: list[str] = []
    position = START
    for head in (data.draw(st.integers(0, len(ledger))), len(ledger)):
        batch = blocks.get_batch(selected, after=position, head=head)
        names += [event.name for event in events_pb2.WatchEventsResponse.FromString(batch.body).events]
        position = batch.until
    assert names == [event.name for event in ledger if is_selected(event, selected)]


def test_blocks_continue_no_other_history():
    """Neither a block that grows, nor a position in a block that is read anew."""
    ledger = [make_event(number) for number in range(1, BLOCK_ENTRIES + 11)]
    selected = EventFilter(frozenset({"order"}), omit_content=True)
    blocks = EventBlocks(make_read(ledger), ENCODER.encode, size_max_bytes=2**20)
    first = blocks.get_batch(selected, after=START, head=10).until
    last = blocks.get_batch(selected, after=blocks.get_batch(selected, after=first, head=20).until, head=20).until
    assert (first, last) == (ledger[9].position, ledger[19].position)
    ledger[15:] = [make_event(event.sequence, entry_hash=b"other%d" % event.sequence) for event in ledger[15:]]
    with pytest.raises(LedgerChanged):
        blocks.get_batch(selected, after=last, head=30)
    blocks.clear()
    with pytest.raises(LedgerChanged):
        blocks.get_batch(selected, after=last, head=30)
    assert blocks.get_batch(selected, after=first, head=30).events == 20
    with pytest.raises(LedgerChanged):
        blocks.get_batch(selected, after=ledger[BLOCK_ENTRIES].position, head=len(ledger) + 1)


def test_cache_counts_each_form_and_stays_in_its_budget():
    content = msgspec.json.encode(ORDER)
    ledger = [make_event(number, content=content) for number in range(1, 2_001)]
    size_max_bytes = 600 * (EVENT_BYTES + len(content))
    blocks = EventBlocks(make_read(ledger), ENCODER.encode, size_max_bytes=size_max_bytes)
    nouns = frozenset({"order"})
    for omits, masks in ((False, False), (False, True), (True, False), (True, True)):
        selected = EventFilter(nouns, omit_content=omits, masks_personal_data=masks)
        events = read_all(blocks, selected, len(ledger))
        assert [event.name for event in events] == [event.name for event in ledger]
        if not omits:
            order = orders_pb2.Order()
            events[-1].content.Unpack(order)
            assert order.email == (MASK if masks else "jo@example.com")
    newest = [block for block in blocks._blocks.values() if block.events]
    sizes = [
        sum(len(event.content) + EVENT_BYTES for event in block.events)
        + sum(len(element) for elements in block._forms.values() for element in elements)
        for block in newest
    ]
    assert sum(sizes) <= blocks._size_bytes <= size_max_bytes
