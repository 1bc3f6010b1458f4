"""Random requests from the OpenAPI file to a running stack, valid ones and invalid ones, and checks of the replies.

schemathesis makes the requests. To reach more than "not found", names in them are replaced by those that earlier
replies had, so the requests of one run build on each other.
"""

from __future__ import annotations

import itertools
import json
import math
import re
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from schemathesis import GenerationMode
from schemathesis.core.failures import Failure, FailureGroup

from storekeep.gateway import documentation
from tests.support.gateways import GatewayProcess
from tests.support.patience import report_progress
from tests.support.sent_requests import Description, SentRequest

NAME = re.compile(r"[a-zA-Z]+/[A-Za-z0-9_.+-]{1,64}(?:/[a-zA-Z]+/[A-Za-z0-9_.+-]{1,64})?")
KEPT_MAX = 20
"""Names that are kept of each kind of resource."""
LEFT_OUT = frozenset({"RevokeToken", "RevokeAllTokens", "WatchEvents"})
"""Operations that end the run's own credential, and the one whose reply does not end."""
OWN_ACCOUNT = "serviceAccounts/admin"
"""The account of the run's key. Its name and those of its keys are not sent: the run would shut itself out."""
OF_THE_PARSER = (400, 431)
"""Statuses that the HTTP parser sends without a body, for what is no HTTP or too large (docs/gateway.md)."""
OVERLOADED = "OVERLOADED"
"""Reason of a refusal that belongs to a busy host: the request is sent again, as `Retry-After` says."""
ATTEMPTS_MAX = 30
TIMEOUT_S = 60.0


@dataclass
class Findings:
    """What a run found.

    Attributes:
        statuses: number of replies by mode and status.
        problems: descriptions of replies that should not be.
    """

    statuses: Counter[tuple[str, int]] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)


