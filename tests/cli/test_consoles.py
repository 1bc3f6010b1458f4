"""`storekeep open` prints the address of the console, or of the page of a resource, and opens it on a terminal only."""

from __future__ import annotations

from urllib.parse import quote

import pytest

from tests.support.command_line import CommandLine
from tests.support.shops import Shop, new_id

pytestmark = pytest.mark.engine("sqlite", reason="the command line does not know the engine")


@pytest.fixture(autouse=True)
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the addresses that the browser was given."""
    given: list[str] = []
    monkeypatch.setattr("webbrowser.open", given.append)
    return given


def test_page_of_a_resource_is_found(cli: CommandLine, shop: Shop, opened: list[str]) -> None:
    order = shop.order()
    local = "http://127.0.0.1:8080"
    assert cli("open").out == f"{local}\n"
    assert cli("open", order.number).out == f"{local}/{order.name}\n"
    assert cli("open", order.name, "--console", "https://shop.example/").out == f"https://shop.example/{order.name}\n"
    assert cli("open", "products/chai").out == f"{local}/products/chai\n"
    assert opened == []


def test_console_of_the_login_is_opened(cli: CommandLine) -> None:
    other = "http://127.0.0.1:8081"
    assert cli("login", "--console", f"{other}/").code == 0
    assert cli("open").out == f"{other}\n"
    assert cli("open", "--console", "https://shop.example").out == "https://shop.example\n"
    assert cli("login", "--console", "ftp://shop.example").code == 2
    assert cli("open").out == f"{other}\n"
    assert cli("login", "--console", "").code == 0
    assert cli("open").out == "http://127.0.0.1:8080\n"


def test_page_is_opened_on_a_terminal(cli: CommandLine, opened: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    assert cli("open", "customers/ernst").code == 0
    assert opened == ["http://127.0.0.1:8080/customers/ernst"]


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["SK-404"], "ORDER_NOT_FOUND"),
        (["locations/main"], "has no page"),
        (["products/"], "has no page"),
        (["--console", "file:///etc/passwd"], "is no address of a console"),
        (["--console", "shop.example"], "is no address of a console"),
        (["--address", "shop.example:50051"], "use --console"),
    ],
)
def test_what_has_no_page_is_refused(cli: CommandLine, opened: list[str], arguments: list[str], text: str) -> None:
    run = cli("open", *arguments)
    assert run.code != 0
    assert text in run.err
    assert opened == []


def test_id_with_a_slash_stays_one_segment(cli: CommandLine) -> None:
    assert cli("open", "products/../audit").out == "http://127.0.0.1:8080/products/..%2Faudit\n"


def test_invited_user_gets_a_link_and_one_without_a_role_is_noticed(cli: CommandLine) -> None:
    email = f"{new_id('ann')}@example.com"
    run = cli("users", "invite", "--name", "Ann", "--email", email, "--console", "https://shop.example/", "--json")
    token = run.document["linkToken"]
    assert f"https://shop.example/password?token={quote(token, safe='')}" in run.err.replace("\n", "")
    assert "It has no role" in run.err
    name = cli.json("users", "list", "--filter", f'email = "{email}"')[0]["name"]
    run = cli("users", "link", name)
    assert "http://127.0.0.1:8080/password?token=" in run.err
    assert "no role" not in run.err
