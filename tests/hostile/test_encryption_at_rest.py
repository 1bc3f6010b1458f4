"""No personal value stands in clear in the files of an installation: each has a planted mark, which is then searched.

The marks go through every way in which they can be written: changes, retries, batches, imports, failures, events,
webhooks and logs.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from storekeep.server.runtime.secrets import SECRET_FILE
from storekeep.server.servicers.calls import compute_fingerprint
from storekeep.v1 import (
    audit_pb2,
    customers_pb2,
    events_pb2,
    inventory_pb2,
    orders_pb2,
    products_pb2,
    quotes_pb2,
    users_pb2,
    webhooks_pb2,
    webhooks_pb2_grpc,
)
from storekeep.v1.addresses_pb2 import Address
from tests.support.databases import Database, Session
from tests.support.historic_orders import SHIPPED, historic
from tests.support.key_kills import open_keys
from tests.support.older_databases import store_in_clear, store_without_quotes
from tests.support.planted import MARK, Planted, plant_address
from tests.support.processes import ServerProcess
from tests.support.receivers import Receiver, answer_with, receive
from tests.support.refusals import refused
from tests.support.shops import Shop, new_id, new_request_id

TIMEOUT_S = 60.0


def find_marks(data: bytes) -> list[bytes]:
    """Return the places where a mark stands in clear, also with its case changed, as search words have it."""
    lowered = data.lower()
    start = lowered.find(MARK.encode())
    return [] if start < 0 else [data[max(0, start - 80) : start + 80]]


def read_files(folder: Path) -> Iterator[tuple[str, bytes]]:
    """Yield the name and the content of each file of an installation."""
    for path in folder.rglob("*"):
        if path.is_file():
            yield str(path), path.read_bytes()


def dump_tables(database: Database) -> Iterator[tuple[str, bytes]]:
    """Yield the name of each table and its values."""
    for table, rows in database.everything().items():
        values = (value.tobytes() if isinstance(value, memoryview) else value for row in rows for value in row)
        yield table, b"\n".join(value if isinstance(value, bytes) else str(value).encode() for value in values)


def work_with_marks(shop: Shop) -> Planted:
    """Write marked values in every way."""
    planted = Planted(shop)
    sku = shop.variant(stock=50).sku
    _correct_orders(shop, planted, sku)
    item = historic(
        shop,
        **SHIPPED | {"tracking_number": f"{MARK}historic"},
        note=f"{MARK}old",
        email=f"{MARK}old@example.com",
        phone=f"{MARK}old phone",
        shipping_address=plant_address("5"),
        billing_address=plant_address("6"),
    )
    for _ in range(2):  # the second import compares the order with the first one
        (result,) = shop.orders.ImportOrders(orders_pb2.ImportOrdersRequest(orders=[item])).results
        assert result.order
    new = customers_pb2.Customer(display_name=f"{MARK}batch", email=f"{MARK}batch@example.com")
    request = customers_pb2.BatchCreateCustomersRequest(
        requests=[customers_pb2.CreateCustomerRequest(customer=new, customer_id=new_id())],
        request_id=new_request_id(),
    )
    assert shop.customers.BatchCreateCustomers(request) == shop.customers.BatchCreateCustomers(request)
    single = customers_pb2.CreateCustomerRequest(customer=new, customer_id=new_id(), request_id=new_request_id())
    assert shop.customers.CreateCustomer(single) == shop.customers.CreateCustomer(single)
    with refused("CUSTOMER_NOT_FOUND"):
        shop.order((sku, 1), customer="customers/none", note=f"{MARK}failed", email=f"{MARK}failed@example.com")
    with refused("INVALID_FIELD"):
        shop.customer(email=f"{MARK}wrong")
    with refused("INVALID_FILTER"):
        shop.customers.ListCustomers(customers_pb2.ListCustomersRequest(filter=f'email = "{MARK}*"'))
    shop.customers.SearchCustomers(customers_pb2.SearchCustomersRequest(query=f"{MARK}name"))
    shop.orders.SearchOrders(orders_pb2.SearchOrdersRequest(query=f"{MARK}name"))
    return planted


def _correct_orders(shop: Shop, planted: Planted, sku: str) -> None:
    """Change orders with a reason each."""
    order = shop.confirm(shop.order((sku, 3), customer=planted.customer.name))
    request = orders_pb2.CancelOrderLinesRequest(
        name=order.name, lines=[orders_pb2.OrderLineUnits(line_number=1, quantity=1)], reason=f"{MARK}some"
    )
    shop.orders.CancelOrderLines(request)
    shipped = shop.ship(shop.fulfill(order), tracking_number=f"{MARK}returned")
    back = orders_pb2.RestockFulfillmentRequest(name=shipped.name, reason=f"{MARK}back")
    shop.orders.RestockFulfillment(back)
    changes = orders_pb2.OrderEdit(changed_lines=[orders_pb2.OrderLineQuantity(line_number=1, quantity=2)])
    edit = orders_pb2.ApplyOrderEditRequest(name=order.name, edit=changes, reason=f"{MARK}edit")
    shop.orders.ApplyOrderEdit(edit)
    request_id = new_request_id()
    first, again = (
        shop.reserve((sku, 1), reference=f"{MARK}retried", unique_reference=True, request_id=request_id)
        for _ in range(2)
    )
    assert first == again


@pytest.fixture
def receiver(tmp_path: Path) -> Iterator[Receiver]:
    folder = tmp_path.parent / f"{tmp_path.name}-receiver"
    folder.mkdir()
    with receive(folder) as running:
        yield running


def send_webhooks(shop: Shop, receiver: Receiver) -> None:
    """Have the receiver reply with marked text to an event with marked content."""
    path = f"/{new_id()}"
    receiver.answers[path] = [answer_with("200 OK", body=f"{MARK}reply".encode())]
    endpoint = webhooks_pb2.WebhookEndpoint(
        url=receiver.url(path), event_types=["customer.*"], payload=webhooks_pb2.WebhookPayload.WEBHOOK_PAYLOAD_FULL
    )
    stub = webhooks_pb2_grpc.WebhookServiceStub(shop.channel)
    request = webhooks_pb2.CreateWebhookEndpointRequest(webhook_endpoint=endpoint)
    name = stub.CreateWebhookEndpoint(request).webhook_endpoint.name
    shop.customer(display_name=f"{MARK}hooked")

    def list_deliveries() -> Any:
        return stub.ListWebhookDeliveries(webhooks_pb2.ListWebhookDeliveriesRequest(parent=name)).webhook_deliveries

    wait_for(lambda: any(one.last_reply == f"{MARK}reply" for one in list_deliveries()))
    assert any(f"{MARK}hooked".encode() in body for _, body in receiver.received[path])


def wait_for(condition: Callable[[], object]) -> None:
    """Wait until a condition is true."""
    end_s = time.monotonic() + TIMEOUT_S
    while not condition():
        assert time.monotonic() < end_s
        time.sleep(0.05)


def test_no_planted_value_is_in_clear_anywhere(
    make_server: Callable[..., ServerProcess], receiver: Receiver, engine: str
) -> None:
    server = make_server(
        log_level="DEBUG",
        webhook_allowed_networks="127.0.0.0/8",
        webhook_ports="any",
        webhook_ca_file=str(receiver.ca_file),
        webhook_interval_s="0.1",
    )
    with grpc.insecure_channel(server.address) as channel:
        shop = Shop(channel, api_key=server.admin_key)
        planted = work_with_marks(shop)
        send_webhooks(shop, receiver)
        assert (
            shop.customers.GetCustomer(customers_pb2.GetCustomerRequest(name=planted.customer.name)) == planted.customer
        )
        events = shop.events.ListEvents(events_pb2.ListEventsRequest(page_size=1000)).events
        assert any(MARK.encode() in event.content.value for event in events)
        entries = shop.audit.ListAuditEntries(audit_pb2.ListAuditEntriesRequest(page_size=1000)).audit_entries
        assert any(MARK in str(entry.after) for entry in entries)
    if engine == "sqlite":
        result = server.run("backup", str(server.data_dir / "copy.db"))
        assert result.returncode == 0, result.stderr
    running = [*read_files(server.data_dir), *dump_tables(server.database)]
    server.stop()
    for name, data in (*running, *read_files(server.data_dir)):
        assert find_marks(data) == [], name
    result = server.run("verify")
    assert result.returncode == 0, result.stdout


def test_search_documents_of_an_older_release_are_written_anew(make_server: Callable[..., ServerProcess]) -> None:
    server = make_server()
    with grpc.insecure_channel(server.address) as channel:
        shop = Shop(channel, api_key=server.admin_key)
        customer, product = shop.customer(display_name="Ada"), shop.product()
    server.stop()
    with server.database.opened() as session:
        for noun in ("customer", "product"):
            session.run(f"UPDATE {noun}_documents SET details = 'former'")
        session.run("DELETE FROM schema_migrations WHERE name LIKE '0051%'")
    migrated = server.run("migrate")
    assert (migrated.returncode, migrated.stderr) == (0, "")
    result = server.run("verify")
    assert result.returncode == 0, result.stdout
    server.start()
    with grpc.insecure_channel(server.address) as channel:
        shop = Shop(channel, api_key=server.admin_key)
        found = shop.customers.SearchCustomers(customers_pb2.SearchCustomersRequest(query="Ada"))
        assert customer.name in [one.name for one in found.customers]
        query = products_pb2.SearchProductsRequest(query=product.display_name)
        assert product.name in [one.name for one in shop.products.SearchProducts(query).products]


def test_stored_reply_proves_no_guess_of_a_request_and_is_found_after_an_upgrade(
    make_server: Callable[..., ServerProcess],
) -> None:
    server = make_server()
    request = customers_pb2.CreateCustomerRequest(
        customer=customers_pb2.Customer(display_name="Ada", phone="+43 1 5550100"),
        customer_id=new_id(),
        request_id=new_request_id(),
    )
    guess = compute_fingerprint(request, validate_only=False)  # of each number it could be computed and compared
    with grpc.insecure_channel(server.address) as channel:
        created = Shop(channel, api_key=server.admin_key).customers.CreateCustomer(request)
    server.stop()

    def read_fingerprint(session: Session) -> bytes:
        ((stored,),) = session.rows("SELECT fingerprint FROM replies WHERE request_id = ?", request.request_id)
        return bytes(stored)

    with server.database.opened() as session:
        protected = read_fingerprint(session)
        assert len(protected) == len(guess)
        assert protected != guess
        session.run("UPDATE replies SET fingerprint = ? WHERE request_id = ?", guess, request.request_id)  # as before
        session.run("DELETE FROM replies WHERE request_id <> ?", request.request_id)  # the others are protected
        session.run("DELETE FROM schema_migrations WHERE name LIKE '0050%'")
    migrated = server.run("migrate")
    assert (migrated.returncode, migrated.stderr) == (0, "")
    with server.database.opened() as session:
        assert read_fingerprint(session) == protected
    server.start()
    with grpc.insecure_channel(server.address) as channel:
        shop = Shop(channel, api_key=server.admin_key)
        assert shop.customers.CreateCustomer(request) == created
        request.customer.phone = "+43 1 5550101"
        with refused("REQUEST_ID_REUSED"):
            shop.customers.CreateCustomer(request)


def test_fields_are_found_by_their_whole_value_only(shop: Shop) -> None:
    customer = shop.customer(email="whole@example.com", phone=new_id(), display_name="Zuzana Nováková")

    def find(text: str) -> list[str]:
        found = shop.customers.ListCustomers(customers_pb2.ListCustomersRequest(filter=text)).customers
        return [one.name for one in found]

    assert customer.name in find('email = "whole@example.com"')
    assert find(f'phone = "{customer.phone}"') == [customer.name]
    assert customer.name not in find('email != "whole@example.com"')
    assert customer.name in find("email:*")
    for text in ('email : "whole"', 'email < "z"', 'phone = "t-*"'):
        with refused("INVALID_FILTER") as refusal:
            find(text)
        assert "encrypted" in refusal.text
    with refused("INVALID_ORDER_BY"):
        shop.customers.ListCustomers(customers_pb2.ListCustomersRequest(order_by="display_name"))


def test_words_are_found_as_a_whole(shop: Shop) -> None:
    family = f"novak{new_id('')}".replace("-", "")
    customer = shop.customer(display_name=f"Zuzana {family}", email=f"{family}@example.com")
    chinese = shop.customer(display_name="王小明")

    def search(query: str) -> list[str]:
        request = customers_pb2.SearchCustomersRequest(query=query)
        return [one.name for one in shop.customers.SearchCustomers(request).customers]

    assert search(f"zuzana {family.upper()}") == [customer.name]
    assert search(f"{family}@example.com") == [customer.name]
    assert search(family[:-1]) == []
    assert chinese.name in search("王小")
    assert chinese.name in search("小明")


def test_references_and_tracking_numbers_are_found(shop: Shop) -> None:
    reference, tracking = new_id(), new_id()
    reservation = shop.reserve((shop.variant(stock=1).sku, 1), reference=reference)
    request = inventory_pb2.ListReservationsRequest(filter=f'reference = "{reference}"')
    assert [one.name for one in shop.inventory.ListReservations(request).reservations] == [reservation.name]
    order = shop.confirm(shop.order((shop.variant(stock=2).sku, 2)))
    parcels = [orders_pb2.Parcel(tracking_number=number) for number in (new_id(), tracking)]
    shipped = shop.ship(shop.fulfill(order), parcels=parcels)
    listed = orders_pb2.ListFulfillmentsRequest(parent="orders/-", filter=f'tracking_number = "{tracking}"')
    assert [one.name for one in shop.orders.ListFulfillments(listed).fulfillments] == [shipped.name]


def test_copied_ciphertext_is_not_read_as_that_of_another(shop: Shop, server: ServerProcess) -> None:
    one, other = shop.customer(email="one@example.com"), shop.customer(email="other@example.com")
    ids = [customer.name.partition("/")[2] for customer in (one, other)]
    with server.database.opened() as session:
        ((before,),) = session.rows("SELECT encrypted FROM customers WHERE id = ?", ids[1])
        session.run(
            "UPDATE customers SET encrypted = (SELECT encrypted FROM customers WHERE id = ?) WHERE id = ?", *ids
        )
    for names in ([other.name], [one.name, other.name]):
        with pytest.raises(grpc.RpcError) as raised:
            shop.customers.BatchGetCustomers(customers_pb2.BatchGetCustomersRequest(names=names))
        assert raised.value.code() in (grpc.StatusCode.INTERNAL, grpc.StatusCode.DATA_LOSS)
    with server.database.opened() as session:
        session.run("UPDATE customers SET encrypted = ? WHERE id = ?", before, ids[1])


@pytest.mark.parametrize("store", [store_in_clear, store_without_quotes], ids=["all in clear", "quotes in clear"])
def test_migration_encrypts_what_an_older_release_stored(
    make_server: Callable[..., ServerProcess], store: Callable[[Database, Path], None]
) -> None:
    server = make_server(webhook_interval_s="3600")
    with grpc.insecure_channel(server.address) as channel:
        shop = Shop(channel, api_key=server.admin_key)
        planted = work_with_marks(shop)
    server.stop()
    store(server.database, server.data_dir)
    in_clear = {table for table, data in dump_tables(server.database) if find_marks(data)}
    assert in_clear >= {"customers", "orders", "quotes", "users", "audit_entries"}
    refused_start = server.run("serve")
    assert refused_start.returncode == 1
    assert "run: storekeep-server migrate" in refused_start.stderr
    migrated = server.run("migrate")
    assert (migrated.returncode, migrated.stderr) == (0, "")
    for name, data in (*read_files(server.data_dir), *dump_tables(server.database)):
        assert find_marks(data) == [], name
    result = server.run("verify")
    assert result.returncode == 0, result.stdout
    server.start()
    with grpc.insecure_channel(server.address) as channel:
        shop = Shop(channel, api_key=server.admin_key)
        request = customers_pb2.GetCustomerRequest(name=planted.customer.name)
        assert shop.customers.GetCustomer(request) == planted.customer
        history = shop.orders.ListOrderHistory(orders_pb2.ListOrderHistoryRequest(name=planted.order.name)).entries
        assert any(entry.reason == f"{MARK}reason" for entry in history)
        found = shop.customers.SearchCustomers(customers_pb2.SearchCustomersRequest(query=f"{MARK}name")).customers
        assert planted.customer.name in [one.name for one in found]
        assert shop.quotes.GetQuote(quotes_pb2.GetQuoteRequest(name=planted.quote.name)) == planted.quote
        assert shop.users.GetUser(users_pb2.GetUserRequest(name=planted.user.name)) == planted.user
        listed = users_pb2.ListUsersRequest(filter=f'email = "{planted.user.email}"')
        assert list(shop.users.ListUsers(listed).users) == [planted.user]


@pytest.mark.engine("sqlite", reason="the hashes of the audit log do not depend on the engine")
def test_migration_keeps_the_audit_log_valid_whose_secret_was_lost_before(
    make_server: Callable[..., ServerProcess],
) -> None:
    server = make_server()
    with grpc.insecure_channel(server.address) as channel:
        shop = Shop(channel, api_key=server.admin_key)
        shop.customer(display_name=f"{MARK}name")
    server.stop()
    store_in_clear(server.database, server.data_dir)
    with server.database.opened() as session:  # an older release had no steps when the secret was lost
        steps = session.rows("SELECT number, name FROM encryption_steps")
        session.run("DELETE FROM encryption_steps")
    os.remove(server.data_dir / SECRET_FILE)
    renewed = server.run("bootstrap-admin", "--force", "--new-secret")
    assert renewed.returncode == 0, renewed.stderr
    with server.database.opened() as session:
        for number, name in steps:
            session.run("INSERT INTO encryption_steps (number, name, position) VALUES (?, ?, '')", number, name)
    migrated = server.run("migrate")
    assert (migrated.returncode, migrated.stderr) == (0, "")
    result = server.run("verify")
    assert result.returncode == 0, result.stdout
    with server.database.unguarded() as session:
        session.run("UPDATE audit_entries SET actor = 'nobody' WHERE sequence = 5")
    result = server.run("verify")
    assert (result.returncode, "history_digest" in result.stdout) == (1, True), result.stdout


@pytest.mark.engine("sqlite", reason="what is encrypted does not depend on the engine")
def test_migration_drops_what_an_older_backup_has_in_clear_of_erased_customers(
    make_server: Callable[..., ServerProcess],
) -> None:
    server = make_server(webhook_interval_s="3600")
    with grpc.insecure_channel(server.address) as channel:
        planted = work_with_marks(Shop(channel, api_key=server.admin_key))
    server.stop()
    store_without_quotes(server.database, server.data_dir)
    with open_keys(server) as (store, keys):  # newer keys lack those of customers that were erased since
        store.write(lambda tx: keys.destroy(tx, [planted.customer.name]))
    migrated = server.run("migrate")
    assert (migrated.returncode, migrated.stderr) == (0, "")
    for name, data in (*read_files(server.data_dir), *dump_tables(server.database)):
        assert find_marks(data) == [], name
    server.start()
    with grpc.insecure_channel(server.address) as channel:
        shop = Shop(channel, api_key=server.admin_key)
        quote = shop.quotes.GetQuote(quotes_pb2.GetQuoteRequest(name=planted.quote.name))
        assert (MARK in str(quote), quote.total) == (False, planted.quote.total)
        request = customers_pb2.GetCustomerRequest(name=planted.customer.name)
        assert shop.customers.GetCustomer(request).HasField("erase_time")
    result = server.run("verify")
    assert result.returncode == 0, result.stdout


def test_erasure_covers_every_copy(shop: Shop, server: ServerProcess) -> None:
    planted = Planted(shop)
    single = customers_pb2.CreateCustomerRequest(
        customer=customers_pb2.Customer(display_name="Retried", email="retried@example.com"),
        customer_id=new_id(),
        request_id=new_request_id(),
    )
    retried = shop.customers.CreateCustomer(single)
    for name in (planted.customer.name, retried.name):
        shop.customers.EraseCustomer(customers_pb2.EraseCustomerRequest(name=name, force=True))
    offered = shop.quotes.GetQuote(quotes_pb2.GetQuoteRequest(name=planted.quote.name))
    assert (offered.total, offered.state) == (planted.quote.total, planted.quote.state)
    assert offered.shipping_address == Address(region_code="AT")
    order = shop.get_order(planted.order)
    assert (order.total, order.number) == (planted.order.total, planted.order.number)
    reservation = inventory_pb2.GetReservationRequest(name=planted.reservation.name)
    history = shop.orders.ListOrderHistory(orders_pb2.ListOrderHistoryRequest(name=order.name))
    notes = shop.orders.ListOrderNotes(orders_pb2.ListOrderNotesRequest(parent=order.name))
    texts = [str(reply) for reply in (order, offered, shop.inventory.GetReservation(reservation), history, notes)]
    assert not [text for text in texts if MARK in text]
    assert shop.customers.CreateCustomer(single).email == ""
    result = server.run("verify")
    assert result.returncode == 0, result.stdout
