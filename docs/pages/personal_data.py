"""Reference page of personal data: the fields with the option `personal`, their purposes, and where values are kept."""

from __future__ import annotations

from contract import read_contract

from docs.pages.markdown import code, head, table
from storekeep.v1 import options_pb2

CONTRACT = read_contract()
INTRODUCTION = """
These fields may hold data about persons. Callers without the permission `customers.personal.read` get `***` instead of
their values, also in events, histories, audit entries and full webhooks. They cannot filter, sort or search by them,
or write `***` back. Their dry runs return no `etag` and `update_time`, which would tell whether they guessed a value.
`labels` and `groups` are for programs and are not masked: keep personal data out of them, and out of the ids of
resources. References of orders are numbers of other systems and are not masked either.

`storekeep customers export`, and the page of a customer in the console, write everything about one customer to a file;
the audit log records each export. It also records accounts that get many resources with personal data, one by one or in
lists, as entries of the type `personal_data.read`; see `STOREKEEP_AUDIT_PERSONAL_READS` in the
[settings](configuration.md).
"""
CATEGORIES = """
## Categories

"""
KEPT = """
## Where values are kept

The database and its backups have the values encrypted (AES-256-GCM) with the data key of the person, and each is bound
to its resource. A filter compares texts as a whole, by a blind index: a keyed hash beside the encrypted value. The
country of an address is not encrypted, because taxes and filters need it.
"""
PLACES = (
    ("table `customers`", "customers", "until the customer is changed"),
    ("table `customer_documents`", "keyed hashes of the words by which customers are found", "until it is changed"),
    (
        "tables `orders`, `fulfillments`, `reservations`, `quotes`",
        "orders, their parts, and quotes",
        "until they are changed",
    ),
    ("table `order_notes`", "notes on orders", "for good"),
    (
        "table `audit_entries`",
        "each resource before and after each change, for audits, events and webhooks",
        "for good",
    ),
    ("table `replies`", "replies that a retry returns, and keyed hashes of the requests", "7 days"),
    ("table `webhook_deliveries`", "the beginning of a receiver's reply", "as long as the delivery"),
    ("table `users`", "the name and the email address of a user", "until they are changed; a deletion keeps them"),
    (
        "backups",
        "all of these, without the keys",
        "as long as you keep it with a keys file",
    ),
    ("files of `storekeep import`, on its host, in clear", "rows of the imported file", "until the import ends"),
    (
        "memory of the gateway, in clear",
        "forms of new orders and files of imports in the console",
        "until the session ends, files for an hour at most",
    ),
)
LOGS = """
The server writes no value of a request or a reply to its logs.
"""


def build_page() -> str:
    """Return the page."""
    values = options_pb2.PersonalCategory.DESCRIPTOR.values_by_number
    names = {number: value.name.removeprefix("PERSONAL_CATEGORY_") for number, value in values.items()}
    rows = [
        (code(f"{message.name}.{field.name}"), names[field.personal.category], field.personal.purpose)
        for message in CONTRACT.messages.values()
        for field in message.fields
        if field.personal.category not in (0, options_pb2.PERSONAL_CATEGORY_NONE)
    ]
    enum = CONTRACT.enums["storekeep.v1.PersonalCategory"]
    categories = [
        (code(value.name.removeprefix("PERSONAL_CATEGORY_")), value.comment)
        for value in enum.values
        if value.number not in (0, options_pb2.PERSONAL_CATEGORY_NONE)
    ]
    head_text = head("Personal data", source="the contract's `personal` options")
    fields = table(("Field", "Category", "Purpose"), rows)
    kinds = table(("Category", "Data"), categories)
    places = table(("Place", "Data", "How long"), PLACES)
    return f"{head_text}{INTRODUCTION}\n{fields}{CATEGORIES}{kinds}{KEPT}\n{places}{LOGS}"
