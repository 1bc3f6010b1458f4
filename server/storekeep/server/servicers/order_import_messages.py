"""Between the contract's messages of imports of orders and the domain's values."""

from __future__ import annotations

from storekeep.server.domain.errors import InvalidAmount, UnknownCurrency
from storekeep.server.domain.money import Money
from storekeep.server.domain.orders import historic, imports
from storekeep.server.domain.orders.historic import HistoricLine, HistoricOrder
from storekeep.server.servicers.converters import address_from, id_of, money_from, time_us_of
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


def historic_order_from(message: pb.HistoricOrder) -> imports.Item:
    """A historic order; its result where an amount in it is none."""
    try:
        return HistoricOrder(
            number=message.number,
            customer_id=id_of(message.customer),
            currency_code=message.currency_code,
            order_time_us=time_us_of(message.order_time),
            lines=tuple(_historic_line_from(line) for line in message.lines),
            shipping=_amount_in(message, "shipping"),
            ship_time_us=time_us_of(message.ship_time) if message.HasField("ship_time") else None,
            carrier=message.carrier,
            tracking_number=message.tracking_number,
            shipping_address=address_from(message.shipping_address) if message.HasField("shipping_address") else None,
            note=message.note,
            location_id=id_of(message.location),
            total=_amount_in(message, "total"),
        )
    except UnknownCurrency as error:
        return imports.refused(message.number, historic.CURRENCY, str(error))
    except InvalidAmount as error:
        return imports.refused(message.number, historic.AMOUNT, str(error))


def _historic_line_from(message: pb.HistoricOrderLine) -> HistoricLine:
    return HistoricLine(
        sku=message.sku,
        quantity=message.quantity,
        unit_price=money_from(message.unit_price, field="unit_price"),
        discount=_amount_in(message, "discount_amount"),
        discount_ppm=message.discount_ppm,
        cancelled=message.cancelled_quantity,
        total=_amount_in(message, "total"),
    )


def _amount_in(message: pb.HistoricOrder | pb.HistoricOrderLine, field: str) -> Money | None:
    """The amount in a field that may be absent."""
    return money_from(getattr(message, field), field=field) if message.HasField(field) else None  # type: ignore[arg-type]  # both have the fields


def import_result_message(result: imports.Result) -> pb.OrderImportResult:
    """What became of a historic order as the contract writes it."""
    return pb.OrderImportResult(
        number=result.number,
        outcome=OUTCOMES[result.outcome],
        order=result.order,
        problem=PROBLEMS[result.problem],
        detail=result.detail,
    )
