"""Imports and exports of CSV files in the console: mapping, check, errors by line, and what attackers send."""

from __future__ import annotations

import gzip
import time
from dataclasses import replace

import pytest

from storekeep.client import Customer, Storekeep
from storekeep.console.imports import ImportFile, ImportFiles
from storekeep.console.multipart import parse_multipart
from storekeep.console.requests import BadRequest
from storekeep.console.sessions import Session
from storekeep.console.uploads import Upload
from storekeep.imports.kinds import KINDS
from storekeep.imports.reports import escape_formula
from storekeep.imports.rows import Layout
from storekeep.imports.spellings import Spelling
from tests.support.gateways import GatewayProcess
from tests.support.shops import Shop, new_id
from tests.support.uploads import BOUNDARY, build_body, send_file
from tests.support.visitors import Page, Visitor

pytestmark = pytest.mark.engine("sqlite", reason="the console is a client; it never sees the database")
WAIT_S = 120.0
SIZE_MAX = 1024 * 1024
"""Documented limit of a file, in bytes."""
HEAD = b'Content-Disposition: form-data; name="a"'


def finish(visitor: Visitor, page: Page) -> Page:
    """Load the page of a run until the run is done."""
    path = next((link for link in page.links if link.startswith("/import/")), "")
    give_up = time.monotonic() + WAIT_S
    while 'http-equiv="refresh"' in page.body:
        assert time.monotonic() < give_up, page.text
        time.sleep(0.1)
        page = visitor.get(path)
    return page


def get_path(page: Page) -> str:
    """Return the path of a file from its page."""
    return next(form.action for form in page.forms if form.action.startswith("/import/"))


def test_products_are_mapped_checked_and_imported(admin: Visitor, client: Storekeep):
    skus = [new_id("IMP").upper() for _ in range(3)]
    text = (
        "Code;Title;net\n" + "".join(f"{sku};Tea <b>{sku}</b>;4,50\n" for sku in skus[:2]) + f"{skus[2]};Broken;free\n"
    )
    page = send_file(admin, "products", text.encode(), delimiter=";", decimal_comma="yes")
    assert "Tea <b>" in page.text  # as text
    path = get_path(page)
    fields = {"column.sku": "Code", "column.name": "Title", "column.price": "net", "constant.currency": "EUR"}
    page = finish(admin, admin.post(path, dict(page.form(path).fields) | fields))
    assert "Nothing has been changed yet." in page.text
    assert "price: 'free'" in page.text, page.text
    assert ">4<" in page.body  # the line of the row
    assert not list(client.variants.list("products/-", filter=f'sku = "{skus[0]}"'))
    importing = next(form for form in page.forms if ("step", "import") in form.fields)
    page = finish(admin, admin.submit(importing))
    assert "Done." in page.text
    found = [list(client.variants.list("products/-", filter=f'sku = "{sku}"')) for sku in skus]
    assert [len(one) for one in found] == [1, 1, 0]
    assert (found[0][0].prices[0].units, found[0][0].prices[0].nanos) == (4, 500_000_000)


def test_second_check_keeps_the_labels_of_the_first(admin: Visitor, client: Storekeep):
    sku = new_id().upper()
    page = send_file(admin, "products", f"sku,name,price,currency,made of\n{sku},Cup,4.50,EUR,clay\n".encode())
    path = get_path(page)
    chosen = {"extra.target.1": "label.material", "extra.column.1": "made of"}
    page = finish(admin, admin.submit(page.form(path), **chosen))
    checking = next(form for form in page.forms if ("step", "check") in form.fields)
    page = finish(admin, admin.submit(checking))
    importing = next(form for form in page.forms if ("step", "import") in form.fields)
    assert "Done." in finish(admin, admin.submit(importing)).text
    (variant,) = client.variants.list("products/-", filter=f'sku = "{sku}"')
    product = client.products.get(variant.name.partition("/variants/")[0])
    assert product.labels == {"material": "clay"}


