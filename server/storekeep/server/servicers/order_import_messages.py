"""Conversion of historic orders and import results between contract messages and domain values."""

from __future__ import annotations

from collections.abc import Iterable

from storekeep.server.domain.errors import InvalidAmount, UnknownCurrency
from storekeep.server.domain.money import Money
from storekeep.server.domain.orders import historic, imports
from storekeep.server.domain.orders.historic import HistoricLine, HistoricOrder, HistoricTax
from storekeep.server.servicers.converters import parse_id, parse_money_message, parse_time_us
from storekeep.server.servicers.order_messages import parse_description
from storekeep.v1 import orders_pb2 as pb

OUTCOMES = {
    imports.IMPORTED: pb.ORDER_IMPORT_OUTCOME_IMPORTED,
    imports.ALREADY_THERE: pb.ORDER_IMPORT_OUTCOME_ALREADY_THERE,
    imports.REFUSED: pb.ORDER_IMPORT_OUTCOME_REFUSED,
}
PROBLEMS = {
    "": pb.ORDER_IMPORT_PROBLEM_UNSPECIFIED,
    **{problem: pb.OrderImportProblem.Value(f"ORDER_IMPORT_PROBLEM_{problem}") for problem in historic.PROBLEMS},
}


def parse_historic_order(message: pb.HistoricOrder) -> imports.Item:
    """Parse a historic order; return its import result instead if an amount is invalid."""
    try:
        return HistoricOrder(
            number=message.number,
            customer_id=parse_id(message.customer),
            currency_code=message.currency_code,
            order_time_us=parse_time_us(message.order_time),
            lines=tuple(_parse_historic_line(line) for line in message.lines),
            shipping=_parse_amount(message, "shipping"),
            ship_time_us=parse_time_us(message.ship_time) if message.HasField("ship_time") else None,
            carrier=message.carrier,
            tracking_number=message.tracking_number,
            note=message.note,
            location_id=parse_id(message.location),
            total=_parse_amount(message, "total"),
            **parse_description(message),
            external_reference=message.external_reference,
            source=message.source,
            unique_reference=message.unique_external_reference,
            shipping_tax=_parse_amount(message, "shipping_tax"),
            prices_include_tax=message.prices_include_tax,
            shipping_taxes=_parse_taxes(message.shipping_taxes),
        )
    except UnknownCurrency as error:
        return imports.build_refusal(message.number, historic.CURRENCY, str(error))
    except InvalidAmount as error:
        return imports.build_refusal(message.number, historic.AMOUNT, str(error))


def _parse_historic_line(message: pb.HistoricOrderLine) -> HistoricLine:
    return HistoricLine(
        sku=message.sku,
        quantity=message.quantity,
        unit_price=parse_money_message(message.unit_price, field="unit_price"),
        discount=_parse_amount(message, "discount_amount"),
        discount_ppm=message.discount_ppm,
        cancelled=message.cancelled_quantity,
        shipped=message.shipped_quantity if message.HasField("shipped_quantity") else None,
        total=_parse_amount(message, "total"),
        tax=_parse_amount(message, "tax"),
        taxes=_parse_taxes(message.taxes),
    )


def _parse_taxes(messages: Iterable[pb.HistoricTax]) -> tuple[HistoricTax, ...]:
    return tuple(
        [
            HistoricTax(one.display_name, one.rate_ppm, parse_money_message(one.amount, field="taxes"))
            for one in messages
        ]
    )


def _parse_amount(message: pb.HistoricOrder | pb.HistoricOrderLine, field: str) -> Money | None:
    """Parse the amount in an optional field; None if it is absent."""
    if not message.HasField(field):  # type: ignore[arg-type]  # both have the fields
        return None
    return parse_money_message(getattr(message, field), field=field)


def build_import_result(result: imports.Result) -> pb.OrderImportResult:
    """Build the message of the import result of a historic order."""
    return pb.OrderImportResult(
        number=result.number,
        outcome=OUTCOMES[result.outcome],
        order=result.order,
        problem=PROBLEMS[result.problem],
        detail=result.detail,
        taken_units=[
            pb.TakenUnits(sku=units.sku, location=f"locations/{units.location_id}", quantity=units.quantity)
            for units in result.taken
        ],
    )
