"""Pages of coupons: single ones, and many with random codes, which are shown and downloaded."""

from __future__ import annotations

from datetime import UTC

from storekeep.client import Coupon
from storekeep.console.forms import FormField, build_new, list_values
from storekeep.console.pickers import add_options
from storekeep.console.promotions import link_promotion
from storekeep.console.rendering import format_time
from storekeep.console.requests import BadRequest, Faults, Inputs, Reply, Request, Route
from storekeep.console.resources import Column, Filter, Kind

READ, WRITE = "coupons.read", "coupons.write"
COUNT_MAX = 1_000
FIELDS = (
    FormField("promotion", "Promotion", kind="promotion", only_new=True, source="promotions"),
    FormField("max_uses", "Orders at most", kind="whole", hint="empty: no limit"),
    FormField("max_uses_per_customer", "Orders of one customer at most", kind="whole", hint="empty: no limit"),
    FormField("start_time", "Begins", kind="time", hint="empty: at once"),
    FormField("end_time", "Ends", kind="time", hint="empty: never"),
)
GENERATE_INPUTS = Inputs(
    {"count": "How many", "prefix": "The codes begin with", **{item.name: item.label for item in FIELDS}}
)
KIND = Kind(
    "coupons",
    "coupon",
    "Coupons",
    Coupon,
    select=lambda client: client.coupons,
    id_parameter="coupon_id",
    read=READ,
    write=WRITE,
    fields=FIELDS,
    columns=(
        Column("Promotion", lambda request, one: link_promotion(request, one.promotion)),
        Column("Orders", lambda request, one: request.count(one.uses), is_number=True),
        Column("At most", lambda request, one: request.count(one.max_uses) if one.max_uses else "", is_number=True),
        Column("Ends", lambda _, one: format_time(one.end_time)),
    ),
    hint="There are no coupons yet. A coupon is a code that makes a promotion apply.",
    delete_text="The code no longer applies. Orders keep it, and it can be restored.",
    filters=(Filter("promotion", "Promotion", "promotion", "promotions"), Filter("code", "Code", "code")),
    new_template="coupon-new.html",
    get_title=lambda coupon: coupon.code,
)


def show_generate(request: Request) -> Reply:
    """Show the form of many coupons."""
    values = [(item, text or request.query[item.name]) for item, text in list_values(FIELDS, request)]
    return request.page(
        "coupons-generate.html",
        title="Many coupons",
        inputs=GENERATE_INPUTS,
        fields=add_options(request, values),
        coupons=(),
        promotion="",
    )


def generate(request: Request) -> Reply:
    """Generate coupons with random codes, and show them. Raises: StorekeepError, BadRequest."""
    pattern, count, faults = Coupon(), 0, Faults()
    with faults.collect():
        count = request.number("count", label="How many")
        if not 1 <= count <= COUNT_MAX:
            raise BadRequest(f"How many: enter a number from 1 to {COUNT_MAX:,}.", field="count")
    with faults.collect():
        build_new(FIELDS, request, pattern)
    with faults.collect():
        if not request.field("promotion"):
            raise BadRequest("Promotion: choose the one that the coupons make apply.", field="promotion")
    faults.check()
    coupons = request.session.client.coupons.generate(
        pattern.promotion,
        count,
        prefix=request.field("prefix"),
        max_uses=pattern.max_uses,
        max_uses_per_customer=pattern.max_uses_per_customer,
        start_time=pattern.start_time.ToDatetime(UTC) if pattern.HasField("start_time") else None,
        end_time=pattern.end_time.ToDatetime(UTC) if pattern.HasField("end_time") else None,
        **request.write_options(),
    )
    title = request.count(len(coupons), "new coupon")
    promotion = pattern.promotion.removeprefix("promotions/")
    return request.page("coupons-generate.html", title=title, fields=(), coupons=coupons, promotion=promotion)


ROUTES = (
    Route("GET", "/coupons/generate", show_generate, WRITE),
    Route("POST", "/coupons/generate", generate, WRITE, show_generate),
    *KIND.make_routes(),
)
