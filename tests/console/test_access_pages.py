"""Service accounts, their keys, and roles: create, change, disable, replace and delete them."""

from __future__ import annotations

import pytest

from storekeep.client import ApiKey, Role, ServiceAccount, Storekeep
from tests.support.shops import new_id, new_request_id
from tests.support.visitors import Page, Visitor, get_wrong

pytestmark = pytest.mark.engine("sqlite", reason="the console is a client; it never sees the database")


def create(client: Storekeep) -> ServiceAccount:
    """Create a service account without roles."""
    return client.auth.create_service_account(ServiceAccount(display_name="Till"), service_account_id=new_id("till"))


def get_path(account: ServiceAccount) -> str:
    """Return the path of the page of an account."""
    return f"/access/{account.name.rpartition('/')[2]}"


def read_secret(page: Page) -> str:
    """Return the secret on a page; empty if it shows none."""
    return page.body.partition('id="secret">')[2].partition("<")[0]


def test_account_is_created_with_roles_and_changed(admin: Visitor, client: Storekeep):
    role = client.auth.create_role(Role(display_name="Till", permissions=["orders.read"]), role_id=new_id("till"))
    key = new_id("till")
    form = admin.get("/access/new").form("/access/new")
    fields = dict(form.fields) | {"display_name": "Till", "account_id": key, "role": role.name}
    assert "Create an API key for it next." in admin.post(form.action, fields).text
    assert list(client.auth.get_service_account(f"serviceAccounts/{key}").roles) == [role.name]
    page = admin.post(form.action, fields | {"request_id": new_request_id()})
    assert "ALREADY_EXISTS" in page.text
    assert dict(page.form("/access/new").fields)["account_id"] == key
    form = admin.get(f"/access/{key}").form(f"/access/{key}")
    admin.post(form.action, dict(form.fields) | {"display_name": "Till 2"})
    account = client.auth.get_service_account(f"serviceAccounts/{key}")
    assert (account.display_name, list(account.roles)) == ("Till 2", [])
    page = admin.post(form.action, dict(form.fields) | {"display_name": "Mine", "request_id": new_request_id()})
    assert page.status == 409
    assert "ETAG_MISMATCH" in page.text
    assert ("display_name", "Mine") in page.form(form.action).fields
    assert "Someone else has changed this meanwhile" in page.text
    rows = page.body.partition("<tbody>")[2].partition("</tbody>")[0]
    for text in ("Till", "Till 2", "Mine"):
        assert f">{text}<" in rows


def test_account_is_disabled_enabled_deleted_and_restored(admin: Visitor, client: Storekeep):
    account = create(client)
    path = get_path(account)
    page = admin.get(path)
    for button in ("Disable", "Enable", "Delete", "Restore"):
        page = admin.submit(page.form(f"{path}/state", button=button))
        assert "The account has been changed." in page.text
        found = client.auth.get_service_account(account.name)
        assert (found.disabled, found.HasField("delete_time")) == (button == "Disable", button == "Delete")
        assert (path in admin.get("/access").links) == (button != "Delete")


def test_key_has_scopes_and_an_end_and_is_replaced(admin: Visitor, client: Storekeep):
    account = create(client)
    path = get_path(account)
    form = admin.get(path).form(f"{path}/keys")
    page = admin.submit(form, display_name="till", scopes="no.such", expire_time="soon")
    assert page.status == 400
    assert dict(page.form(f"{path}/keys").fields)["scopes"].strip() == "no.such"
    page = admin.submit(form, display_name="till", scopes="no.such")
    assert set(get_wrong(page)) == {"scopes"}
    assert "Correct Only these permissions." in page.text
    page = admin.submit(form, display_name="till", scopes="authenticated", expire_time="2090-01-01T00:00")
    secret = read_secret(page)
    assert secret.startswith("sk_")
    (key,) = client.auth.list_api_keys(account.name)
    assert (list(key.scopes), key.expire_time.ToJsonString()) == (["authenticated"], "2090-01-01T00:00:00Z")
    rotate = f"/{path.strip('/')}/keys/{key.name.rpartition('/')[2]}/rotate"
    assert admin.submit(page.form(rotate), overlap_hours="x").status == 400
    page = admin.submit(page.form(rotate), overlap_hours="1")
    assert read_secret(page) not in ("", secret)
    assert len(list(client.auth.list_api_keys(account.name))) == 2


def test_role_is_created_changed_and_deleted(admin: Visitor, client: Storekeep):
    key = new_id("role")
    form = admin.get("/roles/new").form("/roles/new")
    fields = [*form.fields, ("permission", "orders.read"), ("permission", "products.read")]
    values = {"display_name": "Desk", "role_id": key}
    page = admin.post(form.action, [(name, values.get(name, value)) for name, value in fields])
    assert "The role has been created." in page.text
    path = f"/roles/{key}"
    assert list(client.auth.get_role(path.strip("/")).permissions) == ["orders.read", "products.read"]
    stale = page.form(path)
    page = admin.submit_with(stale, permission="stock.read")
    assert list(client.auth.get_role(path.strip("/")).permissions) == ["stock.read"]
    assert path in admin.get("/access").links
    page = admin.post(path, [*stale.fields[:1], ("request_id", new_request_id()), *stale.fields[2:]])
    assert page.status == 409
    assert "Someone else has changed this meanwhile" in page.text
    page = admin.submit(admin.get(path).form(f"{path}/delete"))
    assert "The role has been deleted." in page.text
    assert path not in page.links


def test_role_that_is_built_in_or_in_use_stays(admin: Visitor, client: Storekeep):
    page = admin.get("/roles/admin")
    assert "A built-in role cannot be changed." in page.text
    token = dict(page.form("/sign-out").fields)
    assert "ROLE_BUILT_IN" in admin.post("/roles/admin/delete", token).text
    role = client.auth.create_role(Role(display_name="Used"), role_id=new_id("used"))
    client.auth.create_service_account(ServiceAccount(display_name="Till", roles=[role.name]))
    page = admin.submit(admin.get(f"/{role.name}").form(f"/{role.name}/delete"))
    assert "RESOURCE_IN_USE" in page.text


def test_nobody_grants_more_than_they_have(manager: Visitor, client: Storekeep):
    page = manager.get("/roles/new")
    assert "accounts.write" in page.text
    assert "orders.write" not in page.text
    fields = [*page.form("/roles/new").fields, ("permission", "orders.write")]
    page = manager.post("/roles/new", [(name, "More" if name == "display_name" else one) for name, one in fields])
    assert page.status == 403
    assert "PRIVILEGE_ESCALATION" in page.text


@pytest.fixture
def manager(visitor: Visitor, client: Storekeep) -> Visitor:
    """Return a visitor who may manage access, and nothing else."""
    role = client.auth.create_role(Role(display_name="Access", permissions=["accounts.read", "accounts.write"]))
    account = client.auth.create_service_account(ServiceAccount(display_name="Access", roles=[role.name]))
    visitor.sign_in(client.auth.create_api_key(account.name, ApiKey(display_name="console")).secret)
    return visitor
