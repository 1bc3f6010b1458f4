"""Run the walk against a gateway and record its examples, without what differs between two runs.

`python -m docs.walk.record` starts a server and a gateway with an empty database and writes `docs/walk/examples.json`.
"""

from __future__ import annotations

import json
import re
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from docs.walk import access, catalog, customers, orders, pricing, stock, users
from docs.walk.steps import Step
from storekeep.gateway.routes import Router, build_routes

EXAMPLES = Path(__file__).with_name("examples.json")
STEPS: tuple[Step, ...] = (
    *catalog.STEPS,
    *stock.STEPS,
    *customers.STEPS,
    *pricing.STEPS,
    *orders.STEPS,
    *access.STEPS,
    *users.STEPS,
)
TIME = "2026-01-05T09:00:00Z"
TIME_US = 1_767_603_600_000_000
OWN_TIMES = ("2025-", "2030-")
"""Years of the times that the walk itself sends; they stay."""
LIST_ITEMS_MAX = 2
_NAME = re.compile(r"\{([a-z]+)\}")
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z")
_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_SECRETS = {
    "accessToken": "eyJhbGciOi...",
    "refreshToken": "srt_...",
    "apiKey": "sk_...",
    "token": "eyJhbGciOi...",
    "idToken": "eyJhbGciOi...",
    "linkToken": "pl_...",
    "code": "492039",
    "recoveryCodes": "mfrg-gzdf-mztw-q2lk",
    "secret": "whsec_...",
    "exportToken": "ZXhwb3J0...",
    "nextPageToken": "bmV4dCBw...",
    "cursor": "Y3Vyc29y...",
    "hash": "p3J1...",
    "headHash": "p3J1...",
    "previousHash": "Zm9y...",
    "signature": "c2ln...",
    "publicKey": "cHVi...",
    "x": "cHVi...",
    "y": "cHVi...",
    "chain": "p3J1...",
    "entryHash": "p3J1...",
    "kid": "a1b2c3d4",
    "keyId": "a1b2c3d4",
}
"""Fields whose values are secret, signed or random, and what stands for them."""

_RANDOM = {
    re.compile(r"SK-\d{8}"): "SK-00001001",
    re.compile(r"(?<=FRIEND)[A-Z0-9]{12}"): "7QX4M2PK9D3T",
    re.compile(r"(?<=friend)[a-z0-9]{12}"): "7qx4m2pk9d3t",
    re.compile(r"(?<=\d)_[0-9a-f]{16}\b"): "_9f2c51d0a37be846",
    re.compile(r"(?<=exportToken=)[\w%-]+"): "ZXhwb3J0...",
}
"""Parts of values that are numbered or random, and what stands for them."""
Send = Callable[[str, str, Any, str], tuple[int, Any]]
"""Sends a request (method, target, body, access token or nothing) and returns its status and the JSON of the reply."""


class StepFailed(AssertionError):
    """A step of the walk was refused."""


class Walk:
    """One run of the walk.

    Attributes:
        examples: the first example of each operation, by `METHOD template`.
    """

    def __init__(self, send: Send) -> None:
        self._send = send
        self._router = Router(build_routes())
        self._saved: dict[str, Any] = {}
        self._uuids: dict[str, str] = {}
        self.examples: dict[str, dict[str, Any]] = {}

    def run(self, steps: Sequence[Step] = STEPS) -> None:
        """Run steps in order.

        Raises: StepFailed if a step does not get 200.
        """
        for step in steps:
            self._run_step(step)

    def _run_step(self, step: Step) -> None:
        method, _, target = step.request.partition(" ")
        target, body = self._fill(target, in_query=True), self._fill(step.body)
        status, reply = self._send(method, target, body, self._saved.get(step.caller, ""))
        if status != 200:
            raise StepFailed(f"{method} {target}: {status} {reply}")
        for name, path in step.saves.items():
            self._saved[name] = _find(reply, path)
        match = self._router.match(target.partition("?")[0].encode())
        if match is None:
            raise StepFailed(f"{method} {target}: no operation has this path")
        key = f"{method} {match.routes[method].template}"
        if key not in self.examples:
            example = {"target": target} | ({} if body is None else {"body": body}) | {"reply": reply}
            self.examples[key] = self._generalize(example)

    def _fill(self, value: Any, *, in_query: bool = False) -> Any:
        """Return a value with what earlier steps have saved in place of `{name}`."""
        if isinstance(value, dict):
            return {key: self._fill(item) for key, item in value.items()}
        if isinstance(value, list):
            return [self._fill(item) for item in value]
        if not isinstance(value, str):
            return value
        if whole := _NAME.fullmatch(value):
            return self._find_value(whole[1])
        return _NAME.sub(
            lambda found: _quote(self._find_value(found[1])) if in_query else self._find_value(found[1]), value
        )

    def _find_value(self, name: str) -> Any:
        make = users.MADE_WHEN_SENT.get(name)
        return self._saved[name] if make is None else make()

    def _generalize(self, value: Any, field: str = "") -> Any:
        """Return a value in which times, random ids and secrets are the same in each run, and lists are short."""
        if isinstance(value, dict):
            return {key: self._generalize(item, key) for key, item in value.items()}
        if isinstance(value, list):
            return [self._generalize(item, field) for item in value[:LIST_ITEMS_MAX]]
        if field.endswith("_us") and value:
            return TIME_US
        if isinstance(value, str):
            if field in _SECRETS and value:
                return _SECRETS[field]
            for pattern, replacement in _RANDOM.items():
                value = pattern.sub(replacement, value)
            value = _UUID.sub(self._replace_uuid, value)
            return value if value.startswith(OWN_TIMES) else _TIME.sub(TIME, value)
        return value

    def _replace_uuid(self, found: re.Match[str]) -> str:
        return self._uuids.setdefault(found[0], f"00000000-0000-4000-8000-{len(self._uuids) + 1:012d}")


def _quote(value: str) -> str:
    return quote(value, safe="/-_.~")


def _find(value: Any, path: str) -> Any:
    """Return the value at a path, such as `stockMovements.0.name`."""
    for part in path.split("."):
        value = value[int(part)] if isinstance(value, list) else value[part]
    return value


def write(examples: dict[str, dict[str, Any]]) -> str:
    """Return the text of the file."""
    return json.dumps(dict(sorted(examples.items())), ensure_ascii=False, indent=1) + "\n"


def main() -> None:
    """Record the examples."""
    from tests.support.gateways import GatewayProcess
    from tests.support.processes import ServerProcess
    from tests.support.providers import wait_for_keys

    with tempfile.TemporaryDirectory() as folder:
        server = ServerProcess(Path(folder, "server"), **users.get_provider().get_settings())
        wait_for_keys(server.address)
        gateway = GatewayProcess(Path(folder), server_address=server.address, api_key=server.admin_key)
        try:
            walk = Walk(lambda *request: send_to(gateway, *request))
            walk.run()
        finally:
            gateway.process.kill()
            server.kill()
    EXAMPLES.write_text(write(walk.examples))
    sys.stdout.write(f"{len(walk.examples)} operations\n")


def send_to(gateway: Any, method: str, target: str, body: Any, token: str) -> tuple[int, Any]:
    """Send a request to a gateway process of the tests."""
    headers = {"authorization": f"Bearer {token}"} if token else {}
    reply = gateway.send(method, target, body, **headers)
    return reply.status, reply.json


if __name__ == "__main__":
    main()
