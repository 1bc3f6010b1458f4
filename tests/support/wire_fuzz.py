"""Fuzzing of everything that parses input of callers: request bytes, texts in them, tokens and metadata.

Inputs go to the start of the interceptor chain of a real server in this process, without gRPC, so that a million take
minutes. An input with a new outcome is kept and mutated further.
"""

from __future__ import annotations

import base64
import random
import re
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import CodeType, FrameType
from typing import Any, NamedTuple, NoReturn

import grpc
from google.rpc import error_details_pb2, status_pb2

from storekeep.server.app import App
from storekeep.server.config import Settings
from storekeep.server.domain.standard import filters, pages
from storekeep.server.interceptors import request_log, validation, violations, wire_bounds
from storekeep.server.telemetry.logs import Logs
from storekeep.server.transport import jwts
from storekeep.server.transport.contract import read_contract
from storekeep.server.transport.rpc import DETAILS_KEY
from storekeep.server.transport.unary import Aborted, Route
from storekeep.v1 import auth_pb2, products_pb2
from tests.support.databases import new_database
from tests.support.messages import NAMES
from tests.support.streams import STREAMS
from tests.support.wire_shapes import LENGTH, iterate_field_paths, tag, varint

PARSERS = (filters, pages, request_log, jwts, validation, violations, wire_bounds)
BESIDE_PARSERS = frozenset({"count_fitting_items", "check_batch", "_start_span", "_end_span"})
"""Functions in those modules that bound replies or trace calls, and parse nothing."""
METHODS = {path: method for path, method in read_contract().methods.items() if path not in STREAMS}
CREATE = "/storekeep.v1.ProductService/CreateCategory"
ISSUE = "/storekeep.v1.AuthService/IssueToken"
CPU_MAX_S = 0.05
TRIES = 4
"""How often an input that took too long is sent again; the minimum counts, because the machine may be busy."""
CORPUS_MAX = 5_000
LONG_MAX = 16_384
DEFECTS = (grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN)
NUMBER = re.compile(r"\d+")
QUOTED = re.compile(r"'[^']*'|\"[^\"]*\"|`[^`]*`")
TEXTS = (
    *NAMES,
    *(
        "(",
        ")",
        "NOT ",
        "AND",
        " OR ",
        '"',
        "'",
        "\\",
        "=",
        "!=",
        ">=",
        "<",
        ":",
        "-",
        "*",
        ",",
        "desc",
        "\0",
        "\ud7ff",
    ),
    *('state = "ACTIVE"', "create_time > 2026-01-01T00:00:00Z", "total >= 12.50", "deleted = true", "quantity < -1"),
    *("update_time desc, name", "sku", "1e999", "9" * 40, "0001-01-01T00:00:00Z", "9999-12-31T23:59:60Z"),
    *("display_name", "labels.a", "lines", "é", "𐍈"),
)
NOTS = ("", "", "", "NOT ", "-", "(", "NOT (")
COLUMNS = ("state", "name", "create_time", "update_time", "sku", "quantity", "customer", "total", "deleted", "number")
OPERATORS = (" = ", " != ", " < ", " > ", " <= ", " >= ", ":", "=")
OPERANDS = (
    '"a"',
    '"ACTIVE"',
    "1",
    "-1",
    "1.5",
    "true",
    "9" * 30,
    '"2026-01-01T00:00:00Z"',
    '"\\""',
    "a)",
    "(",
    "NaN",
    '"é"',
)
PARENTS = ("", "products/-", "products/p", "serviceAccounts/admin", "orders/-", "orders/o", "locations/main")
KEYS = ("authorization", "x-request-id", "traceparent", "storekeep-position", "x-storekeep-peer", "x-odd", "odd-bin")


class Input(NamedTuple):
    """A call."""

    path: str
    raw: bytes
    metadata: tuple[tuple[str, str | bytes], ...]


class Outcome(NamedTuple):
    """The outcome of a call: status, error reason and text."""

    code: grpc.StatusCode
    reason: str
    text: str


