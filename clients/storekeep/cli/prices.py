"""`storekeep prices`: commands for prices for customer groups, quantities and times, and for the history of prices."""

from __future__ import annotations

from typing import Annotated

import typer

from storekeep.cli.changes import Clear, build_update
from storekeep.cli.commands import LIMIT, Etag, Limit, Total, command, new_group
from storekeep.cli.listings import ResourceListing, add_listing
from storekeep.cli.pairs import parse_amount, parse_price
from storekeep.cli.sessions import Session, compute_page_size
from storekeep.cli.steps import Step, add_steps
from storekeep.cli.times import parse_time
from storekeep.cli.variants import find_variant_name
from storekeep.cli.windows import End, Start, parse_bound
from storekeep.client import Money, Price
from storekeep.client.names import to_price_name

COLUMNS = ("name", "sku", "amount", "customer_group", "minimum_quantity", "start_time", "end_time")
HISTORY_COLUMNS = ("sku", "amount", "customer_group", "minimum_quantity", "start_time", "end_time", "price")
LISTING = ResourceListing(
    "List prices beside those of variants.",
    example="storekeep prices list --filter 'sku = CHAI-1'",
    method=lambda session: session.client.prices.list,
    columns=COLUMNS,
    filters=("sku = CHAI-1", "customer_group = wholesale"),
    soft_deletion=True,
)
STEPS = (
    Step("delete", "Delete prices; they can be undeleted.", lambda s: s.client.prices.delete),
    Step("undelete", "Restore deleted prices.", lambda s: s.client.prices.undelete),
)
Name = Annotated[str, typer.Argument(help="Id or full name.")]
GROUP = typer.Option("--group", help="Customer group (default: all customers).")
MINIMUM = typer.Option("--from", min=1, help="Units of the SKU in an order from which it holds.")
COMPARE_AT = typer.Option("--compare-at", metavar="AMOUNT", help="Price to show crossed out, in the same currency.")
FLOOR = typer.Option("--floor", metavar="AMOUNT", help="Lowest price after discounts, in the same currency.")


def add_prices(app: typer.Typer) -> None:
    """Add the group to the command line."""
    group = new_group(
        app,
        "prices",
        help="Manage prices for customer groups, quantities and times.",
        example="storekeep prices list",
    )
    add_listing(group, LISTING)
    command(group, "show", example="storekeep prices show chai-sale")(show_price)
    create = "storekeep prices create CHAI-1 EUR=4.50 --group wholesale --from 10"
    command(group, "create", example=create, writes=True)(create_price)
    command(group, "update", example="storekeep prices update chai-sale EUR=4.20", writes=True)(update_price)
    command(group, "history", example="storekeep prices history CHAI-1")(list_history)
    command(group, "lowest", example="storekeep prices lowest CHAI-1 EUR")(show_lowest)
    add_steps(group, STEPS, noun="prices", example_name="chai-sale", to_name=to_price_name, columns=COLUMNS)


def show_price(session: Session, name: Name) -> None:
    """Show one price."""
    session.screen.show_message(session.client.prices.get(to_price_name(name)))


def create_price(
    session: Session,
    sku: Annotated[str, typer.Argument(help="The SKU.")],
    amount: Annotated[str, typer.Argument(metavar="CURRENCY=AMOUNT", help="The price, such as EUR=4.50.")],
    price_id: Annotated[str, typer.Option("--id", help="Its id (default: chosen by the server).")] = "",
    group: Annotated[str, GROUP] = "",
    minimum: Annotated[int, MINIMUM] = 1,
    start: Start = "",
    end: End = "",
    compare_at: Annotated[str, COMPARE_AT] = "",
    floor: Annotated[str, FLOOR] = "",
) -> None:
    """Create a price for a customer group, a quantity or a span of time."""
    money = parse_price(amount)
    price = Price(
        sku=sku,
        amount=money,
        customer_group=group,
        minimum_quantity=minimum,
        start_time=parse_bound(start),
        end_time=parse_bound(end),
        compare_at=_parse_other(compare_at, money.currency_code),
        floor=_parse_other(floor, money.currency_code),
    )
    session.screen.show_message(session.client.prices.create(price, price_id=price_id, **session.creation_options))


def update_price(
    session: Session,
    name: Name,
    amount: Annotated[str, typer.Argument(metavar="[CURRENCY=AMOUNT]", help="The price, such as EUR=4.50.")] = "",
    group: Annotated[str | None, GROUP] = None,
    minimum: Annotated[int | None, MINIMUM] = None,
    start: Start = "",
    end: End = "",
    clear: Clear = None,
    etag: Etag = "",
) -> None:
    """Change the given fields of a price."""
    changes, mask = build_update(
        Price,
        to_price_name(name),
        etag=etag,
        clear=clear or (),
        amount=parse_price(amount) if amount else None,
        customer_group=group,
        minimum_quantity=minimum,
        start_time=parse_bound(start),
        end_time=parse_bound(end),
    )
    session.screen.show_message(session.client.prices.update(changes, update_mask=mask, **session.write_options))


def list_history(
    session: Session,
    sku: Annotated[str, typer.Argument(help="The SKU.")],
    currency: Annotated[str, typer.Option("--currency", help="Only prices in this currency.")] = "",
    limit: Limit = LIMIT,
    total: Total = False,
) -> None:
    """List the prices that a SKU has had, the latest first."""
    listing = session.client.prices.list_history(
        sku, currency_code=currency.upper(), page_size=compute_page_size(limit), include_total_size=total
    )
    session.show_listing(
        listing, columns=HISTORY_COLUMNS, limit=limit, check_parent=lambda: find_variant_name(session, sku)
    )


def show_lowest(
    session: Session,
    sku: Annotated[str, typer.Argument(help="The SKU.")],
    currency: Annotated[str, typer.Argument(help="The currency, such as EUR.")],
    group: Annotated[str, GROUP] = "",
    days: Annotated[int, typer.Option("--days", min=1, max=366, help="Number of days.")] = 30,
    before: Annotated[str, typer.Option("--before", help="The end of these days (default: now).")] = "",
) -> None:
    """Show the lowest price of a SKU in the days before a time."""
    lowest = session.client.prices.get_lowest(
        sku, currency.upper(), customer_group=group, days=days, time=parse_time(before) if before else None
    )
    session.screen.show_message(lowest)


def _parse_other(text: str, currency_code: str) -> Money | None:
    return parse_amount(text, currency_code=currency_code) if text else None