def test_column_that_is_needed_and_missing_is_named(admin: Visitor):
    page = send_file(admin, "stock", b"what,how many\nX,1\n")
    path = get_path(page)
    page = admin.submit(page.form(path))
    assert page.status == 400
    assert "Choose a column for" in page.text
    assert "--column" not in page.text


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "not empty"),
        (b"\n\n", "header"),
        (b"sku,\xff\n1,2\n", "not UTF-8"),
        (b"a\x00b", "zero bytes"),
        (gzip.compress(b"sku,quantity\nA,1\n", mtime=0), "compressed with gzip"),
        (b",".join(b"c%d" % i for i in range(501)) + b"\n", "more than 500 columns"),
        (b"," * 501 + b"sku\n", "more than 500 columns"),
        (b"sku," + b"x" * 20_000 + b"\n", "more than 20,000 characters"),
    ],
)
def test_file_that_is_no_csv_is_explained(admin: Visitor, content: bytes, words: str):
    page = send_file(admin, "stock", content)
    assert page.status == 400
    assert words in page.text
    assert "--encoding" not in page.text


def test_hints_of_an_import_name_what_the_page_has(admin: Visitor):
    page = send_file(admin, "products", b"sku;name\nX;Tea\n")
    assert "choose “Semicolon”" in page.text
    page = send_file(admin, "products", b'sku,name,price,currency\nX,Tea,"4,50",EUR\n')
    assert "SKU needed" in page.text
    path = get_path(page)
    page = finish(admin, admin.submit(page.form(path)))
    assert "tick “Decimals are after a comma”" in page.text
    assert "--decimal-comma" not in page.text
    assert "No row can be imported." in page.text
    assert not [form for form in page.forms if ("step", "import") in form.fields]


