"""Random bytes and messages to every RPC: every reply has a reason of the contract, and none is an internal error.

The bytes of a failing request are printed, so that they can become a test.
"""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from google.protobuf.descriptor import FieldDescriptor

from storekeep.server.transport.contract import read_contract
from storekeep.server.transport.rpc import Method
from tests.conftest import MakeServer
from tests.support.budgets import SECONDS, SEED
from tests.support.buyers import open_shop, verify
from tests.support.mutations import CHANGES, copy_message
from tests.support.refusals import parse_refusal
from tests.support.shops import Shop

METHODS = read_contract().methods
CALL_TIMEOUT_S = 30.0
LOGIN_EVERY = 500
"""Calls with one token, because some calls end its session."""
DEPTH_MAX = 3
MEMORY_MAX_KIB = 400 * 1024
NUMBERS = (0, 1, -1, 2, 7, 1000, 2**31 - 1, -(2**31), 2**63 - 1, -(2**63), 10**9, 999_999_999)
TEXTS = (
    "",
    "x",
    "-",
    "\x00",
    "\u202e\ufeff",
    "ß" * 5_000,
    "' OR 1=1 --",
    "../..",
    "products/-",
    "products/p",
    "products/p/variants/v",
    "categories/c",
    "customers/c",
    "orders/o",
    "locations/main",
    "locations/main/stockLevels/S",
    "serviceAccounts/s",
    "roles/admin",
    "EUR",
    "ZZZ",
    "SKU",
    "v1",
    "*",
    "display_name",
    'state = "PLACED"',
    "((((((((((((((((((((",
    'total > 1 AND NOT (a = "',
    "create_time desc, id",
    "%",
    "NaN",
    "c7b1c1de-4a5c-4c9a-9c1e-2f6a5cf0d001",
)
SIGNED_32 = {FieldDescriptor.CPPTYPE_INT32, FieldDescriptor.CPPTYPE_ENUM}
UNSIGNED = {FieldDescriptor.CPPTYPE_UINT32: 2**32, FieldDescriptor.CPPTYPE_UINT64: 2**64}


