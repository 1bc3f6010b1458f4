"""`storekeep coupons`: commands for coupons, single ones and many with random codes."""

from __future__ import annotations

from typing import Annotated

import typer

from storekeep.cli.changes import Clear, build_update
from storekeep.cli.commands import Etag, command, new_group
from storekeep.cli.listings import ResourceListing, add_listing
from storekeep.cli.sessions import Session
from storekeep.cli.steps import Step, add_steps
from storekeep.cli.times import parse_time
from storekeep.cli.windows import End, Start, parse_bound
from storekeep.client import Coupon
from storekeep.client.names import to_coupon_name, to_promotion_name

COLUMNS = ("name", "code", "promotion", "uses", "max_uses", "max_uses_per_customer", "end_time")
LISTING = ResourceListing(
    "List coupons.",
    example="storekeep coupons list --filter 'promotion = promotions/spring'",
    method=lambda session: session.client.coupons.list,
    columns=COLUMNS,
    filters=("promotion = promotions/spring", 'code = "SPRING*"'),
    soft_deletion=True,
)
STEPS = (
    Step("delete", "Delete coupons; they can be undeleted.", lambda s: s.client.coupons.delete),
    Step("undelete", "Restore deleted coupons.", lambda s: s.client.coupons.undelete),
)
Code = Annotated[str, typer.Argument(help="The code, in either case, or the full name.")]
PROMOTION = typer.Option("--promotion", help="Id or full name of the promotion that it makes apply.")
MAX_USES = typer.Option("--max-uses", min=0, help="Maximum number of orders; 0 for no limit.")
MAX_PER_CUSTOMER = typer.Option(
    "--max-per-customer", min=0, help="Maximum number of orders of one customer; 0 for no limit."
)


def add_coupons(app: typer.Typer) -> None:
    """Add the group to the command line."""
    group = new_group(app, "coupons", help="Manage coupons of promotions.", example="storekeep coupons list")
    add_listing(group, LISTING)
    command(group, "show", example="storekeep coupons show SPRING-10")(show_coupon)
    create = "storekeep coupons create SPRING-10 --promotion spring --max-uses 100"
    command(group, "create", example=create, writes=True)(create_coupon)
    generate = "storekeep coupons generate 500 --promotion spring --prefix SP --max-uses 1"
    command(group, "generate", example=generate, writes=True)(generate_coupons)
    command(group, "update", example="storekeep coupons update SPRING-10 --max-uses 200", writes=True)(update_coupon)
    add_steps(group, STEPS, noun="coupons", example_name="SPRING-10", to_name=to_coupon_name, columns=COLUMNS)


def show_coupon(session: Session, code: Code) -> None:
    """Show one coupon."""
    session.screen.show_message(session.client.coupons.get(to_coupon_name(code)))


def create_coupon(
    session: Session,
    code: Annotated[str, typer.Argument(help="The code: letters, digits and _.-")],
    promotion: Annotated[str, PROMOTION],
    max_uses: Annotated[int, MAX_USES] = 0,
    max_per_customer: Annotated[int, MAX_PER_CUSTOMER] = 0,
    start: Start = "",
    end: End = "",
) -> None:
    """Create a coupon with a code of your own."""
    coupon = Coupon(
        promotion=to_promotion_name(promotion),
        max_uses=max_uses,
        max_uses_per_customer=max_per_customer,
        start_time=parse_bound(start),
        end_time=parse_bound(end),
    )
    session.screen.show_message(session.client.coupons.create(coupon, coupon_id=code, **session.creation_options))


def generate_coupons(
    session: Session,
    count: Annotated[int, typer.Argument(min=1, max=1000, help="Number of coupons.")],
    promotion: Annotated[str, PROMOTION],
    prefix: Annotated[str, typer.Option("--prefix", help="What the codes begin with: letters and digits.")] = "",
    max_uses: Annotated[int, MAX_USES] = 1,
    max_per_customer: Annotated[int, MAX_PER_CUSTOMER] = 0,
    start: Start = "",
    end: End = "",
) -> None:
    """Generate coupons with random codes, each for one order unless told otherwise."""
    coupons = session.client.coupons.generate(
        to_promotion_name(promotion),
        count,
        prefix=prefix,
        max_uses=max_uses,
        max_uses_per_customer=max_per_customer,
        start_time=parse_time(start) if start else None,
        end_time=parse_time(end) if end else None,
        **session.creation_options,
    )
    session.screen.show_messages(coupons, columns=COLUMNS)


def update_coupon(
    session: Session,
    code: Code,
    max_uses: Annotated[int | None, MAX_USES] = None,
    max_per_customer: Annotated[int | None, MAX_PER_CUSTOMER] = None,
    start: Start = "",
    end: End = "",
    clear: Clear = None,
    etag: Etag = "",
) -> None:
    """Change the given fields of a coupon."""
    changes, mask = build_update(
        Coupon,
        to_coupon_name(code),
        etag=etag,
        clear=clear or (),
        max_uses=max_uses,
        max_uses_per_customer=max_per_customer,
        start_time=parse_bound(start),
        end_time=parse_bound(end),
    )
    session.screen.show_message(session.client.coupons.update(changes, update_mask=mask, **session.write_options))
