"""Retention by age: which customers the rule erases, when, and what the report shows before."""

from __future__ import annotations

import time

import grpc

from storekeep.v1 import audit_pb2, customers_pb2, quotes_pb2
from tests.conftest import MakeServer
from tests.support.processes import ServerProcess
from tests.support.shops import Shop

DAY_US = 86_400 * 1_000_000
DAYS = 30
WAIT_S = 60


def make_older(server: ServerProcess, customer: str, *, days: int) -> None:
    """Make a customer and its orders older than they are."""
    customer_id = customer.partition("/")[2]
    with server.database.opened() as session:
        for table, key in (("customers", "id"), ("orders", "customer_id"), ("quotes", "customer_id")):
            session.run(
                f"UPDATE {table} SET create_time_us = create_time_us - ?, update_time_us = update_time_us - ? "
                f"WHERE {key} = ?",
                days * DAY_US,
                days * DAY_US,
                customer_id,
            )


def is_erased(shop: Shop, name: str) -> bool:
    return shop.customers.GetCustomer(customers_pb2.GetCustomerRequest(name=name)).HasField("erase_time")


def test_rule_erases_inactive_customers_only_and_the_report_names_them_before(make_server: MakeServer) -> None:
    server = make_server()
    with grpc.insecure_channel(server.address) as channel:
        shop = Shop(channel, api_key=server.admin_key)
        old, young, waiting, merged = (shop.customer().name for _ in range(4))
        shop.order(customer=waiting)  # stays open
        finished = shop.cancel(shop.order()).customer
        active = shop.cancel(shop.order()).customer
        offered = shop.customer().name
        quote = quotes_pb2.Quote(customer=offered, currency_code="EUR")
        quote.lines.add(sku=shop.variant(stock=1).sku, quantity=1)
        shop.quotes.CreateQuote(quotes_pb2.CreateQuoteRequest(quote=quote))  # it can be accepted for 30 days
        shop.customers.MergeCustomers(customers_pb2.MergeCustomersRequest(name=old, source=merged))
        for name in (old, waiting, merged, finished, offered):
            make_older(server, name, days=DAYS + 1)
        make_older(server, young, days=DAYS - 1)
        days = {"customer_retention_days": str(DAYS)}
        assert "inactive-customers: off" in server.run("retention").stdout
        report = server.run("retention", **days)
        assert report.returncode == 0, report.stderr
        assert sorted(report.stdout.split()[-2:]) == sorted([old, finished]), report.stdout
        assert not is_erased(shop, old)
    server.stop()
    server._settings |= days | {"maintenance_interval_s": "0.2"}
    server.restart()
    with grpc.insecure_channel(server.address) as channel:
        shop = Shop(channel, api_key=server.admin_key)
        give_up_s = time.monotonic() + WAIT_S
        while not (is_erased(shop, old) and is_erased(shop, finished)) and time.monotonic() < give_up_s:
            time.sleep(0.1)
        erased = [name for name in (old, merged, finished, young, waiting, active, offered) if is_erased(shop, name)]
        assert erased == [old, merged, finished]
        request = audit_pb2.ListAuditEntriesRequest(filter='actor = "system/retention"')
        entries = shop.audit.ListAuditEntries(request).audit_entries
        assert sorted({entry.resource for entry in entries}) == sorted([old, merged, finished])


def test_command_erases_with_yes(make_server: MakeServer) -> None:
    server = make_server()
    with grpc.insecure_channel(server.address) as channel:
        shop = Shop(channel, api_key=server.admin_key)
        names = [shop.customer().name for _ in range(3)]
        for name in names:
            make_older(server, name, days=DAYS + 1)
        run = server.run("retention", "--yes", customer_retention_days=str(DAYS))
        assert (run.returncode, run.stdout) == (0, "Erased 3 customers.\n"), run.stderr
        assert all(is_erased(shop, name) for name in names)