class SchemaCases:
    """Sends requests to a gateway, and checks the replies.

    Args:
        gateway: the gateway; its key should have no rate limits.

    Attributes:
        findings: the findings of all runs so far.
    """

    def __init__(self, gateway: GatewayProcess) -> None:
        self._url = "http://{}:{}".format(*gateway.address)
        self._headers = {"Authorization": f"Bearer {gateway.api_key}"}
        self._session = requests.Session()
        self._session.trust_env = False
        self._names: dict[str, list[str]] = defaultdict(list)
        self._turns = itertools.count()
        self.findings = Findings()
        description = json.loads((documentation.HERE / "openapi.json").read_text())
        self._description = Description(description)
        schema: Any = schemathesis.openapi.from_dict(_drop_security(description))
        operations = [found.ok() for found in schema.get_all_operations()]
        self._operations = {operation.definition.raw["operationId"]: operation for operation in operations}

    def list_operations(self) -> Iterator[Any]:
        """Yield the operations of the file."""
        return (operation for name, operation in self._operations.items() if name not in LEFT_OUT)

    def run(self, *, each: int, number: int, ends_s: float = math.inf) -> Findings:
        """Send valid requests to all operations, then invalid ones; return the findings of all runs so far.

        Args:
            each: number of requests for each operation and mode.
            number: seed.
            ends_s: time of the monotonic clock after which no further operation is tried.
        """
        for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):
            operations = itertools.takewhile(lambda _: time.monotonic() < ends_s, self.list_operations())
            self.run_mode(mode, operations, each=each, number=number)
        return self.findings

    def run_mode(self, mode: GenerationMode, operations: Iterable[Any], *, each: int, number: int) -> None:
        """Send requests of one mode to these operations; see `run`."""
        for operation in operations:
            self._send_cases(operation, mode, each=each, number=number)
            report_progress()
        reply = self._session.get(f"{self._url}/v1/products", headers=self._headers, timeout=TIMEOUT_S)
        if reply.status_code != 200:
            self.findings.problems.append(f"the run has lost its credential: {reply.status_code} {reply.content!r}")

    def _send_cases(self, operation: Any, mode: GenerationMode, *, each: int, number: int) -> None:
        if mode is GenerationMode.NEGATIVE and not _has_input(operation):
            return

        @seed(number)
        @settings(
            max_examples=each,
            phases=[Phase.generate],
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
        )
        @given(operation.as_strategy(generation_mode=mode))
        def send(case: Any) -> None:
            self._send(case, mode)

        send()

    def _send(self, case: Any, mode: GenerationMode) -> None:
        wrong = {
            str(location.value) for location, part in case.meta.components.items() if part.mode.value == "negative"
        }
        if "path" not in wrong:
            case.path_parameters = {name: self._take(name, text) for name, text in case.path_parameters.items()}
        if "body" not in wrong:
            case.body = self._replace_names(case.body)
        reply = self._call(case)
        self.findings.statuses[mode.value, reply.status_code] += 1
        sent = SentRequest.from_prepared(reply.request)
        if reply.status_code >= 500 and not _is_own_deadline(sent, reply):
            self._report(case, reply, "a status of the server's fault")
        elif reply.status_code < 300 and (problem := self._description.explain(sent)):
            self._report(case, reply, f"accepted, but the file forbids it: {problem}")
        if reply.status_code in OF_THE_PARSER and not reply.content:
            return
        self._check_reply(case, sent, reply)
        self._keep_names(reply)

    def _call(self, case: Any) -> Any:
        """Send a request, again while the host is too busy for it; return the last reply."""
        for _ in range(ATTEMPTS_MAX):
            reply = case.call(base_url=self._url, headers=self._headers, session=self._session, timeout=TIMEOUT_S)
            if _find_reason(reply) != OVERLOADED or "retry-after" not in reply.headers:
                break
            time.sleep(int(reply.headers["retry-after"]))
        return reply

    def _check_reply(self, case: Any, sent: SentRequest, reply: Any) -> None:
        """Compare a reply with the file: with the operation that the path names once it is sent."""
        names = self._description.find(sent)
        own = case.operation.definition.raw["operationId"]
        operation = case.operation if own in names or not names else self._operations[names[0]]
        try:
            operation.validate_response(reply)
        except (Failure, FailureGroup) as error:
            self._report(case, reply, str(error))

    def _report(self, case: Any, reply: Any, text: str) -> None:
        body = getattr(case, "body", None)
        shown = f"{case.method} {reply.request.url} {body!r}"[:600]
        self.findings.problems.append(f"{shown}\n-> {reply.status_code} {reply.content[:300]!r}\n{text[:800]}")

    def _keep_names(self, reply: Any) -> None:
        """Keep the names in a reply by kind of resource."""
        if reply.status_code != 200:
            return
        for name in NAME.findall(reply.text)[:KEPT_MAX]:
            kind = "/".join(name.split("/")[::2])
            is_own = f"{name}/".startswith(f"{OWN_ACCOUNT}/")
            if not is_own and len(self._names[kind]) < KEPT_MAX and name not in self._names[kind]:
                self._names[kind].append(name)

    def _take(self, parameter: str, text: Any) -> Any:
        """Return the id of a known resource for three of four path parameters, such as `product`."""
        turn = next(self._turns)
        stem = parameter.removesuffix("Id")
        plural = f"{stem[:-1]}ies" if stem.endswith("y") else f"{stem}s"
        kinds = [kind for kind in self._names if kind.rpartition("/")[2] == plural]
        if turn % 4 == 0 or not kinds:
            return text
        names = self._names[kinds[0]]
        return names[turn % len(names)].rpartition("/")[2]

    def _replace_names(self, value: Any) -> Any:
        """Return a body in which most names of resources are known ones."""
        if isinstance(value, dict):
            return {key: self._replace_names(item) for key, item in value.items()}
        if isinstance(value, list):
            return [self._replace_names(item) for item in value]
        if isinstance(value, str) and NAME.fullmatch(value):
            names = self._names.get("/".join(value.split("/")[::2]))
            turn = next(self._turns)
            return names[turn % len(names)] if names and turn % 4 else value
        return value


def _drop_security(description: dict[str, Any]) -> dict[str, Any]:
    """Return the description without credentials: the run has its own, and does not guess others."""
    description.pop("security")
    description["components"].pop("securitySchemes")
    for path in description["paths"].values():
        for operation in path.values():
            operation.pop("security", None)
    return description


def _has_input(operation: Any) -> bool:
    return bool(operation.body or operation.query or operation.path_parameters)


def _find_reason(reply: Any) -> str:
    """Return the reason of an error; empty for other replies."""
    try:
        details = reply.json()["error"]["details"]
    except (ValueError, LookupError, TypeError):
        return ""
    return next((str(detail["reason"]) for detail in details if "reason" in detail), "")


def _is_own_deadline(sent: SentRequest, reply: Any) -> bool:
    """Return whether the request had a deadline of its own, and did not meet it."""
    return "x-request-timeout" in sent.headers and _find_reason(reply) == "DEADLINE_EXCEEDED"
