"""The conventions of the contract, which callers can rely on for every RPC."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

import pytest
from buf.validate import validate_pb2
from contract import PACKAGE, Field, Message, Method, Service, read_contract, read_files

from storekeep.server.domain import customers
from storekeep.server.domain.access import accounts, api_keys, roles, user_sessions, users
from storekeep.server.domain.audit import checkpoints, log
from storekeep.server.domain.catalog import categories, products, variants
from storekeep.server.domain.events import reading
from storekeep.server.domain.orders import fulfillments, orders, quotes
from storekeep.server.domain.pricing import coupons, prices, promotions, shipping_methods, tax_rates, tax_zones
from storekeep.server.domain.standard.filters import Kind
from storekeep.server.domain.stock import levels, locations, reservations
from storekeep.server.domain.webhooks import deliveries, endpoints, event_types
from tests.support.checkout import ROOT

CONTRACT = read_contract()
METHODS = list(CONTRACT.methods)
REASONS = {reason.name for reason in CONTRACT.reasons}
CLASSES_OF_CALLERS = {"public", "authenticated"}
NO_REASONS_OF_ITS_OWN = "only those shared by all RPCs"
# Reads that may take minutes are not GETs, because proxies repeat and cache those. A basket is too long for a URL.
LONG_READS = {"VerifyAuditChain", "QuoteOrder"}
# A batch of names may be too long for a URL: 1,000 names have 60 KB, and proxies accept 8 to 16.
BATCH_READS = "BatchGet"
# RPCs that the writer runs without being mutations: tokens and the own account have no `request_id`, and a preview is
# rolled back.
WRITERS_WITHOUT_AUDIT = {
    "SignInWithIdentityToken",
    "IssueToken",
    "RefreshToken",
    "RevokeToken",
    "EndOwnSessions",
    "PreviewOrderEdit",
}
# RPCs that compute the hash of a password. They have no `request_id`: the stored digest of a request would be that of a
# password.
HASHING = {"SignIn", "RedeemPasswordLink", "ChangePassword", "EnableTotp", "DisableTotp"}
# The packages with a file for each service. The domain and the command line have one for each resource instead.
ROOMS_OF_NOUNS = ("server/storekeep/server/servicers", "clients/storekeep/client")
# Protobuf's own types. The message limit bounds their size, and the domain checks their paths.
FOREIGN = "google."

each_service = pytest.mark.parametrize("service", CONTRACT.services, ids=lambda service: service.name)


def get_request(method: Method) -> Message:
    return CONTRACT.messages[method.request]


def stated_reasons(comment: str) -> list[str]:
    """Return the reasons that an RPC's comment lists after `Errors:`."""
    listed = comment.partition("Errors: ")[2].rstrip(".")
    return [] if listed == NO_REASONS_OF_ITS_OWN else listed.split(", ")


def shared_reasons() -> set[str]:
    """Return the reasons that the head of errors.proto lists for every RPC or every mutation."""
    head = (ROOT / "protos/storekeep/v1/errors.proto").read_text().partition("syntax =")[0]
    return set(re.findall(r"\b[A-Z]{4,}(?:_[A-Z]+)*\b", head)) - {"ERROR_REASON"}


def incoming_fields() -> Iterator[tuple[str, Field]]:
    """Yield the path and the field of every input: the fields of requests and of messages in them."""
    reached: set[str] = set()
    waiting = [method.request for method in METHODS]
    while waiting:
        name = waiting.pop()
        if name in reached or name.startswith(FOREIGN) or name not in CONTRACT.messages:
            continue
        reached.add(name)
        for field in CONTRACT.messages[name].fields:
            if "OUTPUT_ONLY" in field.behaviors:
                continue
            yield f"{name.removeprefix(f'{PACKAGE}.')}.{field.name}", field
            if field.is_message:
                waiting.append(get_map_value(field).kind if is_map(field) else field.kind)


def is_map(field: Field) -> bool:
    return field.kind in CONTRACT.messages and CONTRACT.messages[field.kind].is_map_entry


def get_map_value(field: Field) -> Field:
    return next(part for part in CONTRACT.messages[field.kind].fields if part.name == "value")


def is_bounded_string(rules: validate_pb2.StringRules) -> bool:
    """Whether the length of a string is bounded, by a length, a pattern, or the format of a UUID."""
    repetitions = re.search(r"[*+]|,\}", re.sub(r"\[[^]]*\]", "", rules.pattern))
    return bool(rules.max_len or rules.uuid or (rules.pattern and not repetitions))


def is_bounded(field: Field) -> bool:
    """Whether a field is bounded in length, number or choice."""
    rules = field.rules
    if is_map(field):
        is_bounded_value = get_map_value(field).is_message or is_bounded_string(rules.map.values.string)
        return bool(rules.map.max_pairs) and is_bounded_string(rules.map.keys.string) and is_bounded_value
    if field.repeated and not rules.repeated.max_items:
        return False
    one = rules.repeated.items if field.repeated else rules
    if field.kind == "string":
        return is_bounded_string(one.string)
    if field.kind == "bytes":
        return bool(one.bytes.max_len or one.bytes.len)
    return one.enum.defined_only if field.kind in CONTRACT.enums else True


