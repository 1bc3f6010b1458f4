"""Personal values that pass through the console and the gateway stay out of their logs, the server's, and its files."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest

from storekeep.gateway.access_log import describe_defect
from tests.support.databases import new_database
from tests.support.gateways import GatewayProcess
from tests.support.hostile.wire import wait_until
from tests.support.planted import MARK
from tests.support.processes import ServerProcess
from tests.support.uploads import send_file
from tests.support.visitors import Page, Visitor


@pytest.fixture(scope="module")
def server(engine: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """Start a server that logs all that it can."""
    folder = tmp_path_factory.mktemp("server")
    database = new_database(engine, folder)
    process = ServerProcess(folder, database=database, log_level="DEBUG")
    yield process
    process.kill()
    database.remove()


def import_customers(admin: Visitor, lines: list[str]) -> Page:
    """Import a file to its end, and return the last page."""
    text = "id,name,email,phone\n" + "".join(f"{line}\n" for line in lines)
    page = send_file(admin, "customers", text.encode())
    path = next(form.action for form in page.forms if form.action.startswith("/import/"))
    for values in ({}, {"run": "yes"}):
        form = next((one for one in page.forms if one.action.startswith(path)), None)
        if form is None:
            break
        page = admin.post(form.action, dict(form.fields) | values)

        def is_done() -> bool:
            nonlocal page
            page = admin.get(path) if 'http-equiv="refresh"' in page.body else page
            return 'http-equiv="refresh"' not in page.body

        wait_until(is_done, what="the import is done")
    return page


def test_no_planted_value_is_in_a_log_or_a_file(
    server: ServerProcess, gateway: GatewayProcess, admin: Visitor, tmp_path: Path
) -> None:
    headers = {"authorization": f"Bearer {server.admin_key}", "content-type": "application/json"}
    api = Visitor(gateway.address)
    customer = {"displayName": f"{MARK}name", "email": f"{MARK}api@example.com", "phone": f"{MARK}phone"}
    made = json.loads(api.send("POST", "/v1/customers", json.dumps(customer).encode(), **headers).body)
    text = quote(f'email = "{MARK}api@example.com"')
    listed = api.send("GET", f"/v1/customers?filter={text}", b"", **headers)
    assert json.loads(listed.body)["customers"][0]["name"] == made["name"]
    for method, path, body in (
        ("GET", f"/v1/customers:search?query={MARK}name", b""),
        ("GET", f"/v1/customers?filter={MARK}", b""),
        ("GET", f"/v1/{MARK}", b""),
        ("GET", f"/{MARK}?{MARK}", b""),
        (MARK.upper(), "/v1/customers", b""),
        ("POST", "/v1/customers", f'{{"displayName": "{MARK}'.encode()),
        ("POST", "/v1/customers", f'{{"{MARK}": 1}}'.encode()),
        ("POST", "/v1/customers", b'{"displayName": "' + MARK.encode() + b'\xff"}'),
        ("POST", f"/v1/customers?customerId={MARK}%00", b"{}"),
    ):
        api.send(method, path, body, **headers)
    for path in (f"/customers?q={MARK}name", f"/customers?filter={text}", f"/{made['name']}", "/customers.csv"):
        admin.get(path)
    import_customers(admin, [f"imported,{MARK}imported,{MARK}csv@example.com,{MARK}1", f"wrong,{MARK}wrong,{MARK},"])
    server.stop()
    texts = {"gateway": gateway.log(), "server": server.log() + server.output()}
    files = {str(path): path.read_bytes() for path in server.data_dir.rglob("*") if path.is_file()}
    assert '"request"' in texts["gateway"]
    assert "CreateCustomer" in texts["server"]
    assert [name for name, logged in texts.items() if MARK in logged.lower()] == []
    assert [name for name, data in files.items() if MARK.encode() in data.lower()] == []


@pytest.mark.engine("sqlite", reason="it needs no database")
def test_description_of_a_defect_has_its_place_and_no_value() -> None:
    try:
        (MARK.encode() + b"\xff").decode()
    except UnicodeDecodeError as error:
        described = describe_defect(error)
    assert described.startswith("UnicodeDecodeError < test_planted_values.py:")
    assert MARK not in described