class Fuzzer:
    """Builds invalid and unusual requests.

    Args:
        chance: the only source of randomness.
    """

    def __init__(self, chance: random.Random) -> None:
        self.chance = chance

    def requests(self, shop: Shop) -> Iterator[tuple[str, bytes]]:
        """Yield paths and bytes. Half of the requests are valid ones with a change."""
        valid = [(f"/{change.method}", change.prepare(shop)) for change in CHANGES]
        for path in self.chance.choices(sorted(METHODS), k=LOGIN_EVERY // 2):
            yield path, self.payload(METHODS[path])
            valid_path, request = self.chance.choice(valid)
            yield valid_path, self.alter(request)

    def alter(self, request: Any) -> bytes:
        """Return the bytes of a request with one or two changed fields."""
        changed = copy_message(request)
        for _ in range(self.chance.randint(1, 2)):
            self.change(changed)
        return bytes(changed.SerializeToString())

    def change(self, message: Any) -> None:
        """Change one field of a message or of a nested message."""
        if not message.DESCRIPTOR.fields:
            return
        descriptor = self.chance.choice(message.DESCRIPTOR.fields)
        field = getattr(message, descriptor.name)
        if descriptor.is_repeated and len(field) and descriptor.message_type and not is_map(descriptor):
            self.change(self.chance.choice(field))
        elif descriptor.is_repeated:
            self.fill_repeated(message, descriptor, depth=1)
        elif descriptor.message_type:
            self.change(field)
        else:
            setattr(message, descriptor.name, self.value(descriptor))

    def payload(self, method: Method) -> bytes:
        """Return the bytes of one request: noise, a message with random fields, or a damaged message."""
        if self.chance.random() < 0.2:
            return self.chance.randbytes(self.chance.choice((0, 1, 10, 100, 2_000)))
        message = method.request_type()
        self.fill(message, depth=0)
        raw = message.SerializeToString()
        return self.damage(raw) if self.chance.random() < 0.3 else raw

    def damage(self, raw: bytes) -> bytes:
        """Return the bytes with some of them changed, removed or repeated."""
        bytes_ = bytearray(raw)
        for _ in range(self.chance.randint(1, 4)):
            if bytes_:
                bytes_[self.chance.randrange(len(bytes_))] = self.chance.randrange(256)
        cut = self.chance.randint(0, len(bytes_))
        return bytes(self.chance.choice((bytes_, bytes_[:cut], bytes_ + bytes_)))

    def fill(self, message: Any, *, depth: int) -> None:
        """Set random fields to random values."""
        for descriptor in message.DESCRIPTOR.fields:
            if self.chance.random() < 0.3 or depth > DEPTH_MAX:
                continue
            if descriptor.is_repeated:
                self.fill_repeated(message, descriptor, depth=depth)
            elif descriptor.message_type:
                self.fill(getattr(message, descriptor.name), depth=depth + 1)
            else:
                setattr(message, descriptor.name, self.value(descriptor))

    def fill_repeated(self, message: Any, descriptor: FieldDescriptor, *, depth: int) -> None:
        field = getattr(message, descriptor.name)
        count = self.chance.choice((0, 1, 2, 2, 2 if depth else 600))
        if is_map(descriptor):
            key, value = descriptor.message_type.fields
            for _ in range(min(count, 2)):
                field[self.value(key)] = self.value(value)
        elif descriptor.message_type:
            for _ in range(count):
                self.fill(field.add(), depth=depth + 1)
        else:
            field.extend(self.value(descriptor) for _ in range(count))

    def value(self, descriptor: FieldDescriptor) -> Any:
        """Return a value for a scalar field that is likely at or beyond a limit."""
        kind = descriptor.cpp_type
        if kind == FieldDescriptor.CPPTYPE_STRING:
            text = self.chance.choice(TEXTS)
            return text.encode() if descriptor.type == FieldDescriptor.TYPE_BYTES else text
        if kind == FieldDescriptor.CPPTYPE_BOOL:
            return self.chance.random() < 0.5
        if kind in (FieldDescriptor.CPPTYPE_DOUBLE, FieldDescriptor.CPPTYPE_FLOAT):
            return self.chance.choice((0.0, -1.5, float("nan"), float("inf")))
        number = self.chance.choice(NUMBERS)
        if kind in SIGNED_32:
            return max(-(2**31), min(number, 2**31 - 1))
        return number % UNSIGNED[kind] if kind in UNSIGNED else number


def is_map(descriptor: FieldDescriptor) -> bool:
    return bool(descriptor.message_type and descriptor.message_type.GetOptions().map_entry)


def send(shop: Shop, path: str, raw: bytes) -> str:
    """Send bytes and return the reason, or OK."""
    try:
        shop.send(path, raw, timeout=CALL_TIMEOUT_S)
    except grpc.RpcError as error:
        try:
            return parse_refusal(error).reason
        except AssertionError as wrong:
            pytest.fail(f"{path} with the bytes {raw.hex()}: {error.code()}: {error.details()}\n{wrong}")
    return "OK"


def memory_kib(process_id: int) -> int:
    with open(f"/proc/{process_id}/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmRSS"))


def test_random_requests_are_answered_with_a_reason(make_server: MakeServer):
    server = make_server(log_level="WARNING")
    fuzzer = Fuzzer(random.Random(SEED))
    outcomes: Counter[str] = Counter()
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline:
        with open_shop(server) as shop:
            for path, raw in fuzzer.requests(shop):
                outcomes[send(shop, path, raw)] += 1
    assert server.process.poll() is None
    assert memory_kib(server.process.pid) < MEMORY_MAX_KIB
    verify(server)
    assert outcomes["OK"]
    print(f"\n{outcomes.total()} requests: {dict(outcomes.most_common())}")  # noqa: T201 - the result