class Call:
    """The call as the chain sees it, like `UnaryCall`."""

    def __init__(self, metadata: tuple[tuple[str, str | bytes], ...]) -> None:
        self._metadata = metadata
        self._trailing: Any = ()
        self.outcome = Outcome(grpc.StatusCode.OK, "", "")
        self.page_token = ""

    def invocation_metadata(self) -> tuple[tuple[str, str | bytes], ...]:
        """Return the given metadata."""
        return self._metadata

    def peer(self) -> str:
        """Return a local peer."""
        return "ipv4:127.0.0.1:40404"

    def time_remaining(self) -> float:
        """Return a long deadline."""
        return 60.0

    def set_trailing_metadata(self, trailing_metadata: Any) -> None:
        """Store the trailing metadata."""
        self._trailing = trailing_metadata

    def abort(self, code: grpc.StatusCode, details: str) -> NoReturn:
        """End the call."""
        status = status_pb2.Status.FromString(dict(self._trailing)[DETAILS_KEY])
        info = error_details_pb2.ErrorInfo()
        status.details[0].Unpack(info)
        self.outcome = Outcome(code, info.reason, details)
        raise Aborted


class Target:
    """A server in this process.

    Attributes:
        token: Access token of the administrator.
        page_token: Token of the page after the last reply, if there is one.
    """

    def __init__(self, folder: Path) -> None:
        database = new_database("sqlite", folder)
        # A run may take hours on a busy host.
        limits = {
            "rate_limits_per_address": "",
            "failed_credentials_burst": 1_000_000,
            "access_token_lifetime_s": 86_400,
        }
        settings = Settings(
            data_dir=folder, database_url=database.url, failed_credentials_per_s=1_000_000, log_level="ERROR", **limits
        )
        self._logs = Logs(level="ERROR", file=folder / "log", queue_max=1_000)
        self._app = App(settings, logs=self._logs)
        api_keys: list[str] = []
        self._app.install(keep=api_keys.append)
        # gRPC's own table of handlers, from which `Polling` builds its routes.
        handlers = self._app._server._state.registered_method_handlers
        self.routes: dict[str, Route] = self._app._chain.build_routes(handlers)
        reply: Any = self.routes[ISSUE].serve(
            auth_pb2.IssueTokenRequest(api_key=api_keys[0]).SerializeToString(), Call(())
        )
        self.token: str = reply.access_token
        self.page_token = ""
        self._fill()

    def _fill(self) -> None:
        """Create enough resources for lists with more than one page."""
        for number in range(3):
            category = products_pb2.Category(display_name=f"Category {number}")
            request = products_pb2.CreateCategoryRequest(category=category)
            call = Call((("authorization", f"Bearer {self.token}"),))
            self.routes[CREATE].serve(request.SerializeToString(), call)

    def send(self, one: Input) -> Outcome:
        """Send an input, without changing the database; raise any exception that is not a status."""
        call, route = Call(one.metadata), self.routes[one.path]
        try:
            if route.check is not None:
                route.check(one.raw, call)
            else:
                reply: Any = route.serve(one.raw, call)
                route.serialize(reply)
                call.page_token = getattr(reply, "next_page_token", "")
        except Aborted:
            pass
        self.page_token = call.page_token
        return call.outcome

    def close(self) -> None:
        """Close the server."""
        self._app.close()
        self._logs.close()