def list_names(methods: Iterable[Method]) -> list[str]:
    return [method.name for method in methods]


def test_every_method_states_its_permission() -> None:
    def states(method: Method) -> bool:
        known = method.permission in CLASSES_OF_CALLERS
        return known or re.fullmatch(r"[a-z]+\.(read|write|import|export|erase|merge)", method.permission) is not None

    assert not list_names(method for method in METHODS if not states(method))


def test_every_method_has_a_route_of_its_own() -> None:
    routes = [route for method in METHODS for route in method.routes]
    assert not list_names(method for method in METHODS if not method.routes)
    assert all(path.startswith("/v1/") for _, path in routes)
    assert len(routes) == len(set(routes))


def test_reads_are_gets_and_changes_are_not() -> None:
    def fits(method: Method) -> bool:
        verbs = {verb for verb, _ in method.routes}
        if method.mutation:
            return "GET" not in verbs
        reads = method.permission.endswith(".read") and method.name not in LONG_READS
        return verbs == ({"GET", "POST"} if method.name.startswith(BATCH_READS) else {"GET"}) if reads else True

    assert not list_names(method for method in METHODS if not fits(method))


def test_every_method_states_its_executor_and_it_agrees_with_what_the_method_does() -> None:
    def fits(method: Method) -> bool:
        verbs = {verb for verb, _ in method.routes}
        if method.mutation:
            return method.executor == "WRITER"
        if "GET" in verbs or get_request(method).get_field("max_staleness") is not None:
            return method.executor == "READER"
        return method.executor in {"READER", "WRITER", "PASSWORD"}

    assert not list_names(method for method in METHODS if not fits(method))


def test_what_the_writer_runs_without_being_a_mutation_is_known() -> None:
    writers = {method.name for method in METHODS if method.executor == "WRITER" and not method.mutation}
    assert writers == WRITERS_WITHOUT_AUDIT
    assert {method.name for method in METHODS if method.executor == "PASSWORD"} == HASHING


def test_comments_of_methods_list_the_errors_of_their_options() -> None:
    differing = {
        method.name: (stated_reasons(method.comment), method.reasons)
        for method in METHODS
        if "Errors: " not in method.comment or stated_reasons(method.comment) != list(method.reasons)
    }
    assert not differing


def test_every_mutation_can_be_retried_and_tried_first_and_nothing_else_can() -> None:
    def fits(method: Method) -> bool:
        fields = {field.name for field in get_request(method).fields}
        return method.mutation == ("request_id" in fields) == ("validate_only" in fields)

    assert not list_names(method for method in METHODS if not fits(method))


def test_every_read_may_be_old_and_nothing_else_may() -> None:
    def fits(method: Method) -> bool:
        field = get_request(method).get_field("max_staleness")
        reads = method.permission.endswith((".read", ".export")) and not method.mutation
        bounded = field is not None and field.rules.duration.HasField("lte") and field.rules.duration.HasField("gte")
        return bounded if reads else field is None

    assert not list_names(method for method in METHODS if not fits(method))


def test_no_mutation_is_open_to_everybody() -> None:
    assert not list_names(method for method in METHODS if method.mutation and method.permission in CLASSES_OF_CALLERS)


def test_every_list_has_pages() -> None:
    def has_pages(method: Method) -> bool:
        size, token = get_request(method).get_field("page_size"), get_request(method).get_field("page_token")
        following = CONTRACT.messages[method.response].get_field("next_page_token")
        reduced = size is not None and size.rules.int32.HasField("gte") and not size.rules.int32.HasField("lte")
        return bool(reduced and token and following)

    lists = [method for method in METHODS if method.name.startswith(("List", "Search"))]
    assert lists
    assert not list_names(method for method in lists if not has_pages(method))


def test_every_list_counts_its_results_on_request() -> None:
    lists = [method for method in METHODS if method.name.startswith("List")]
    replies = [CONTRACT.messages[method.response] for method in lists]
    assert not [m.name for m in lists if get_request(m).get_field("include_total_size") is None]
    assert all(reply.get_field("total_size") and reply.get_field("total_size_is_lower_bound") for reply in replies)


def test_every_read_of_resources_takes_a_mask() -> None:
    def reads_resources(method: Method) -> bool:
        return method.name.startswith(("List", "BatchGet", "Search")) or (
            method.name.startswith("Get") and get_request(method).get_field("name") is not None
        )

    masked = {method.name for method in METHODS if get_request(method).get_field("read_mask") is not None}
    assert masked == {method.name for method in METHODS if reads_resources(method)}


def test_every_list_of_resources_with_an_update_time_sorts_by_it() -> None:
    for method in METHODS:
        order_by = get_request(method).get_field("order_by")
        if order_by is None:
            continue
        (items,) = (field for field in CONTRACT.messages[method.response].fields if field.repeated)
        updated = CONTRACT.messages[items.kind].get_field("update_time") is not None
        assert ("`update_time`" in order_by.comment) == updated, method.name


