"""Files with everything that is stored about one customer: JSON for programs, and a page for people."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Mapping
from typing import Any

from google.protobuf.json_format import MessageToDict
from google.type.money_pb2 import Money

from storekeep.client.money import format_decimals
from storekeep.v1.customers_pb2 import CustomerExport, CustomerRecord

FORMAT = "storekeep-customer-data-1"
SECTIONS = {
    "customer": "Customer",
    "order": "Orders",
    "order_note": "Notes on orders",
    "fulfillment": "Deliveries",
    "reservation": "Reservations",
    "quote": "Quotes",
    "audit_entry": "Changes",
}
"""The kind of a record -> the heading of its section on the page."""
TIME = re.compile(r"\A(\d{4}-\d\d-\d\d)T(\d\d:\d\d:\d\d)(?:\.\d+)?Z\Z")
"""A time as JSON has it."""
STYLE = "body{font:1rem/1.5 sans-serif;margin:2rem auto;max-width:60rem;padding:0 1rem}\
h2{margin-top:2.5rem}h3{margin:1.5rem 0 .5rem}\
table{border-collapse:collapse;width:100%}td table{margin:.25rem 0}\
th,td{border-top:1px solid #ddd;overflow-wrap:anywhere;padding:.25rem .5rem;text-align:left;vertical-align:top}\
th{color:#555;font-weight:normal;width:30%}@media(max-width:30rem){body{margin:1rem auto}th{width:40%}}"


def build_customer_document(export: CustomerExport, records: Iterable[CustomerRecord]) -> dict[str, Any]:
    """Return an export as a JSON document, with a list of records for each kind."""
    data: dict[str, list[Any]] = {kind: [] for kind in SECTIONS}
    for record in records:
        kind = record.WhichOneof("record")
        if kind is not None:
            data[kind].append(MessageToDict(getattr(record, kind), preserving_proto_field_name=True))
    return {
        "format": FORMAT,
        "customer": export.customer,
        "create_time": export.create_time.ToJsonString(),
        "data": data,
    }


def build_customer_page(document: Mapping[str, Any]) -> str:
    """Return an HTML page of a document of `build_customer_document`: a table for each record, with those inside it."""
    title = html.escape(f"Data about {document['customer']}")
    lines = [
        "<!doctype html>",
        f'<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f"<title>{title}</title><style>{STYLE}</style>",
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">",
        f"<h1>{title}</h1><p>Exported {_format_text(document['create_time'])}.</p>",
    ]
    for kind, heading in SECTIONS.items():
        records = document["data"][kind]
        if records:
            lines.append(f"<h2>{heading}</h2>")
            lines += [_format_record(record) for record in records]
    return "\n".join([*lines, "</html>", ""])


def _format_record(record: Mapping[str, Any]) -> str:
    title = record.get("number") or record.get("display_name") or record.get("type") or ""
    heading = f"<h3>{html.escape(str(title))}</h3>" if title else ""
    return heading + _format_value(record)


def _format_value(value: Any, name: str = "") -> str:
    """Return a value as HTML: an amount as one text, an object as a table, and a list as its items."""
    if isinstance(value, Mapping) and name != "labels" and (amount := _format_amount(value)):
        return amount
    if isinstance(value, Mapping):
        rows = []
        for key, inner in value.items():
            if inner not in ("", None, {}, []):
                is_own = name == "labels"  # a key that somebody chose
                heading = html.escape(key if is_own else key.replace("_", " ").capitalize())
                rows.append(f"<tr><th>{heading}<td>{_format_value(inner, '' if is_own else key)}")
        return f"<table>{''.join(rows)}</table>"
    if isinstance(value, list):
        return "<br>".join(_format_value(inner, name) for inner in value)
    text = str(value)
    return _format_text(text.rpartition("_STATE_")[2].replace("_", " ").capitalize() if name == "state" else text)


def _format_amount(value: Mapping[str, Any]) -> str:
    """Return an amount as HTML; empty for any other object."""
    if not {"currency_code"} <= value.keys() <= {"currency_code", "units", "nanos"}:
        return ""
    try:
        money = Money(
            currency_code=value["currency_code"], units=int(value.get("units", 0)), nanos=value.get("nanos", 0)
        )
    except (TypeError, ValueError):
        return ""
    return html.escape(f"{format_decimals(money)} {money.currency_code}")


def _format_text(text: str) -> str:
    """Return a text as HTML; a time without fractions of a second."""
    return html.escape(TIME.sub(r"\1 \2 UTC", text))