class Fuzzer:
    """Generates inputs by mutating kept inputs.

    Args:
        target: Server that gets the inputs.
        seed: Seed of all randomness.
        cpu_max_s: Maximum CPU time of an input.
    """

    def __init__(self, target: Target, *, seed: int, cpu_max_s: float = CPU_MAX_S) -> None:
        self._cpu_max_s = cpu_max_s
        self.chance = random.Random(seed)
        self.target = target
        self._right = (("authorization", f"Bearer {target.token}"),)
        self._paths = sorted(METHODS)
        self._lists = [
            path for path in self._paths if "page_token" in METHODS[path].request_type.DESCRIPTOR.fields_by_name
        ]
        self._fields = {
            path: list(iterate_field_paths(method.request_type.DESCRIPTOR)) for path, method in METHODS.items()
        }
        self.corpus: list[Input] = [Input(path, b"", self._right) for path in self._paths]
        self._columns: dict[str, tuple[str, ...]] = {}
        self._operands: set[str] = set()
        self._page_tokens: dict[str, str] = {}
        self._seen: set[tuple[str, ...]] = set()
        self.outcomes: Counter[str] = Counter()
        self.slowest_s = 0.0

    def run(self, inputs: int, *, also: Callable[[Input], None] = lambda one: None) -> None:
        """Send this many inputs; raise AssertionError with the input that reveals a defect.

        Args:
            also: Called with each kept input as well.
        """
        for _ in range(inputs):
            one = self.make()
            spent_s, outcome = self._send_timed(one)
            assert outcome.code not in DEFECTS, (one, outcome)
            assert spent_s <= self._cpu_max_s, (one, spent_s)
            self.slowest_s = max(self.slowest_s, spent_s)
            self.outcomes[outcome.reason or "OK"] += 1
            self._learn(one, outcome)
            if self._is_new(one, outcome):
                self._keep(one)
                also(one)

    def _learn(self, one: Input, outcome: Outcome) -> None:
        """Record the fields and page tokens that a server reports."""
        _, separator, columns = outcome.text.partition("; use one of: ")
        if separator and outcome.reason == "INVALID_FILTER":
            self._columns[one.path] = tuple(columns.split(", "))
        _, separator, choices = outcome.text.partition(" takes one of: ")
        if separator:
            self._operands.update(choices.partition(", not ")[0].split(", "))
        if self.target.page_token:
            self._page_tokens[one.path] = self.target.page_token

    def _send_timed(self, one: Input) -> tuple[float, Outcome]:
        spent_s, outcome = 0.0, None
        for _ in range(TRIES):
            began_s = time.thread_time()
            outcome = self.target.send(one)
            spent_s = time.thread_time() - began_s
            if spent_s <= self._cpu_max_s:
                break
        assert outcome is not None
        return spent_s, outcome

    def _is_new(self, one: Input, outcome: Outcome) -> bool:
        """Return whether the outcome is new, apart from numbers and repeated input."""
        shape = (one.path, outcome.reason, NUMBER.sub("0", QUOTED.sub("", outcome.text))[:80])
        if shape in self._seen:
            return False
        self._seen.add(shape)
        return True

    def _keep(self, one: Input) -> None:
        if len(self.corpus) < CORPUS_MAX:
            self.corpus.append(one)
        else:
            self.corpus[self.chance.randrange(CORPUS_MAX)] = one

    def make(self) -> Input:
        """Generate an input: a kept one with one to four mutations."""
        one = self.chance.choice(self.corpus)
        for _ in range(self.chance.randint(1, 4)):
            one = self._mutate(one)
        return one

    def _mutate(self, one: Input) -> Input:
        roll = self.chance.random()
        if one.metadata != self._right and roll < 0.6:
            return one._replace(metadata=self._right)
        if roll < 0.05:
            return one._replace(metadata=self._metadata())
        if roll < 0.2:
            return self._list()
        if roll < 0.8:
            longer = one.raw + self._field(one.path)
            return one._replace(raw=longer if len(longer) <= LONG_MAX else b"")
        if roll < 0.92:
            return one._replace(raw=self._mutate_bytes(one.raw)[:LONG_MAX])
        return Input(self.chance.choice(self._paths), b"", self._right)

    def _list(self) -> Input:
        """Generate a list request with an almost valid filter, order or page token."""
        path = self.chance.choice(self._lists)
        request: Any = METHODS[path].request_type()
        if hasattr(request, "parent"):
            request.parent = self.chance.choice(PARENTS)
        if hasattr(request, "filter") and self.chance.random() < 0.7:
            columns = self._columns.get(path, COLUMNS)
            operands = (*OPERANDS, *sorted(self._operands))
            terms = ["".join(map(self.chance.choice, (NOTS, columns, OPERATORS, operands))) for _ in range(3)]
            request.filter = self.chance.choice((" AND ", " OR ", " ")).join(terms[: self.chance.randint(0, 3)])
        if hasattr(request, "order_by") and self.chance.random() < 0.3:
            request.order_by = self.chance.choice(("", *COLUMNS)) + self.chance.choice(("", " desc", ", name", " x"))
        request.page_size = self.chance.choice((0, 1, 1, 2))
        known = self._page_tokens.get(path, "AAAA")
        request.page_token = self.chance.choice(("", "", "", known, known[:-1], known + "A", self._token_like()))
        return Input(path, request.SerializeToString(), self._right)

    def _token_like(self) -> str:
        raw = self.chance.randbytes(self.chance.randint(1, 60))
        return base64.urlsafe_b64encode(raw).decode().rstrip("=" if self.chance.random() < 0.5 else "")

    def _field(self, path: str) -> bytes:
        """Generate a field of the request, within its parent messages, perhaps repeated very often."""
        if not self._fields[path] or self.chance.random() < 0.05:
            return varint(self.chance.getrandbits(20)) + self.chance.randbytes(self.chance.randint(0, 9))
        *outer, field = self.chance.choice(self._fields[path])
        kinds = {1: 1, 5: 5, 9: LENGTH, 11: LENGTH, 12: LENGTH}  # double, float, string, message, bytes
        kind = kinds.get(field.type, 0) if self.chance.random() < 0.95 else self.chance.randrange(8)
        part = tag(field.number, kind) + self._value(kind)
        part *= self.chance.choice((1, 1, 1, 2, 20, 600)) if len(part) < 40 else 1
        for around in reversed(outer):
            part = tag(around.number, LENGTH) + varint(len(part)) + part
        return part

    def _value(self, kind: int) -> bytes:
        if kind == LENGTH:
            text = "".join(self.chance.choices(TEXTS, k=self.chance.choice((0, 1, 1, 1, 2, 5))))[:2_100]
            raw = text.encode() if self.chance.random() < 0.9 else self.chance.randbytes(self.chance.randint(0, 40))
            return varint(len(raw)) + raw
        if kind == 0:
            number = self.chance.choice((0, 1, 2, 10**6, 10**9, 2**31, 2**63, 2**64 - 1, self.chance.getrandbits(64)))
            return varint(number)
        return self.chance.randbytes(8 if kind == 1 else 4 if kind == 5 else self.chance.randint(0, 3))

    def _mutate_bytes(self, raw: bytes) -> bytes:
        """Mutate bytes: change, cut, double or insert some."""
        if not raw:
            return self.chance.randbytes(self.chance.randint(0, 20))
        at, until = sorted(self.chance.choices(range(len(raw) + 1), k=2))
        until = min(until, at + 64)
        middle = self.chance.choice((b"", raw[at:until] * 2, self.chance.randbytes(self.chance.randint(1, 4))))
        return raw[:at] + middle + raw[until if self.chance.random() < 0.5 else at :]

    def _metadata(self) -> tuple[tuple[str, str | bytes], ...]:
        """Generate metadata, perhaps with an almost valid token."""
        token = self._odd_token() if self.chance.random() < 0.6 else self.target.token
        pairs: list[tuple[str, str | bytes]] = [
            ("authorization", self.chance.choice(("Bearer ", "bearer ", "")) + token)
        ]
        for key in self.chance.choices(KEYS, k=self.chance.randint(0, 3)):
            text = "".join(self.chance.choices((*TEXTS, "00-", "0" * 32, "f" * 16, "-01"), k=self.chance.randint(0, 4)))
            pairs.append((key, text.encode() if key.endswith("-bin") else text[:300]))
        return tuple(pairs)

    def _odd_token(self) -> str:
        token = self.target.token
        at = self.chance.randrange(len(token))
        return (
            token[:at]
            + self.chance.choice(("", ".", "A", "-", "=", "eyJ9", "\u20ac"))
            + token[at + self.chance.randint(0, 3) :]
        )


@contextmanager
def trace_lines(modules: tuple[Any, ...]) -> Iterator[dict[str, set[int]]]:
    """Trace the executed lines of some modules, by file."""
    executed: dict[str, set[int]] = {module.__file__: set() for module in modules}

    def trace(frame: FrameType, event: str, _argument: Any) -> Any:
        lines = executed.get(frame.f_code.co_filename)
        if lines is None:
            return None
        lines.add(frame.f_lineno)
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        yield executed
    finally:
        sys.settrace(before)


def list_executable_lines(module: Any) -> set[int]:
    """Return the executable lines of a module's functions that parse."""
    executable: set[int] = set()

    def add(code: CodeType) -> None:
        for constant in code.co_consts:
            if isinstance(constant, CodeType) and constant.co_name not in BESIDE_PARSERS:
                if constant.co_flags & 0x2:  # CO_NEWLOCALS: a function, not a class body
                    executable.update(
                        line for _, _, line in constant.co_lines() if line and line > constant.co_firstlineno
                    )
                add(constant)

    add(compile(Path(module.__file__).read_text(), module.__file__, "exec"))
    return executable
