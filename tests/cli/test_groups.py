"""The command groups with a real server: created resources can be shown, listed, changed and audited."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from storekeep.client import Storekeep
from tests.cli.test_commands import COMMANDS
from tests.support.command_line import CommandLine
from tests.support.processes import ServerProcess


def make_tea(cli: CommandLine, product_id: str, *, stock: int = 10) -> str:
    """Create a product with one variant and stock; return its SKU."""
    sku = f"{product_id.upper()}-1"
    cli.json("products", "create", "--id", product_id, "--name", f"Tea {product_id}", "--label", "season=winter")
    cli.json("variants", "create", product_id, "--id", "box", "--sku", sku, "--price", "EUR=4.50", "--option", "size=L")
    cli.json("stock", "set", sku, str(stock))
    return sku


def test_product_when_created_is_shown_listed_found_and_changed(cli: CommandLine) -> None:
    cli.json("categories", "create", "--id", "tea", "--name", "Tea")
    make_tea(cli, "assam")
    cli.json("products", "update", "assam", "--category", "tea", "--description", "malty leaves")
    shown = cli.json("products", "show", "products/assam")
    assert (shown["category"], shown["labels"]) == ("categories/tea", {"season": "winter"})
    assert [found["name"] for found in cli.json("products", "search", "malty")] == ["products/assam"]
    listed = cli.json("products", "list", "--filter", 'category = "categories/tea"')
    assert [product["name"] for product in listed] == ["products/assam"]


def test_table_shows_resources_to_people(cli: CommandLine) -> None:
    make_tea(cli, "keemun")
    run = cli("variants", "list", "keemun")
    assert run.out.split()[:4] == ["SKU", "NAME", "DISPLAY", "NAME"]
    assert "4.50 EUR" in run.out
    assert "size=L" in run.out
    detail = cli("variants", "show", "keemun/box").out
    assert "4.50 EUR" in detail
    assert "ACTIVE" in detail


def test_list_that_is_cut_names_the_limit(cli: CommandLine) -> None:
    for name in ("one", "two", "three"):
        cli.json("categories", "create", "--id", f"cut-{name}", "--name", name)
    run = cli("categories", "list", "--limit", "2", "--json")
    assert len(run.document) == 2
    assert "more than 2" in run.err
    everything = cli("categories", "list", "--limit", "0", "--json")
    assert len(everything.document) >= 3
    assert everything.err == ""


def test_list_of_nothing_is_an_empty_array(cli: CommandLine) -> None:
    assert cli.json("products", "list", "--filter", 'display_name = "nothing"') == []


def test_steps_move_a_product_there_and_back(cli: CommandLine) -> None:
    make_tea(cli, "yunnan")
    for step, state in (("archive", "ARCHIVED"), ("unarchive", "ACTIVE")):
        assert cli.json("products", step, "yunnan")[0]["state"] == f"PRODUCT_STATE_{state}"
    assert "deleteTime" in cli.json("products", "delete", "yunnan")[0]
    assert cli.json("products", "list", "--filter", 'display_name = "Tea yunnan"') == []
    assert "deleteTime" not in cli.json("products", "undelete", "yunnan")[0]


def test_step_of_many_without_yes_is_a_dry_run(cli: CommandLine) -> None:
    make_tea(cli, "sencha")
    make_tea(cli, "bancha")
    run = cli("products", "archive", "sencha", "bancha", "--json")
    assert run.code == 0
    assert "needs --yes to change anything" in run.err
    assert cli.json("products", "show", "sencha")["state"] == "PRODUCT_STATE_ACTIVE"
    cli.json("products", "archive", "sencha", "bancha", "--yes")
    assert cli.json("products", "show", "bancha")["state"] == "PRODUCT_STATE_ARCHIVED"


def test_step_of_many_that_fails_shows_what_was_done(cli: CommandLine) -> None:
    make_tea(cli, "darjeeling")
    run = cli("products", "archive", "darjeeling", "nope", "--yes", "--json")
    assert run.code == 1
    assert [product["name"] for product in run.document] == ["products/darjeeling"]
    assert "PRODUCT_NOT_FOUND" in run.err


def test_stale_etag_is_refused(cli: CommandLine) -> None:
    make_tea(cli, "oolong")
    etag = cli.json("products", "show", "oolong")["etag"]
    cli.json("products", "update", "oolong", "--name", "Oolong", "--etag", etag)
    run = cli("products", "update", "oolong", "--name", "Wulong", "--etag", etag)
    assert run.code == 1
    assert "ETAG_MISMATCH" in run.err


def test_stock_is_set_adjusted_checked_and_told(cli: CommandLine) -> None:
    sku = make_tea(cli, "matcha", stock=10)
    assert cli.json("stock", "adjust", sku, "--by", "-3", "--cause", "write-off", "--reason", "wet")["onHand"] == "7"
    assert cli.json("stock", "show", sku)[0]["onHand"] == "7"
    assert cli.json("stock", "check", sku)[0]["available"] == "7"
    newest = cli.json("stock", "movements", sku, "--limit", "0")[0]
    assert (newest["cause"], newest["reason"]) == ("STOCK_MOVEMENT_CAUSE_WRITE_OFF", "wet")
    run = cli("stock", "set", sku, "5", "--expect", "10")
    assert "QUANTITY_MISMATCH" in run.err


def test_stock_is_shown_by_location_with_its_last_movements(cli: CommandLine) -> None:
    sku = make_tea(cli, "hojicha", stock=10)
    cli.json("locations", "create", "--id", "hojicha-north", "--name", "North", "--priority", "3")
    moved = cli.json("stock", "transfer", f"{sku}=4", "--from", "main", "--to", "hojicha-north", "--reason", "opening")
    assert [level["onHand"] for level in moved] == ["6", "4"]
    shown = cli("stock", "show", sku).out
    assert "locations/hojicha-north/stockLevels/" in shown
    assert [line.split()[2] for line in shown.splitlines() if " opening" in line] == ["TRANSFER", "TRANSFER"]
    assert "TRANSFER" not in cli("stock", "show", sku, "--movements", "0").out
    assert [level["onHand"] for level in cli.json("stock", "show", sku)] == ["4", "6"]
    assert cli.json("locations", "update", "hojicha-north", "--priority", "-3")["priority"] == -3


def test_stock_that_runs_out_is_listed(cli: CommandLine) -> None:
    sku = make_tea(cli, "pu-erh", stock=3)
    assert cli.json("stock", "update", sku, "--safety-threshold", "3")["available"] == "0"
    assert sku in [level["sku"] for level in cli.json("stock", "low", "--limit", "0")]
    cli.json("stock", "update", sku, "--safety-threshold", "0")
    assert sku not in [level["sku"] for level in cli.json("stock", "low", "--limit", "0")]
    assert "Total: " in cli("stock", "low", "--limit", "1", "--total").err
    assert sku in [level["sku"] for level in cli.json("stock", "low", "--at-most", "3", "--limit", "0")]


def test_stock_is_reconciled(cli: CommandLine, server: ServerProcess) -> None:
    sku = make_tea(cli, "lapsang", stock=3)
    assert cli.json("stock", "reconcile") == []
    with server.database.opened() as session:
        session.run("UPDATE stock_levels SET on_hand = 5 WHERE sku = ?", sku)
    run = cli("stock", "reconcile", sku, "--json")
    assert run.code == 1
    assert (run.document[0]["recorded"], run.document[0]["expected"]) == ("5", "3")
    assert "1 SKUs compared, 1 differences." in run.err
    assert cli("stock", "reconcile", sku, "--repair").code == 0
    assert cli.json("stock", "show", sku)[0]["onHand"] == "3"


def test_stock_is_reserved_extended_and_released(cli: CommandLine) -> None:
    sku = make_tea(cli, "gunpowder", stock=5)
    made = cli.json("reservations", "reserve", "--line", f"{sku}=3", "--ttl", "60", "--reference", "cart-7")
    assert (made["state"], made["reference"]) == ("RESERVATION_STATE_ACTIVE", "cart-7")
    name = made["name"].rpartition("/")[2]
    assert cli.json("stock", "show", sku)[0]["reserved"] == "3"
    assert cli.json("reservations", "extend", name, "--ttl", "600")["expireTime"] > made["expireTime"]
    assert cli.json("reservations", "list", "--filter", "reference = cart-7")[0]["name"] == made["name"]
    assert cli.json("reservations", "release", name)[0]["state"] == "RESERVATION_STATE_RELEASED"
    assert cli.json("reservations", "show", name)["state"] == "RESERVATION_STATE_RELEASED"
    assert "ILLEGAL_STATE" in cli("reservations", "commit", name).err


def test_reservation_is_taken_by_an_order(cli: CommandLine) -> None:
    sku = make_tea(cli, "jasmine", stock=5)
    cli.json("customers", "create", "--id", "jasmine", "--name", "Jasmine")
    held = [cli.json("reservations", "reserve", "--line", f"{sku}={units}")["name"] for units in (3, 2)]
    line = ("--customer", "jasmine", "--line", f"{sku}=5", "--currency", "EUR")
    assert "OUT_OF_STOCK" in cli("orders", "place", *line).err
    order = cli.json("orders", "place", *line, "--reservation", held[0], "--reservation", held[1])
    assert cli.json("reservations", "show", held[1])["order"] == order["name"]


def test_reservation_is_updated(cli: CommandLine) -> None:
    sku = make_tea(cli, "bancha-two", stock=5)
    reserve = ("reservations", "reserve", "--line", f"{sku}=1", "--reference", "cart-8", "--unique-reference")
    name = cli.json(*reserve)["name"]
    assert cli.json(*reserve, "--label", "till=7")["name"] == name
    changed = cli.json("reservations", "update", name, "--line", f"{sku}=4", "--ttl", "600", "--etag", "v2")
    assert (changed["lines"][0]["quantity"], changed["labels"]) == ("4", {"till": "7"})
    assert cli.json("reservations", "update", name, "--ttl", "60")["expireTime"] < changed["expireTime"]
    assert "ETAG_MISMATCH" in cli("reservations", "update", name, "--reference", "x", "--etag", "v2").err
    freed = cli.json("reservations", "update", name, "--clear", "unique_reference", "--clear", "labels")
    assert (freed["reference"], freed["uniqueReference"], freed["labels"]) == ("cart-8", False, {})
    assert cli.json("reservations", "update", name, "--unique-reference")["uniqueReference"] is True
    twice = cli("reservations", "update", name, "--unique-reference", "--clear", "unique_reference")
    assert "a field is named twice" in twice.err
    assert "name at least one field" in cli("reservations", "update", name).err


def test_order_with_a_unique_reference_is_placed_once(cli: CommandLine) -> None:
    sku = make_tea(cli, "unique-tea", stock=5)
    cli.json("customers", "create", "--id", "unique-tea", "--name", "Kukicha")
    request_id = "01890a5d-ac96-774b-bcce-b302099a8058"
    place = ("orders", "place", "--customer", "unique-tea", "--line", f"{sku}=1", "--currency", "EUR")
    place += ("--source", "market", "--reference", "1009-A", "--unique-reference")
    name = cli.json(*place, "--request-id", request_id)["name"]
    assert name in cli(*place).err
    again = cli(*place, "--request-id", request_id)
    assert (again.code, "An earlier call with this request id" in again.err) == (0, True)


def test_stock_that_never_existed_is_reported(cli: CommandLine) -> None:
    sku = make_tea(cli, "stockless", stock=0)
    cli.json("variants", "create", "stockless", "--sku", "STOCKLESS-2")
    run = cli("stock", "show", "STOCKLESS-2", "--json")
    assert (run.code, run.document) == (0, [])
    assert "No stock level exists for STOCKLESS-2." in run.err
    assert cli("stock", "show", sku).code == 0


def test_dry_run_changes_nothing(cli: CommandLine) -> None:
    sku = make_tea(cli, "rooibos", stock=10)
    run = cli("stock", "set", sku, "3", "--dry-run", "--json")
    assert run.document["onHand"] == "3"
    assert run.err == "Dry run: nothing was changed.\n"
    assert cli.json("stock", "show", sku)[0]["onHand"] == "10"
    run = cli("products", "create", "--id", "phantom", "--name", "P", "--dry-run")
    assert (run.code, run.err) == (0, "Dry run: nothing was changed. New ids and numbers will be others.\n")
    assert cli("products", "show", "phantom").code == 1


def test_order_is_placed_confirmed_cancelled_and_told(cli: CommandLine) -> None:
    sku = make_tea(cli, "pouchong", stock=10)
    cli.json("customers", "create", "--id", "ernst", "--name", "Ernst Handel", "--email", "e@ernst.example")
    order = cli.json("orders", "place", "--customer", "ernst", "--line", f"{sku}=2", "--currency", "eur")
    assert order["total"] == {"currencyCode": "EUR", "units": "9", "nanos": 0}
    assert cli.json("stock", "show", sku)[0]["available"] == "8"
    name = order["name"].removeprefix("orders/")
    assert "9.00 EUR" in cli("orders", "show", name).out
    assert cli.json("orders", "confirm", name)[0]["state"] == "ORDER_STATE_CONFIRMED"
    assert cli.json("orders", "cancel", name, "--reason", "mistake")["cancelReason"] == "mistake"
    history = cli.json("orders", "history", name)
    assert [entry["method"] for entry in history] == ["PlaceOrder", "ConfirmOrder", "CancelOrder"]
    assert [listed["name"] for listed in cli.json("orders", "list", "--customer", "ernst")] == [order["name"]]
    assert cli.json("stock", "show", sku)[0]["available"] == "10"


def test_order_repeated_under_its_request_id_is_placed_once(cli: CommandLine) -> None:
    sku = make_tea(cli, "gyokuro", stock=10)
    cli.json("customers", "create", "--id", "twice", "--name", "Twice")
    place = ["orders", "place", "--customer", "twice", "--line", f"{sku}=1", "--currency", "EUR"]
    again = ["--request-id", "01890a5d-ac96-774b-bcce-b302099a8057"]
    assert cli.json(*place, *again)["name"] == cli.json(*place, *again)["name"]
    assert cli.json("stock", "show", sku)[0]["available"] == "9"


def test_customer_is_changed_deleted_and_brought_back(cli: CommandLine) -> None:
    cli.json("customers", "create", "--id", "anna", "--name", "Anna")
    assert cli.json("customers", "update", "anna", "--phone", "123")["phone"] == "123"
    assert "deleteTime" in cli.json("customers", "delete", "anna")[0]
    assert "deleteTime" not in cli.json("customers", "undelete", "anna")[0]


def test_locations_are_kept(cli: CommandLine) -> None:
    cli.json("locations", "create", "--id", "north", "--name", "North")
    assert cli.json("locations", "update", "north", "--name", "Nord")["displayName"] == "Nord"
    assert cli.json("locations", "show", "north")["displayName"] == "Nord"
    names = {location["name"] for location in cli.json("locations", "list")}
    assert names >= {"locations/main", "locations/north"}
    assert "deleteTime" in cli.json("locations", "delete", "north")[0]


def test_account_with_a_role_and_a_key_calls_until_revoked(cli: CommandLine, client: Storekeep) -> None:
    cli.json("roles", "create", "--id", "picker", "--name", "Picker", "--permission", "stock.read")
    cli.json("accounts", "create", "--id", "robot", "--name", "Robot", "--role", "picker")
    made = cli.json("keys", "create", "robot", "--id", "k1", "--days", "1")
    with Storekeep(client.address, api_key=made["secret"]) as robot:
        assert list(robot.auth.who_am_i().permissions) == ["stock.read"]
    rotated = cli.json("keys", "rotate", "robot/k1", "--overlap-hours", "0")
    assert rotated["secret"] != made["secret"]
    assert "revokeTime" in cli.json("keys", "revoke", rotated["apiKey"]["name"])[0]
    assert cli.json("accounts", "disable", "robot")[0]["disabled"] is True
    assert cli.json("accounts", "enable", "robot")[0]["disabled"] is False
    assert cli.json("accounts", "update", "robot", "--role", "viewer")["roles"] == ["roles/viewer"]
    assert cli("roles", "delete", "picker").code == 0
    assert len(cli.json("keys", "list", "robot")) >= 1
    assert cli.json("keys", "show", "robot/k1")["name"].endswith("/k1")


def test_signing_key_is_rotated(cli: CommandLine) -> None:
    before = cli.json("keys", "jwks")[0]["kid"]
    assert cli.json("keys", "rotate-signing")["kid"] != before
    assert cli.json("keys", "jwks")[0]["kid"] != before


def test_audit_tells_who_did_what(cli: CommandLine) -> None:
    cli.json("categories", "create", "--id", "audited", "--name", "Audited")
    entries: list[Any] = cli.json("audit", "list", "--filter", 'resource = "categories/audited"')
    assert [entry["method"] for entry in entries] == ["storekeep.v1.ProductService/CreateCategory"]
    shown = cli.json("audit", "show", entries[0]["sequence"])
    assert shown["after"]["display_name"] == "Audited"
    assert "before" not in shown
    assert entries[0]["apiKey"].startswith("serviceAccounts/admin/apiKeys/")
    assert cli.json("audit", "verify")["valid"] is True


def test_audit_checkpoint_is_kept_in_a_file_and_verified_against(
    cli: CommandLine, server: ServerProcess, tmp_path: Path
) -> None:
    exported, written = tmp_path / "exported", tmp_path / "written"
    assert server.run("export-checkpoint", str(exported)).returncode == 0
    cli.json("audit", "checkpoint", str(written))
    assert written.read_text() == exported.read_text()
    assert cli.json("audit", "verify", "--since", str(written))["valid"] is True
    written.write_text(written.read_text().replace('"sequence": ', '"sequence": 1'))
    assert cli("audit", "verify", "--since", str(written)).code == 1
    written.write_text("{}")
    assert cli("audit", "verify", "--since", str(written)).code == 2


def test_health_needs_no_login(cli: CommandLine, monkeypatch: Any) -> None:
    monkeypatch.delenv("STOREKEEP_API_KEY")
    services = {row["service"]: row["status"] for row in cli.json("health")}
    assert services["(server)"] == "SERVING"
    assert services["storekeep.v1.OrderService"] == "SERVING"


def test_text_from_the_server_cannot_steer_the_terminal(cli: CommandLine) -> None:
    cli.json("categories", "create", "--id", "evil", "--name", "a\x1b[2J[bold]b")
    run = cli("categories", "show", "evil")
    assert "\x1b" not in run.out
    assert "[bold]" in run.out


def test_filter_beside_an_option_tells_positions_of_its_own(cli: CommandLine) -> None:
    for command in (("orders", "list", "--customer", "ada"), ("stock", "movements", "SKU-1")):
        assert "filter, position 1: cannot filter by bogus" in cli(*command, "--filter", "bogus = 1").err
        assert "filter, position 1: cannot filter by bogus" in cli(*command, "--filter", "bogus = 1 OR a = 2").err


def test_star_in_a_number_or_sku_stands_for_itself(cli: CommandLine) -> None:
    sku = make_tea(cli, "starred")
    cli.json("customers", "create", "--id", "stella", "--name", "Stella")
    cli.json("orders", "place", "--customer", "stella", "--line", f"{sku}=1", "--currency", "EUR")
    assert cli("orders", "cancel", "SK-*").code != 0
    assert "SKU_NOT_FOUND" in cli("stock", "movements", f"{sku[:3]}*").err
    assert "INVALID_FIELD" in cli("orders", "list", "--customer", "stel*").err


def test_filter_with_or_beside_an_option_is_narrowed_as_a_whole(cli: CommandLine) -> None:
    sku, other = make_tea(cli, "narrow"), make_tea(cli, "broad")
    either = f'sku = "{sku}" OR sku = "{other}"'
    assert [movement["name"] for movement in cli.json("stock", "movements", sku, "--filter", either)] == [
        movement["name"] for movement in cli.json("stock", "movements", sku)
    ]


def test_examples_of_every_filter_are_accepted(cli: CommandLine) -> None:
    totals = [(path, child) for path, child in COMMANDS if any(option.name == "total" for option in child.params)]
    lists = {path: option.help for path, child in totals for option in child.params if option.name == "filter"}  # type: ignore[attr-defined]
    assert len(lists) > 10
    for path, help_text in lists.items():
        examples = re.findall(r"`([^`]+)`", help_text)
        assert examples
        for example in examples:
            run = cli(*path, "--filter", example, "--total", "--limit", "1")
            assert (run.code, "Total: " in run.err) == (0, True), (path, example, run.err)


def test_labels_are_cleared(cli: CommandLine) -> None:
    sku = make_tea(cli, "sejak")
    cli.json("customers", "create", "--id", "sejak", "--name", "Sejak")
    cli.json("locations", "create", "--id", "sejak", "--name", "Sejak")
    for group, name in ("products", "sejak"), ("variants", sku), ("customers", "sejak"), ("locations", "sejak"):
        assert cli.json(group, "update", name, "--label", "a=b")["labels"] == {"a": "b"}
        assert cli.json(group, "update", name, "--clear", "labels")["labels"] == {}


def test_total_is_printed_beside_the_limit(cli: CommandLine) -> None:
    for name in ("one", "two"):
        cli.json("categories", "create", "--id", f"total-{name}", "--name", "Total")
    run = cli("categories", "list", "--filter", "display_name = Total", "--limit", "1", "--total")
    assert "There are more than 1" in run.err
    assert "Total: 2." in run.err
    assert "Total" not in cli("categories", "list", "--filter", "display_name = Total").err


def test_order_reads_as_a_delivery_note_on_all_its_way(cli: CommandLine) -> None:
    sku = make_tea(cli, "kukicha")
    cli.json("customers", "create", "--id", "nora", "--name", "Nora")
    placed = cli.json(
        "orders",
        "place",
        "--customer",
        "nora",
        "--line",
        f"{sku}=3",
        "--line",
        f"{sku}=2",
        "--currency",
        "EUR",
        "--shipping",
        "4.90",
    )
    number = placed["number"]
    assert cli.json("orders", "show", number) == placed
    cli.json("orders", "hold", number, "--reason", "doubtful")
    assert "CONFIRMED" not in cli("orders", "show", number).out
    cli.json("orders", "resume", number)
    cli.json("orders", "confirm", number)
    preview = cli.json("orders", "edit", number, "--change", "1=4", "--dry-run")
    assert preview["lines"][0]["quantity"] == "4"
    edited = cli.json("orders", "edit", number, "--add", f"{sku}=1", "--change", "1=4", "--reason", "by phone")
    assert [line["quantity"] for line in edited["lines"]] == ["4", "2", "1"]
    cli.json("orders", "cancel-lines", number, "--line", "3", "--line", "2=1")
    bound = cli.json("orders", "fulfill", number, "--line", "1=2", "--location", "main")
    fulfillment = bound["name"].removeprefix("orders/").replace("/fulfillments", "")
    shipped = cli.json("fulfillments", "ship", fulfillment, "--carrier", "Post", "--tracking", "P-77")
    assert shipped["state"] == "FULFILLMENT_STATE_SHIPPED"
    cli.json("fulfillments", "deliver", fulfillment)
    cli.json("orders", "note", number, "Wants it on Friday.")
    shown = cli("orders", "show", number).out
    for text in (number, "PARTIALLY_FULFILLED", "4.90 EUR", "Post", "P-77", "Wants it on Friday.", "ShipFulfillment"):
        assert text in shown
    line = next(line.split() for line in shown.splitlines() if line.split()[1:2] == [sku])
    assert line[:7] == ["1", sku, "Tea", "kukicha", "4", "2", "2"]
    assert "lines[1].fulfilled_quantity" in cli("orders", "history", number).out


def test_order_is_completed_and_its_pending_fulfillments_listed(cli: CommandLine) -> None:
    sku = make_tea(cli, "genmaicha")
    cli.json("customers", "create", "--id", "olga", "--name", "Olga")
    order = cli.json("orders", "place", "--customer", "olga", "--line", f"{sku}=2", "--currency", "EUR")
    cli.json("orders", "confirm", order["name"])
    one = cli.json("orders", "fulfill", order["number"], "--line", "1=1")
    rest = cli.json("orders", "fulfill", order["number"])
    listed = cli.json("fulfillments", "list", "--order", order["number"])
    assert [item["name"] for item in listed] == [one["name"], rest["name"]]
    assert cli.json("fulfillments", "cancel", one["name"])[0]["state"] == "FULFILLMENT_STATE_CANCELLED"
    numbered = cli.json("fulfillments", "update", order["number"], "--parcel", "P-1")  # the only one that can change
    assert (numbered["name"], numbered["trackingNumber"]) == (rest["name"], "P-1")
    assert f"order {order['number']} has 2 fulfilments; add /" in cli("fulfillments", "show", order["number"]).err
    again = cli.json("orders", "fulfill", order["number"])
    for name in (rest["name"], again["name"]):
        cli.json("fulfillments", "ship", name)
    assert cli.json("fulfillments", "show", rest["name"])["state"] == "FULFILLMENT_STATE_SHIPPED"
    assert cli.json("orders", "complete", order["number"])[0]["state"] == "ORDER_STATE_COMPLETED"
    assert [note["content"] for note in cli.json("orders", "notes", order["number"])] == []


ADDRESS = ("--street", "Kirchgasse 6", "--street", "2nd floor", "--city", "Graz", "--country", "Austria")


def test_addresses_are_given_by_options(cli: CommandLine) -> None:
    sku = make_tea(cli, "addressed")
    made = cli.json("customers", "create", "--id", "postal", "--name", "Postal", *ADDRESS)
    cli.json("customers", "update", "postal", "--address-label", "billing", "--city", "Wien", "--country", "AT")
    updated = cli.json("customers", "update", "postal", "--city", "Linz", "--country", "AT")
    assert [one["label"] for one in made["addresses"]] == ["main"]
    assert made["addresses"][0]["address"]["addressLines"] == ["Kirchgasse 6", "2nd floor"]
    assert {one["label"]: one["address"]["locality"] for one in updated["addresses"]} == {
        "billing": "Wien",
        "main": "Linz",
    }
    location = cli.json("locations", "create", "--id", "postal", "--name", "Postal", *ADDRESS)
    assert location["address"]["regionCode"] == "AT"
    place = ("orders", "place", "--customer", "postal", "--line", f"{sku}=1", "--currency", "EUR")
    assert cli.json(*place, *ADDRESS)["shippingAddress"]["locality"] == "Graz"


def test_variant_is_named_by_its_sku_and_keeps_other_prices(cli: CommandLine) -> None:
    sku = make_tea(cli, "priced")
    cli.json("variants", "update", sku, "--price", "USD=4.95")
    assert "4.50 EUR, 4.95 USD" in cli("products", "show", "priced").out
    changed = cli.json("variants", "update", sku, "--price", "EUR=", "--price", "usd=5")
    assert [price["currencyCode"] for price in changed["prices"]] == ["USD"]
    assert cli.json("variants", "archive", sku)[0]["state"] == "VARIANT_STATE_ARCHIVED"
    run = cli("variants", "show", sku[:-1] + "2")
    assert (run.code, f"did you mean {sku}?" in run.err) == (1, True)
    cli.json("variants", "create", "priced", "--id", "unused", "--sku", "PRICED-UNUSED")
    cli.json("variants", "delete", "PRICED-UNUSED")
    assert "DELETED" in cli("variants", "show", "PRICED-UNUSED").out
    cli.json("variants", "undelete", "PRICED-UNUSED")


def test_states_are_shown_and_listed(cli: CommandLine) -> None:
    sku = make_tea(cli, "stated")
    cli.json("customers", "create", "--id", "stated", "--name", "Stated")
    order = cli.json("orders", "place", "--customer", "stated", "--line", f"{sku}=1", "--currency", "EUR")
    mine = ("orders", "list", "--customer", "stated", "--state")
    assert [one["number"] for one in cli.json(*mine, "placed")] == [order["number"]]
    assert cli.json(*mine, "Confirmed") == []
    cli.json("orders", "hold", order["number"])
    assert "PLACED, on hold" in cli(*mine, "placed").out
    key = cli.json("keys", "create", "admin", "--id", "stated")["apiKey"]["name"]
    cli.json("keys", "revoke", key)
    (line,) = (line for line in cli("keys", "list", "admin").out.splitlines() if line.startswith(key))
    assert line.split()[1] == "REVOKED"


def test_fulfillment_is_named_by_the_number_of_its_order(cli: CommandLine) -> None:
    sku = make_tea(cli, "numbered")
    cli.json("customers", "create", "--id", "numbered", "--name", "Numbered")
    number = cli.json("orders", "place", "--customer", "numbered", "--line", f"{sku}=2", "--currency", "EUR")["number"]
    cli.json("orders", "confirm", number)
    assert "has no pending fulfilment" in cli("fulfillments", "ship", number).err
    assert "no pending, shipped or delivered fulfilment;" in cli("fulfillments", "update", number, "--carrier", "X").err
    one = cli.json("orders", "fulfill", number, "--line", "1=1")["name"].rpartition("/")[2]
    assert cli.json("fulfillments", "show", f"{number}/{one}")["state"] == "FULFILLMENT_STATE_PENDING"
    cli.json("orders", "fulfill", number)
    assert f"has 2 pending fulfilments; add / and one of {one}" in cli("fulfillments", "ship", number).err
    cli.json("fulfillments", "ship", f"{number}/{one}")
    assert cli.json("fulfillments", "ship", number, "--carrier", "Post")["carrier"] == "Post"
    assert "state: CONFIRMED -> PARTIALLY_FULFILLED" in cli("orders", "history", number).out


def test_order_that_no_number_belongs_to_is_not_found(cli: CommandLine) -> None:
    run = cli("orders", "show", "SK-99999999")
    assert run.code == 1
    assert "ORDER_NOT_FOUND" in run.err


def test_order_is_corrected_from_the_command_line(cli: CommandLine) -> None:
    sku = make_tea(cli, "kamairicha")
    cli.json("customers", "create", "--id", "pia", "--name", "Pia", "--email", "pia@home.example")
    place = ("orders", "place", "--customer", "pia", "--line", f"{sku}=2", "--currency", "EUR", "--label", "gift=yes")
    order = cli.json(*place, "--country", "AT", "--street", "Ring 1", "--ship-by", "2026-12-24")
    assert (order["email"], order["labels"]) == ("pia@home.example", {"gift": "yes"})
    number = order["number"]
    change = ("orders", "update", number, "--ship-to", "locality=Wien", "--shipping", "2.50", "--clear", "labels")
    tried = cli.json(*change, "--deliver-by", "2026-12-31T18:00+01:00", "--dry-run")
    assert cli.json("orders", "show", number) == order
    changed = cli.json(
        *change, "--deliver-by", "2026-12-31T18:00+01:00", "--reason", "by phone", "--email", "p@x.example"
    )
    assert (changed["total"], changed["deliverByTime"]) == (tried["total"], "2026-12-31T17:00:00Z")
    address = changed["shippingAddress"]
    assert (address["addressLines"], address["locality"], address["regionCode"]) == (["Ring 1"], "Wien", "AT")
    assert changed["labels"] == {}
    shown = cli("orders", "show", number).out
    for text in ("p@x.example", "2.50 EUR", "Wien", "UpdateOrder", "by phone"):
        assert text in shown
    assert cli("orders", "update", number).code == 2
    assert cli("orders", "update", number, "--ship-by", "tomorrow").code == 2
    assert cli("orders", "update", number, "--bill-to", "town=Wien").code == 2
    assert cli("orders", "update", number, "--bill-to", "country=Atlantis").code == 2
    options = (
        "city=Graz",
        "street=Ring 2",
        "street=Tür 3",
        "postal-code=8010",
        "country=Austria",
        "address-phone=+43 1",
    )
    by_option = ("--city", "Linz", "--postal-code", "4020", "--country", "Austria")
    corrected = cli.json("orders", "update", number, *by_option)["shippingAddress"]
    assert corrected == {**address, "locality": "Linz", "postalCode": "4020"}
    moved = cli.json("orders", "update", number, *[word for each in options for word in ("--ship-to", each)])
    assert moved["shippingAddress"] == {
        **address,
        "locality": "Graz",
        "addressLines": ["Ring 2", "Tür 3"],
        "postalCode": "8010",
        "regionCode": "AT",
        "phone": "+43 1",
    }


def test_fulfillment_is_corrected_and_restocked_from_the_command_line(cli: CommandLine) -> None:
    sku = make_tea(cli, "kabusecha")
    cli.json("customers", "create", "--id", "rosa", "--name", "Rosa")
    order = cli.json("orders", "place", "--customer", "rosa", "--line", f"{sku}=2", "--currency", "EUR")
    cli.json("orders", "confirm", order["number"])
    name = cli.json("orders", "fulfill", order["number"])["name"]
    cli.json("fulfillments", "ship", name, "--carrier", "Post", "--parcel", "P-1", "--parcel", "P-2")
    page = "https://post.example/?n=P-3"
    changed = cli.json("fulfillments", "update", name, "--carrier", "Speedy", "--parcel", f"P-3={page}")
    assert (changed["carrier"], changed["trackingNumber"]) == ("Speedy", "P-3")
    assert changed["parcels"] == [{"trackingNumber": "P-3", "trackingUrl": page}]
    refused = cli("orders", "update", order["number"], "--shipping", "1")
    assert (refused.code, "FIELD_NOT_CHANGEABLE" in refused.err) == (1, True)
    tried = cli.json("fulfillments", "restock", name, "--dry-run")
    restocked = cli.json("fulfillments", "restock", name, "--reason", "came back", "--location", "main")
    assert tried["state"] == restocked["state"] == "FULFILLMENT_STATE_RESTOCKED"
    assert cli.json("orders", "show", order["number"])["state"] == "ORDER_STATE_CONFIRMED"
    assert "came back" in cli("orders", "history", order["number"]).out


# -- languages


def test_texts_are_translated_shown_in_a_language_and_removed(cli: CommandLine):
    cli.json("products", "create", "--id", "translated", "--name", "Tea")
    assert cli.json("products", "translate", "translated", "de", "--name", "Tee", "--description", "Schwarz")
    assert cli.json("products", "translate", "translated", "DE", "--description", "")["translations"] == {
        "de": {"displayName": "Tee", "description": ""}
    }
    assert cli.json("products", "show", "translated", "--language", "de-AT")["displayName"] == "Tee"
    assert "Tee" in cli("products", "list", "--filter", 'display_name = "Tea"', "--language", "de").out
    cli.json("variants", "create", "translated", "--sku", "TR-1", "--option", "size=L")
    cli.json("variants", "translate", "TR-1", "de", "--option", "Größe=L")
    assert cli.json("variants", "show", "TR-1", "--language", "de")["options"] == {"Größe": "L"}
    cli.json("categories", "create", "--id", "translated", "--name", "Drinks")
    cli.json("categories", "translate", "translated", "de", "--name", "Getränke")
    assert cli.json("categories", "show", "translated", "--language", "de")["displayName"] == "Getränke"
    assert "de: Tee" in cli("products", "show", "translated").out
    assert cli.json("products", "translate", "translated", "de", "--remove")["translations"] == {}
    for wrong in (("fr", "--remove"), ("de",), ("de", "--remove", "--name", "x")):
        assert cli("products", "translate", "translated", *wrong).code == 2
