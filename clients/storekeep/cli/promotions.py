"""`storekeep promotions`: commands for promotions. `promotion_terms` has the options of what they give and when."""

from __future__ import annotations

from typing import Annotated

import typer

from storekeep.cli.changes import Clear, build_update
from storekeep.cli.commands import Etag, command, new_group
from storekeep.cli.listings import ResourceListing, add_listing
from storekeep.cli.pairs import parse_amount
from storekeep.cli.promotion_terms import PARTS, Currency, Terms, apply_terms, take_terms
from storekeep.cli.sessions import Session
from storekeep.cli.steps import Step, add_steps
from storekeep.cli.windows import End, Start, parse_bound
from storekeep.client import Money, Promotion, PromotionState
from storekeep.client.names import to_promotion_name

COLUMNS = ("name", "state", "display_name", "priority", "requires_coupon", "uses", "end_time")
LISTING = ResourceListing(
    "List promotions.",
    example="storekeep promotions list --state active",
    method=lambda session: session.client.promotions.list,
    columns=COLUMNS,
    filters=("state = ACTIVE", "requires_coupon = true"),
    states=lambda: PromotionState,
    soft_deletion=True,
)
STEPS = (
    Step("activate", "Activate drafts: they apply from now on.", lambda s: s.client.promotions.activate),
    Step("end", "End promotions for good.", lambda s: s.client.promotions.end),
    Step("delete", "Delete promotions; they can be undeleted.", lambda s: s.client.promotions.delete),
    Step("undelete", "Restore deleted promotions.", lambda s: s.client.promotions.undelete),
)
Name = Annotated[str, typer.Argument(help="Id or full name.")]
DISPLAY_NAME = typer.Option("--name", help="Display name.")
PRIORITY = typer.Option("--priority", min=0, help="Promotions apply by priority, the highest first.")
COUPON = typer.Option("--coupon/--no-coupon", help="Whether it applies only with one of its coupons.")
EXCLUSIVE = typer.Option("--exclusive/--combinable", help="Whether it applies alone.")
BUDGET = typer.Option("--budget", help="Maximum sum of all discounts.")
MAX_USES = typer.Option("--max-uses", min=0, help="Maximum number of orders; 0 for no limit.")


def add_promotions(app: typer.Typer) -> None:
    """Add the group to the command line."""
    group = new_group(
        app, "promotions", help="Manage promotions: discounts with conditions.", example="storekeep promotions list"
    )
    add_listing(group, LISTING)
    command(group, "show", example="storekeep promotions show spring")(show_promotion)
    create = "storekeep promotions create --id spring --percent 10 --category teas"
    command(group, "create", example=create, writes=True)(create_promotion)
    update = "storekeep promotions update spring --percent 15 --max-uses 1000"
    command(group, "update", example=update, writes=True)(update_promotion)
    add_steps(group, STEPS, noun="promotions", example_name="spring", to_name=to_promotion_name, columns=COLUMNS)


def show_promotion(session: Session, name: Name) -> None:
    """Show one promotion."""
    session.screen.show_message(session.client.promotions.get(to_promotion_name(name)))


@take_terms
def create_promotion(
    session: Session,
    promotion_id: Annotated[str, typer.Option("--id", help="Its id (default: chosen by the server).")] = "",
    display_name: Annotated[str, DISPLAY_NAME] = "",
    *,
    terms: Terms,
    currency: Currency = "",
    priority: Annotated[int, PRIORITY] = 0,
    coupon: Annotated[bool, COUPON] = False,
    exclusive: Annotated[bool, EXCLUSIVE] = False,
    max_uses: Annotated[int, MAX_USES] = 0,
    budget: Annotated[str, BUDGET] = "",
    start: Start = "",
    end: End = "",
) -> None:
    """Create a draft of a promotion."""
    if not terms.has_value:
        raise typer.BadParameter("give one of --percent, --amount and --unit-price")
    promotion = Promotion(
        display_name=display_name,
        priority=priority,
        exclusive=exclusive,
        requires_coupon=coupon,
        currency_code=currency.upper(),
        max_uses=max_uses,
        budget=_parse(budget, currency.upper()),
        start_time=parse_bound(start),
        end_time=parse_bound(end),
    )
    apply_terms(promotion, terms)
    promotions = session.client.promotions
    session.screen.show_message(promotions.create(promotion, promotion_id=promotion_id, **session.creation_options))


@take_terms
def update_promotion(
    session: Session,
    name: Name,
    display_name: Annotated[str | None, DISPLAY_NAME] = None,
    *,
    terms: Terms,
    currency: Currency = "",
    priority: Annotated[int | None, PRIORITY] = None,
    coupon: Annotated[bool | None, COUPON] = None,
    exclusive: Annotated[bool | None, EXCLUSIVE] = None,
    max_uses: Annotated[int | None, MAX_USES] = None,
    budget: Annotated[str, BUDGET] = "",
    start: Start = "",
    end: End = "",
    clear: Clear = None,
    etag: Etag = "",
) -> None:
    """Change the given fields of a promotion. A list such as --sku or --tier replaces the one of before.

    --clear action.FIELD and conditions.FIELD clear a part, such as action.items or conditions.min_subtotal.
    """
    parts = [path for path in clear or () if path.partition(".")[0] in PARTS and "." in path]
    new, changed = Promotion(currency_code=currency.upper()), list[str]()
    if parts or budget or not terms.is_empty:
        old = session.client.promotions.get(to_promotion_name(name))
        new.MergeFrom(Promotion(currency_code=old.currency_code, conditions=old.conditions, action=old.action))
        new.currency_code = currency.upper() or old.currency_code
    if parts or not terms.is_empty:
        etag = etag or old.etag
        apply_terms(new, terms, cleared=parts)
        changed = [part for part in PARTS if getattr(new, part) != getattr(old, part)] or list(PARTS)
    changes, mask = build_update(
        Promotion,
        to_promotion_name(name),
        etag=etag,
        clear=[path for path in clear or () if path not in parts],
        display_name=display_name,
        currency_code=new.currency_code if currency else None,
        priority=priority,
        requires_coupon=coupon,
        exclusive=exclusive,
        max_uses=max_uses,
        conditions=new.conditions if "conditions" in changed else None,
        action=new.action if "action" in changed else None,
        budget=_parse(budget, new.currency_code),
        start_time=parse_bound(start),
        end_time=parse_bound(end),
    )
    session.screen.show_message(session.client.promotions.update(changes, update_mask=mask, **session.write_options))


def _parse(text: str, currency_code: str) -> Money | None:
    """Parse an amount; None for an empty text.

    Raises: typer.BadParameter.
    """
    return parse_amount(text, currency_code=currency_code) if text else None
