"""Compare calls with personal data with the same server that stores it in clear."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from google.protobuf.message import Message

from benchmarks import calls, catalogue, stocking, subjects
from benchmarks.calling import build_figures, list_warnings, verify_orders
from benchmarks.loads import h2load, orders
from benchmarks.loads.load import Load
from benchmarks.results import Bar, Section
from benchmarks.rounds import Pace, Send, Turns, measure
from benchmarks.subjects import Storekeep
from storekeep.v1 import customers_pb2, orders_pb2

ENCRYPTED, CLEAR = "encrypted", "floor: in clear"
PAGES = (50, 1_000)
GET_IN_FLIGHT = (2, 4)
"""Few enough that a server on a busy machine rejects none; the bars compare CPU, not rates."""


@dataclass(frozen=True)
class Case:
    """One kind of call.

    Attributes:
        name: name in the results.
        ratio_min: the least speed, as a part of that of the floor.
        build_send: returns the load on a server.
    """

    name: str
    ratio_min: float
    build_send: Callable[[Storekeep, Path], Send]


def measure_personal(folder: Path, pace: Pace) -> Section:
    """Measure each case on both servers in turns. Both have the same customers, with name, address, email and phone."""
    figures, bars, warnings = [], [], []
    with ExitStack() as stack:
        shops = {
            name: stack.enter_context(subjects.run_storekeep(folder / str(number), name=name, program=program))
            for number, (name, program) in enumerate({ENCRYPTED: None, CLEAR: subjects.CLEAR_PROGRAM}.items())
        }
        for shop in shops.values():
            stocking.stock_catalogue(shop)
            stocking.create_persons(shop)
        for case in CASES:
            turns = measure({name: case.build_send(shop, folder) for name, shop in shops.items()}, pace)
            named = {name: Turns(f"{case.name}, {name}", each.loads) for name, each in turns.items()}
            figures += build_figures(named.values())
            warnings += list_warnings(named.values())
            ratio = named[CLEAR].compute_cpu_ratio(named[ENCRYPTED])
            bars.append(Bar(f"{case.name}: CPU in clear / encrypted", ratio, case.ratio_min))
    return Section("Personal data, encrypted and in clear", figures, bars, tuple(warnings))


def _build_orders(shop: Storekeep, _folder: Path) -> Send:
    client = (orders.GRPC, "--personal")
    return verify_orders(
        shop.database, lambda seconds: orders.send(client, shop.server, token=shop.get_token(), seconds=seconds)
    )


def _build_get(shop: Storekeep, folder: Path) -> Send:
    request = customers_pb2.GetCustomerRequest(name=f"customers/{catalogue.list_person_ids()[0]}")
    return _build_reads(shop, folder, "CustomerService/GetCustomer", request, in_flight=GET_IN_FLIGHT)


def _build_list(page_size: int) -> Callable[[Storekeep, Path], Send]:
    request = customers_pb2.ListCustomersRequest(page_size=page_size)
    return lambda shop, folder: _build_reads(shop, folder, "CustomerService/ListCustomers", request, in_flight=(1, 1))


def _build_order_list(shop: Storekeep, folder: Path) -> Send:
    request = orders_pb2.ListOrdersRequest(page_size=PAGES[-1], order_by="create_time")
    return _build_reads(shop, folder, "OrderService/ListOrders", request, in_flight=(1, 1))


def _build_reads(shop: Storekeep, folder: Path, rpc: str, message: Message, *, in_flight: tuple[int, int]) -> Send:
    method = f"/storekeep.v1.{rpc}"
    answer = calls.call_unary(shop, method, message)

    def send(seconds: float) -> Load:
        request = calls.build_grpc_request(
            method, message, answer=answer, token=shop.get_token(), folder=folder, in_flight=in_flight
        )
        return h2load.send(request, shop.server, seconds=seconds)

    return send


CASES = (
    Case("PlaceOrder", 0.9, _build_orders),
    Case("GetCustomer", 0.8, _build_get),
    *(Case(f"ListCustomers of {page}", 0.7, _build_list(page)) for page in PAGES),
    Case(f"ListOrders of {PAGES[-1]}", 0.7, _build_order_list),
)
