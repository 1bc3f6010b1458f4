"""The type checker rejects wrong uses of the client and accepts correct ones."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]

PROGRAM = """
from datetime import timedelta
from storekeep.client import Customer, Listing, Order, Product, Storekeep, to_money

client = Storekeep(address="localhost:1", timeout_s=5)
order: Order = client.orders.place(customer="customers/a", lines=[("A", 1)], currency_code="EUR", timeout_s=2.5)
products: Listing[Product] = client.products.list(filter="state = ACTIVE", page_size=10)
names = [product.display_name for product in products]
client.products.update(Product(name="products/a"), update_mask=["display_name"], validate_only=True)
client.auth.rotate_api_key("serviceAccounts/a/apiKeys/b", overlap=timedelta(hours=1))
client.inventory.set_stock("locations/main/stockLevels/A", quantity=3, expected_quantity=None)

client.orders.place("customers/a", [("A", 1)], "EUR")  # wrong: call-arg
client.orders.place(customer="customers/a", lines=[("A", "1")], currency_code="EUR")  # wrong: list-item
client.orders.place(customer="customers/a", lines=["A"], currency_code="EUR")  # wrong: list-item
client.orders.place(customer="customers/a", lines=[("A", 1)])  # wrong: call-arg
client.orders.place(customer="c", lines=[], currency_code="EUR", dry_run=True)  # wrong: call-arg
client.products.get(Product(name="products/a"))  # wrong: arg-type
client.products.get("products/a", validate_only=True)  # wrong: call-arg
client.products.list(fliter="state = ACTIVE")  # wrong: call-arg
client.orders.list(show_deleted=True)  # wrong: call-arg
client.products.create(Customer(display_name="A"))  # wrong: arg-type
client.products.update("products/a", display_name="B")  # wrong: arg-type, call-arg
client.inventory.set_stock("locations/main/stockLevels/A", quantity="3")  # wrong: arg-type
client.orders.get("orders/1").totl  # wrong: attr-defined
to_money(19.99, currency_code="EUR")  # wrong: arg-type
Storekeep("localhost:1", "sk_a_b")  # wrong: call-arg
client.payments  # wrong: attr-defined
"""


def expected_errors() -> dict[int, set[str]]:
    lines = enumerate(PROGRAM.splitlines(), start=1)
    return {
        number: set(wrong[1].replace(" ", "").split(","))
        for number, line in lines
        if (wrong := re.search(r"# wrong: (.*)$", line))
    }


def test_wrong_use_fails_the_type_checker_and_right_use_does_not(tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(PROGRAM)
    command = [sys.executable, "-m", "mypy", "--strict", "--no-error-summary", "--config-file=", "program.py"]
    roots = ":".join(str(ROOT / root) for root in ("generated", "clients"))
    run = subprocess.run(
        command,
        cwd=tmp_path,
        env={"MYPYPATH": roots, "MYPY_CACHE_DIR": str(tmp_path / "cache")},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    found: dict[int, set[str]] = {}
    for line, code in re.findall(r"^program\.py:(\d+): error: .*\[([a-z-]+)\]$", run.stdout, flags=re.MULTILINE):
        found.setdefault(int(line), set()).add(code)
    assert found == expected_errors(), run.stdout + run.stderr
