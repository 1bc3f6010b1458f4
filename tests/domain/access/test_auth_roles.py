"""Roles over the wire: built-in and custom roles."""

from __future__ import annotations

import grpc
import pytest

from storekeep.server.domain.access.bootstrap import install_access
from storekeep.v1 import auth_pb2 as pb


def create(caller, role_id, *, permissions=("orders.read",)):
    role = pb.Role(display_name=role_id.title(), permissions=permissions)
    return caller("CreateRole", pb.CreateRoleRequest(role=role, role_id=role_id))


def get(caller, role_id):
    return caller("GetRole", pb.GetRoleRequest(name=f"roles/{role_id}"))


def test_built_in_roles_hold_what_they_should(admin, installation):
    assert set(get(admin, "admin").permissions) == installation.known
    assert set(get(admin, "operator").permissions) == installation.known - {"accounts.read", "accounts.write"}
    viewer = set(get(admin, "viewer").permissions)
    nouns = ("customers", "events", "orders", "pricing", "products", "reservations", "stock")
    assert viewer == {"customers.personal.read", *(f"{noun}.read" for noun in nouns)}
    assert get(admin, "viewer").built_in


def test_built_in_roles_follow_the_contract_at_the_next_start(admin, installation):
    more = installation.known | {"returns.read", "returns.write"}
    install_access(installation.store, keyring=installation.keyring, known=more, signing_keys=installation.signing_keys)
    assert "returns.read" in get(admin, "viewer").permissions
    assert set(get(admin, "admin").permissions) == more


@pytest.mark.parametrize("role_id", ["admin", "operator", "viewer"])
def test_built_in_role_cannot_be_changed_or_deleted(admin, role_id):
    role = pb.Role(name=f"roles/{role_id}", display_name="Mine")
    refusal = admin.refusal("UpdateRole", pb.UpdateRoleRequest(role=role))
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "ROLE_BUILT_IN")
    assert admin.refusal("DeleteRole", pb.DeleteRoleRequest(name=role.name)).reason == "ROLE_BUILT_IN"


def test_create_role_then_update_then_delete(admin):
    made = create(admin, "picker")
    assert (made.name, made.built_in, made.etag) == ("roles/picker", False, "v1")
    assert get(admin, "picker") == made
    changed_role = pb.Role(name=made.name, display_name="Packer", permissions=["stock.read"], etag="v1")
    changed = admin("UpdateRole", pb.UpdateRoleRequest(role=changed_role))
    assert (changed.display_name, list(changed.permissions), changed.etag) == ("Packer", ["stock.read"], "v2")
    stale = pb.DeleteRoleRequest(name=made.name, etag="v1")
    assert admin.refusal("DeleteRole", stale).reason == "ETAG_MISMATCH"
    admin("DeleteRole", pb.DeleteRoleRequest(name=made.name, etag="v2"))
    assert admin.refusal("GetRole", pb.GetRoleRequest(name=made.name)).reason == "ROLE_NOT_FOUND"


def test_create_role_with_an_unknown_permission_is_refused(admin):
    role = pb.Role(display_name="x", permissions=["orders.read", "orders.dance"])
    refusal = admin.refusal("CreateRole", pb.CreateRoleRequest(role=role))
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "UNKNOWN_PERMISSION")
    assert refusal.metadata == {"permission": "orders.dance"}


def test_create_role_twice_is_refused(admin):
    role = pb.Role(display_name="x")
    assert admin.refusal("CreateRole", pb.CreateRoleRequest(role=role, role_id="viewer")).reason == "ALREADY_EXISTS"


def test_delete_role_that_an_account_has_is_refused_even_when_it_is_deleted(admin):
    create(admin, "picker")
    admin.make_account("robot", roles=["picker"])
    admin("DeleteServiceAccount", pb.DeleteServiceAccountRequest(name="serviceAccounts/robot"))
    refusal = admin.refusal("DeleteRole", pb.DeleteRoleRequest(name="roles/picker"))
    assert refusal.reason == "RESOURCE_IN_USE"
    assert refusal.metadata["user"] == "serviceAccounts/robot"


def test_update_role_changes_what_its_holders_may(admin):
    create(admin, "picker")
    robot = admin.make_account("robot", roles=["picker"], scopes=["*"])
    assert list(robot("WhoAmI", pb.WhoAmIRequest()).permissions) == ["orders.read"]
    changed_role = pb.Role(name="roles/picker", display_name="Picker", permissions=["stock.read", "stock.write"])
    admin("UpdateRole", pb.UpdateRoleRequest(role=changed_role))
    assert list(robot("WhoAmI", pb.WhoAmIRequest()).permissions) == ["stock.read", "stock.write"]


def test_list_roles_page_by_page(admin):
    create(admin, "picker")
    request = pb.ListRolesRequest(page_size=2, order_by="display_name")
    first = admin("ListRoles", request)
    request.page_token = first.next_page_token
    second = admin("ListRoles", request)
    assert [role.name for role in [*first.roles, *second.roles]] == [
        "roles/admin",
        "roles/operator",
        "roles/picker",
        "roles/viewer",
    ]
    assert not second.next_page_token
    own = admin("ListRoles", pb.ListRolesRequest(filter="built_in = false"))
    assert [role.name for role in own.roles] == ["roles/picker"]