LISTINGS = (
    accounts.LISTING,
    api_keys.LISTING,
    roles.LISTING,
    users.LISTING,
    user_sessions.LISTING,
    log.LISTING,
    checkpoints.LISTING,
    categories.LISTING,
    products.LISTING,
    variants.LISTING,
    customers.LISTING,
    orders.LISTING,
    quotes.LISTING,
    fulfillments.LISTING,
    levels.LEVEL_LISTING,
    levels.MOVEMENT_LISTING,
    locations.LISTING,
    reservations.LISTING,
    reading.LISTING,
    endpoints.LISTING,
    deliveries.LISTING,
    tax_zones.LISTING,
    tax_rates.LISTING,
    prices.LISTING,
    promotions.LISTING,
    coupons.LISTING,
    shipping_methods.LISTING,
)


def test_comments_of_filters_and_orders_name_the_fields_of_each_list() -> None:
    def list_fields(comment: str) -> list[str]:
        return re.findall(r"`([a-z][a-z_.]*(?:\.KEY)?)`", comment.partition(" Default: ")[0])

    lists = {method.name: get_request(method) for method in METHODS if get_request(method).get_field("filter")}
    assert {listing.method for listing in LISTINGS} == set(lists)
    for listing in LISTINGS:
        kinds = {name: column.field.kind for name, column in listing.columns.items() if column.field}
        filters, order = (lists[listing.method].get_field(name) for name in ("filter", "order_by"))
        assert filters
        assert order
        shown = {f"{name}.KEY" if kind is Kind.MAP else name for name, kind in kinds.items()}
        assert set(list_fields(filters.comment)) == shown, listing.method
        sortable = {name for name, column in listing.columns.items() if column.sortable}
        assert set(list_fields(order.comment)) == sortable, listing.method


def test_every_incoming_field_states_its_behavior() -> None:
    assert not [path for path, field in incoming_fields() if not field.behaviors]


def test_every_file_names_its_package_in_go_and_java() -> None:
    for file in read_files():
        options = file.options
        assert options.go_package == "storekeep/v1;storekeepv1", file.name
        assert (options.java_package, options.java_multiple_files) == ("storekeep.v1", True), file.name
        assert options.java_outer_classname.endswith("Proto"), file.name


def test_table_of_the_aips_names_tests_that_exist() -> None:
    design = (ROOT / "docs/technical-design.md").read_text()
    table = design.partition("### The AIPs")[2].partition("\n\nCalls")[0]
    rows = [line.split(" | ") for line in table.splitlines() if re.match(r"\| [\[\d]", line)]
    assert len(rows) >= 25
    for number, held, tests in rows:
        named = re.findall(r"`(tests/[^`]+)`", tests)
        assert all((ROOT / path).exists() for path in named), number
        assert named or "`buf" in tests or held.startswith("no"), number


def test_every_reason_is_used_or_shared() -> None:
    used = {reason for method in METHODS for reason in method.reasons}
    unused = REASONS - used - shared_reasons()
    assert not unused, "used by no RPC and not named at the head of errors.proto"


def test_shared_reasons_exist() -> None:
    assert shared_reasons() <= REASONS


def test_every_incoming_field_is_bounded() -> None:
    fields = dict(incoming_fields())
    assert len(fields) > 300
    assert not [path for path, field in fields.items() if not is_bounded(field)]


def test_everything_has_a_comment() -> None:
    messages = {name: message for name, message in CONTRACT.messages.items() if not message.is_map_entry}
    bare = [service.name for service in CONTRACT.services if not service.comment]
    bare += list_names(method for method in METHODS if not method.comment)
    bare += [name for name, message in messages.items() if not message.comment]
    bare += [f"{name}.{part.name}" for name, message in messages.items() for part in message.fields if not part.comment]
    bare += [value.name for enum in CONTRACT.enums.values() for value in enum.values if not value.comment]
    assert not bare


@pytest.mark.parametrize("place", ["contract", "docs"])
def test_each_noun_of_events_is_named(place: str) -> None:
    (comment,) = (service.comment for service in CONTRACT.services if service.name == "EventService")
    text = comment if place == "contract" else (ROOT / "docs/events.md").read_text().split("\n\n")[1]
    named = " ".join(text.replace("fulfilment", "fulfillment").split())
    assert not [noun for noun in reading.PERMISSIONS if noun.replace("_", " ") not in named]


def test_page_on_webhooks_names_each_noun() -> None:
    text = (ROOT / "docs/webhooks.md").read_text()
    assert not [noun for noun in event_types.PERMISSIONS if f"`{noun}`" not in text]


@each_service
def test_noun_of_service_names_its_files(service: Service) -> None:
    missing = [room for room in ROOMS_OF_NOUNS if not (ROOT / room / f"{service.noun}.py").exists()]
    assert not missing
