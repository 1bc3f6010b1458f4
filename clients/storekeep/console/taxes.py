"""Pages of tax zones, tax rates and shipping methods."""

from __future__ import annotations

from storekeep.client import ShippingMethod, TaxRate, TaxZone
from storekeep.console.forms import FormField
from storekeep.console.rendering import format_money, format_time
from storekeep.console.resources import Column, Filter, Kind

READ, WRITE = "pricing.read", "pricing.write"
BASES = {
    "SHIPPING_BASIS_FLAT": "One price",
    "SHIPPING_BASIS_BY_WEIGHT": "By weight",
    "SHIPPING_BASIS_BY_SUBTOTAL": "By the amount of the lines",
}
AREAS = FormField("areas", "Areas", kind="areas", hint="one on each line: DE, US/NY (region) or US//100 (postal code)")
COMPONENTS = FormField(
    "components", "Taxes", kind="taxes", hint="one on each line: VAT 19 %; QST 9.975 compound is also on those above"
)
PRICES = FormField(
    "prices",
    "Prices",
    kind="shipping_prices",
    hint="one on each line: 4.90 EUR, from 5000 g: 9.90 EUR, from 50 EUR: 0 EUR",
)
BASIS = FormField("basis", "The price depends on", kind="choice", choices=BASES)
ZONES = Kind(
    "taxZones",
    "tax zone",
    "Tax zones",
    TaxZone,
    select=lambda client: client.tax_zones,
    id_parameter="tax_zone_id",
    read=READ,
    write=WRITE,
    fields=(FormField("display_name", "Name"), AREAS),
    columns=(Column("Areas", lambda _, zone: AREAS.read(zone)),),
    hint="There are no tax zones yet. A tax zone is a set of areas with the same tax rates.",
    delete_text="Orders into its areas are no longer taxed. A zone with rates cannot be deleted.",
    order_by="display_name",
)
RATES = Kind(
    "taxRates",
    "tax rate",
    "Tax rates",
    TaxRate,
    select=lambda client: client.tax_rates,
    id_parameter="tax_rate_id",
    read=READ,
    write=WRITE,
    fields=(
        FormField("display_name", "Name"),
        FormField("tax_zone", "Tax zone", kind="zone", only_new=True, source="taxZones"),
        FormField("tax_class", "Tax class", hint="such as reduced; empty: all without a rate of their own"),
        COMPONENTS,
        FormField("start_time", "Begins", kind="time", hint="empty: always"),
        FormField("end_time", "Ends", kind="time", hint="empty: never"),
    ),
    columns=(
        Column("Zone", lambda request, rate: request.link(rate.tax_zone, rate.tax_zone.removeprefix("taxZones/"))),
        Column("Class", lambda _, rate: rate.tax_class or "Standard"),
        Column("Taxes", lambda _, rate: COMPONENTS.read(rate)),
        Column("Begins", lambda _, rate: format_time(rate.start_time)),
        Column("Ends", lambda _, rate: format_time(rate.end_time)),
    ),
    hint="There are no tax rates yet. Create a tax zone first, then its rates.",
    delete_text="New orders are no longer taxed by it. Existing orders keep it, and it can be restored.",
    filters=(Filter("zone", "Tax zone", "tax_zone", "taxZones"), Filter("class", "Tax class", "tax_class")),
)
SHIPPING = Kind(
    "shippingMethods",
    "shipping method",
    "Shipping methods",
    ShippingMethod,
    select=lambda client: client.shipping_methods,
    id_parameter="shipping_method_id",
    read=READ,
    write=WRITE,
    fields=(
        FormField("display_name", "Name"),
        BASIS,
        PRICES,
        FormField("free_from", "Free from", kind="amount", hint="amount of the lines; empty: never"),
        FormField("tax_zones", "Ships to", kind="zones", hint="ids of tax zones, one on each line; empty: everywhere"),
        FormField("tax_class", "Tax class"),
    ),
    columns=(
        Column("Price", lambda _, method: BASES.get(BASIS.read(method), BASES["SHIPPING_BASIS_FLAT"])),
        Column("Prices", lambda _, method: PRICES.read(method)),
        Column(
            "Free from",
            lambda request, one: format_money(one.free_from, request.locale) if one.HasField("free_from") else "",
            is_number=True,
        ),
        Column("Ships to", lambda _, one: ", ".join(zone.rpartition("/")[2] for zone in one.tax_zones) or "Everywhere"),
    ),
    hint="There are no shipping methods yet. A shipping method has a price, which orders with it pay.",
    delete_text="New orders cannot choose it. Existing orders keep it, and it can be restored.",
    order_by="display_name",
)
ROUTES = (*ZONES.make_routes(), *RATES.make_routes(), *SHIPPING.make_routes())