def test_file_of_the_documented_size_is_taken_and_a_larger_one_is_explained(admin: Visitor):
    line = b"X,1\n"
    page = send_file(admin, "stock", b"sku,quantity\n" + line * ((SIZE_MAX - 20) // len(line)))
    assert (page.status, "First rows" in page.text) == (200, True), page.text
    for size in (SIZE_MAX + 100_000, 4 * SIZE_MAX):
        page = send_file(admin, "stock", b"sku,quantity\n" + line * (size // len(line)))
        assert page.status == 413
        assert page.headers["content-type"].startswith("text/html")
        assert "default-src 'none'" in page.headers["content-security-policy"]
        assert "storekeep import" in page.text


def test_refusal_of_the_gateway_is_a_page_for_browsers_and_json_for_programs(admin: Visitor):
    for path, accept, kind in (
        ("/orders", "*/*", "text/html"),
        ("/nowhere", "text/html,*/*", "text/html"),
        ("/v1/orders", "*/*", "application/json"),
    ):
        page = admin.send("GET", f"{path}?q={'x' * 20_000}", accept=accept)
        assert page.status == 414
        assert page.headers["content-type"].startswith(kind)


def test_import_without_a_check_is_refused(admin: Visitor):
    page = send_file(admin, "stock", b"sku,quantity\nX,1\n")
    path = get_path(page)
    page = admin.post(path, dict(page.form(path).fields) | {"step": "import"})
    assert page.status == 400
    assert "Check the file first" in page.text


def test_check_with_an_unexpected_error_reports_it_and_allows_no_import():
    class Broken:
        def __init__(self, *_: object, **__: object) -> None:
            raise ZeroDivisionError("a fault of the importer")

    reported: list[str] = []
    files = ImportFiles(report_error=lambda what, error: reported.append(f"{what}: {error}"))
    session = Session(Storekeep("127.0.0.1:1", api_key="sk_any"), "token", started_s=0, used_s=0)
    stock = next(kind for kind in KINDS if kind.noun == "stock")
    file = ImportFile(
        "key",
        owner="token",
        kind=replace(stock, importer=Broken),
        upload=Upload("stock.csv", b"sku,quantity\nX,1\n"),
        layout=Layout("", ""),
        spelling=Spelling(),
        used_s=time.monotonic(),
        mapped={"sku": "sku", "quantity": "quantity"},
    )
    try:
        files.start(file, session, is_dry=True)
        give_up = time.monotonic() + WAIT_S
        while file.is_running:
            assert time.monotonic() < give_up
            time.sleep(0.01)
        assert file.progress is not None
        assert "the gateway's log has the details" in file.progress.problem[0]
        assert reported == ["an import of the console: a fault of the importer"]
        with pytest.raises(BadRequest, match="Check the file first"):
            files.start(file, session, is_dry=False)
    finally:
        files.close()


def test_file_of_another_session_is_not_found(gateway: GatewayProcess, admin: Visitor):
    path = get_path(send_file(admin, "stock", b"sku,quantity\nX,1\n"))
    other = Visitor(gateway.address)
    other.sign_in(gateway.api_key)
    page = other.get(path)
    assert page.status == 404
    assert "no longer here" in page.text


def test_form_with_a_file_needs_its_token(admin: Visitor):
    body = build_body({"kind": "stock", "csrf_token": "wrong"}, b"sku,quantity\nX,1\n")
    page = admin.send("POST", "/import", body, content_type=f"multipart/form-data; boundary={BOUNDARY}")
    assert page.status == 200
    assert "Nothing has been changed yet" in page.text
    page = admin.send(
        "POST", "/import", body, content_type=f"multipart/form-data; boundary={BOUNDARY}", origin="https://evil.example"
    )
    assert page.status == 403


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("multipart/form-data", b"--x--"),
        ("multipart/form-data; boundary=", b"----"),
        ("multipart/form-data; boundary=" + "x" * 100, b""),
        ("multipart/form-data; boundary=x", b""),
        ("multipart/form-data; boundary=x", b"preamble\r\n--x\r\n\r\n--x--"),
        ("multipart/form-data; boundary=x", b"--x\r\nContent-Disposition: form-data\r\n\r\n1\r\n--x--"),
        ("multipart/form-data; boundary=x", b'--x\r\nContent-Disposition: form-data; name="a"\r\n\r\n1'),
        ("multipart/form-data; boundary=x", b'--x\r\nContent-Disposition: form-data; name="a"\r\n\r\n\xff\r\n--x--'),
        ("multipart/form-data; boundary=x", b'--x\r\nContent-Disposition: form-data; name="a"\r\n\r\n1' * 200),
        ("multipart/form-data; boundary*" + "9" * 5_000 + "=x", b"--x--"),
        ('multipart/form-data;a="' + ";" * 22_000 + '"; boundary=x', b"--x--"),
        (
            "multipart/form-data; boundary=x",
            b'--x\r\nContent-Disposition: form-data; name="a"; b="c"\r\n\r\n1\r\n--x--',
        ),
        ("multipart/form-data; boundary=x", (b"--x\r\n" + HEAD + b"\r\n\r\n1\r\n") * 101 + b"--x--"),
        ("multipart/form-data; boundary=x", b"--x\r\n" + b"A: b\r\n" * 1_000 + b"\r\n\r\n1\r\n--x--"),
    ],
)
def test_broken_form_with_a_file_is_refused(content_type: str, body: bytes):
    with pytest.raises(BadRequest):
        parse_multipart(content_type, body)


def test_form_with_a_file_is_read_as_it_was_sent():
    content = b"a\r\n\r\n--" + BOUNDARY.encode()[:-1] + b"\x00\xff"
    body = build_body({"one": "1", "ümlaut": "ö"}, content, filename="Zoë.csv")
    fields, files = parse_multipart(f"multipart/form-data; boundary={BOUNDARY}", body)
    assert fields == {"one": ["1"], "ümlaut": ["ö"]}
    assert files["file"].content == content


def test_export_has_what_the_list_has_and_no_formula(admin: Visitor, client: Storekeep, shop: Shop):
    evil = '=HYPERLINK("http://evil.example")'
    customer = client.customers.create(Customer(display_name=evil, company="@SUM(1)"))
    file = admin.get("/export/customers")
    assert file.status == 200
    assert file.headers["content-type"].startswith("text/csv")
    assert file.headers["x-content-type-options"] == "nosniff"
    assert escape_formula("@SUM(1)") in file.body
    assert f'"\'{evil.replace(chr(34), chr(34) * 2)}"' in file.body
    sku = shop.variant(stock=1, prices={"EUR": "12.4"}).sku
    order = client.orders.place(
        customer=customer.name, lines=[(sku, 1)], currency_code="EUR", external_reference="+1-2"
    )
    file = admin.get(f"/export/orders?customer={customer.name}")
    assert len(file.body.splitlines()) == 2
    assert order.number in file.body
    assert ",'+1-2," in file.body
    assert ",12.40," in file.body
    for path in ("/export/products", "/export/stock?q=X", "/export/prices", "/export/coupons"):
        assert admin.get(path).status == 200
    assert admin.get("/export/orders?filter=)(").status == 400
    assert admin.get("/export/users").status == 404
