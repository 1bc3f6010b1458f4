"""Every RPC has a test, a section in the reference, and a method in the client library."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest
from contract import Service, read_contract

from tests.support import pricing
from tests.support.checkout import ROOT, python_files, text
from tests.support.resources import KINDS

CONTRACT = read_contract()
each_service = pytest.mark.parametrize("service", CONTRACT.services, ids=lambda service: service.name)
CLIENT_FILES = [path for path in python_files("clients") if path.parts[2] == "client"]


def sources_of_tests(*, but: tuple[str, ...]) -> str:
    """Return all tests as one text, without those in the given folders of `tests/`."""
    return "\n".join(text(path) for path in python_files("tests") if path.parts[1] not in but)


def client_calls() -> dict[str, str]:
    """Return the call in the client library by RPC, such as `orders.place`."""
    return {
        stub_method.attr: f"{path.stem}.{function.name}"
        for path in CLIENT_FILES
        for function in ast.walk(ast.parse(text(path)))
        if isinstance(function, ast.FunctionDef)
        for stub_method in ast.walk(function)
        if isinstance(stub_method, ast.Attribute) and ast.unparse(stub_method.value) == "self._stub"
    }


ALL_TESTS = sources_of_tests(but=("house",))
# The client's own tests use a scripted server, so they do not count as tests of an RPC.
TESTS_OF_A_SERVER = sources_of_tests(but=("house", "client"))
CLIENT_CALLS = client_calls()
# The tests of standard methods build RPC names: `f"Get{kind.noun}"`, or a verb that is an argument of `kind.do`.
COMPOSED = re.compile(r'f"([A-Z][A-Za-z]+)\{\w+\.(?:noun|plural)\}"|"(Archive|Unarchive|Delete|Undelete)"')
STANDARD_VERBS = {verb for found in COMPOSED.findall(TESTS_OF_A_SERVER) for verb in found if verb}
STANDARD_CALLS = {f"{verb}{noun}" for verb in STANDARD_VERBS for kind in KINDS for noun in (kind.noun, kind.plural)}
STANDARD_CALLS |= {rpc for kind in pricing.KINDS for rpc in kind.rpcs}


def is_named(name: str, *, within: str) -> bool:
    return re.search(rf"\b{re.escape(name)}\b", within) is not None


def is_tested(rpc: str) -> bool:
    """Whether a test with a real server names the RPC or calls it with the client library."""
    call = CLIENT_CALLS.get(rpc)
    called = is_named(rpc, within=TESTS_OF_A_SERVER) or rpc in STANDARD_CALLS
    return called or bool(call and f"{call}(" in TESTS_OF_A_SERVER)


@each_service
def test_every_rpc_of_service_occurs_in_a_test(service: Service) -> None:
    assert not [method.name for method in service.methods if not is_tested(method.name)]


@each_service
def test_every_rpc_of_service_is_called_by_the_client_library(service: Service) -> None:
    assert not [method.name for method in service.methods if method.name not in CLIENT_CALLS]


@each_service
def test_service_has_its_reference(service: Service) -> None:
    page = text(Path("docs/reference/api", f"{service.noun}.md"))
    assert [method.name for method in service.methods if not is_named(method.name, within=page)] == []


def test_every_reason_occurs_in_a_test_or_its_exception_does() -> None:
    def occurs(reason: str) -> bool:
        exception = reason.title().replace("_", "")
        return is_named(reason, within=ALL_TESTS) or is_named(exception, within=ALL_TESTS)

    assert not [reason.name for reason in CONTRACT.reasons if not occurs(reason.name)]


@pytest.mark.parametrize("script", ["protos/generate.py", "docs/generate.py"])
def test_generated_files_are_up_to_date(script: str) -> None:
    command = [sys.executable, script, "--check"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stderr
