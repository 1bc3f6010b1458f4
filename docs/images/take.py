"""Take the screenshots of the console that the documentation shows.

`python -m docs.images.take` starts a server with the sample catalogue and a gateway, sells for two weeks, and writes
the images beside this file. It needs Chromium (Debian: `apt-get install chromium-headless-shell`).
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from storekeep.client import (
    Address,
    Coupon,
    Customer,
    HistoricOrder,
    HistoricOrderLine,
    Promotion,
    PromotionAction,
    Storekeep,
    to_money,
    to_timestamp,
)

FOLDER = Path(__file__).parent
WIDE, NARROW = {"width": 1100, "height": 720}, {"width": 360, "height": 720}
TALL = {"width": 1100, "height": 940}
"""As high as the whole sample basket with its price."""
PRICES = {"TEA-ASSAM-100": "7.90", "MUG-BLUE": "14.50", "TIN-GREEN": "9.90", "STRAINER": "6.90", "POT-IRON": "59.00"}
SOLD = (3, 5, 4, 6, 8, 2, 1, 4, 5, 7, 6, 9, 3)
"""Orders of each day before today, the oldest first."""


@dataclass(frozen=True)
class Shot:
    """A screenshot.

    Attributes:
        path: path of the page.
        viewport: size of the window, in CSS pixels.
    """

    name: str
    path: str
    viewport: Mapping[str, int]
    scheme: str = "light"


def sell(client: Storekeep) -> str:
    """Sell for two weeks; return the name of an order that was shipped today."""
    customers = list(client.customers.list())
    skus = list(PRICES)
    today = datetime.now(UTC).replace(hour=9, minute=0, second=0, microsecond=0)
    past = []
    for back, count in zip(range(len(SOLD), 0, -1), SOLD, strict=True):
        for number in range(count):
            moment = today - timedelta(days=back) + timedelta(minutes=37 * number)
            lines = [
                HistoricOrderLine(
                    sku=sku,
                    quantity=1 + (number + back) % 3,
                    unit_price=to_money(PRICES[sku], currency_code="EUR"),
                )
                for sku in (skus[(number + back) % len(skus)], skus[(number * 2 + back + 1) % len(skus)])
            ]
            past.append(
                HistoricOrder(
                    number=f"SHOP-{back:02d}{number:02d}",
                    customer=customers[(number + back) % len(customers)].name,
                    currency_code="EUR",
                    order_time=to_timestamp(moment),
                    ship_time=to_timestamp(moment + timedelta(hours=5)),
                    carrier="Post",
                    lines=lines,
                )
            )
    client.orders.import_orders(past)
    return _sell_today(client, customers)


def _sell_today(client: Storekeep, customers: list[Customer]) -> str:
    """Place orders and take some of them further; return the name of the one that was shipped."""
    baskets = (
        ("POT-IRON", 1),
        ("MUG-BLUE", 2),
        ("TIN-GREEN", 1),
        ("STRAINER", 3),
        ("MUG-SAND", 2),
        ("TEA-GENMAI-100", 1),
    )
    orders = [
        client.orders.place(
            customer=customers[number % len(customers)].name,
            lines=[basket, ("TEA-ASSAM-100", 2)],
            currency_code="EUR",
            external_reference=f"WEB-{1034 + number}",
            shipping_address=Address(
                recipient=customers[number % len(customers)].display_name,
                address_lines=["Hauptstraße 5"],
                postal_code="1010",
                locality="Wien",
                region_code="AT",
            ),
        )
        for number, basket in enumerate(baskets)
    ]
    for order in orders[2:]:
        client.orders.confirm(order.name)
    client.orders.hold(orders[3].name, reason="The customer asks for another address.")
    shipped = client.fulfillments.create(orders[-1].name)
    client.orders.add_note(orders[-1].name, "Gift wrapping, without the invoice.")
    client.fulfillments.ship(shipped.name, carrier="Post", tracking_number="AT3499")
    return orders[-1].name


def make_promotion(client: Storekeep) -> str:
    """Create a promotion with a coupon; return its name."""
    action = PromotionAction(kind="PROMOTION_ACTION_KIND_PERCENTAGE", percentage_ppm=150_000)  # type: ignore[arg-type]
    action.items.skus.append("TEA-ASSAM-100")
    made = client.promotions.create(Promotion(display_name="Assam week", requires_coupon=True, action=action))
    client.coupons.create(Coupon(promotion=made.name, max_uses=100), coupon_id="ASSAM15")
    return made.name


def main() -> None:
    """Take the screenshots."""
    from tests.support.browsers import open_window, run_chromium, sign_in
    from tests.support.gateways import GatewayProcess
    from tests.support.processes import ServerProcess

    with tempfile.TemporaryDirectory() as folder:
        server = ServerProcess(Path(folder, "server"), arguments=("--sample",))
        gateway = GatewayProcess(Path(folder), server_address=server.address, api_key=server.admin_key)
        try:
            with Storekeep(server.address, api_key=server.admin_key) as client, run_chromium() as browser:
                page = open_window(browser, f"http://{gateway.address[0]}:{gateway.address[1]}")
                sign_in(page, gateway.api_key)
                for shot in prepare(client):
                    take(page, shot)
        finally:
            gateway.process.kill()
            server.kill()


def prepare(client: Storekeep) -> list[Shot]:
    """Make what the screenshots show, and return them."""
    order, promotion = sell(client), make_promotion(client)
    return [
        Shot("console-dashboard", "/", WIDE),
        Shot("console-order", f"/{order}", WIDE),
        Shot("console-promotion-dark", f"/{promotion}", TALL, scheme="dark"),
        Shot("console-orders-narrow", "/orders", NARROW),
    ]


def take(page: Any, shot: Shot) -> None:
    """Write a screenshot, and print its size."""
    page.emulate_media(color_scheme=shot.scheme)
    page.set_viewport_size(dict(shot.viewport))
    page.goto(shot.path)
    page.wait_for_load_state("networkidle")
    file = FOLDER / f"{shot.name}.png"
    page.screenshot(path=file)
    sys.stdout.write(f"{file.name}: {file.stat().st_size / 1024:.0f} KiB\n")


if __name__ == "__main__":
    main()
