"""Service accounts over the wire: lifecycle, lists, and no grant of permissions that the caller lacks."""

from __future__ import annotations

import grpc
import pytest

from storekeep.v1 import auth_pb2 as pb
from tests.support.installations import new_request_id


def create(caller, account_id, *, roles=(), **options):
    account = pb.ServiceAccount(display_name=account_id.title(), roles=[f"roles/{role}" for role in roles])
    request = pb.CreateServiceAccountRequest(service_account=account, service_account_id=account_id, **options)
    return caller("CreateServiceAccount", request)


def update_request(account_id, *paths, **values):
    values = {"display_name": "Unchanged", **values}
    request = pb.UpdateServiceAccountRequest(
        service_account=pb.ServiceAccount(name=f"serviceAccounts/{account_id}", **values)
    )
    request.update_mask.paths.extend(paths)
    return request


def get(caller, account_id):
    return caller("GetServiceAccount", pb.GetServiceAccountRequest(name=f"serviceAccounts/{account_id}"))


def test_create_service_account_gives_what_get_gives(admin):
    made = create(admin, "shop", roles=["operator"])
    assert made.name == "serviceAccounts/shop"
    assert (made.display_name, list(made.roles), made.disabled, made.etag) == ("Shop", ["roles/operator"], False, "v1")
    assert get(admin, "shop") == made


def test_create_service_account_without_an_id_gets_one(admin):
    made = admin("CreateServiceAccount", pb.CreateServiceAccountRequest(service_account={"display_name": "Any"}))
    assert len(made.name.removeprefix("serviceAccounts/")) == 36


def test_create_service_account_twice_is_refused(admin):
    create(admin, "shop")
    request = pb.CreateServiceAccountRequest(service_account={"display_name": "x"}, service_account_id="shop")
    refusal = admin.refusal("CreateServiceAccount", request)
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.ALREADY_EXISTS, "ALREADY_EXISTS")


@pytest.mark.parametrize("lookalike", ["Admin", "ADMIN", "aDmin"])
def test_create_service_account_that_differs_from_another_in_case_only_is_refused(admin, lookalike):
    request = pb.CreateServiceAccountRequest(service_account={"display_name": "x"}, service_account_id=lookalike)
    refusal = admin.refusal("CreateServiceAccount", request)
    assert (refusal.reason, refusal.metadata["resource"]) == ("ALREADY_EXISTS", "serviceAccounts/admin")
    role = pb.CreateRoleRequest(role=pb.Role(display_name="x"), role_id=lookalike)
    refusal = admin.refusal("CreateRole", role)
    assert (refusal.reason, refusal.metadata["resource"]) == ("ALREADY_EXISTS", "roles/admin")


def test_create_service_account_with_an_unknown_role_is_refused(admin):
    account = pb.ServiceAccount(display_name="x", roles=["roles/none"])
    refusal = admin.refusal("CreateServiceAccount", pb.CreateServiceAccountRequest(service_account=account))
    assert refusal.reason == "ROLE_NOT_FOUND"
    assert refusal.metadata["resource"] == "roles/none"


def test_create_service_account_again_with_its_request_id_gives_the_same(admin):
    request_id = new_request_id()
    assert create(admin, "shop", request_id=request_id) == create(admin, "shop", request_id=request_id)
    other = pb.CreateServiceAccountRequest(
        service_account={"display_name": "Another"}, service_account_id="shop", request_id=request_id
    )
    assert admin.refusal("CreateServiceAccount", other).reason == "REQUEST_ID_REUSED"


def test_dry_run_of_create_service_account_keeps_nothing(admin):
    create(admin, "shop", validate_only=True)
    refusal = admin.refusal("GetServiceAccount", pb.GetServiceAccountRequest(name="serviceAccounts/shop"))
    assert refusal.reason == "SERVICE_ACCOUNT_NOT_FOUND"


def test_update_service_account_changes_what_the_mask_names(admin):
    create(admin, "shop", roles=["viewer"])
    request = update_request("shop", "display_name", display_name="New", roles=["roles/operator"])
    changed = admin("UpdateServiceAccount", request)
    assert (changed.display_name, list(changed.roles), changed.etag) == ("New", ["roles/viewer"], "v2")


def test_update_service_account_with_a_stale_etag_is_refused(admin):
    create(admin, "shop")
    request = update_request("shop", "display_name", etag="v9")
    refusal = admin.refusal("UpdateServiceAccount", request)
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.ABORTED, "ETAG_MISMATCH")
    assert refusal.metadata["etag"] == "v1"


def test_update_service_account_with_an_unknown_field_is_refused(admin):
    create(admin, "shop")
    refusal = admin.refusal("UpdateServiceAccount", update_request("shop", "create_time"))
    assert refusal.reason == "INVALID_UPDATE_MASK"


def test_deleted_service_account_is_hidden_locked_and_can_come_back(admin):
    create(admin, "shop")
    name = "serviceAccounts/shop"
    assert admin("DeleteServiceAccount", pb.DeleteServiceAccountRequest(name=name)).HasField("delete_time")
    assert name not in names(admin)
    assert name in names(admin, show_deleted=True)
    update = update_request("shop", "display_name", display_name="New")
    assert admin.refusal("UpdateServiceAccount", update).reason == "RESOURCE_DELETED"
    again = pb.DeleteServiceAccountRequest(name=name)
    assert admin.refusal("DeleteServiceAccount", again).reason == "SERVICE_ACCOUNT_NOT_FOUND"
    back = admin("UndeleteServiceAccount", pb.UndeleteServiceAccountRequest(name=name))
    assert not back.HasField("delete_time")
    undelete = pb.UndeleteServiceAccountRequest(name=name)
    assert admin.refusal("UndeleteServiceAccount", undelete).reason == "RESOURCE_NOT_DELETED"


def names(caller, **options):
    listed = caller("ListServiceAccounts", pb.ListServiceAccountsRequest(**options))
    return [account.name for account in listed.service_accounts]


def test_batch_get_service_accounts_keeps_the_order(admin):
    create(admin, "b")
    create(admin, "a")
    requested = ["serviceAccounts/b", "serviceAccounts/admin", "serviceAccounts/a"]
    reply = admin("BatchGetServiceAccounts", pb.BatchGetServiceAccountsRequest(names=requested))
    assert [account.name for account in reply.service_accounts] == requested
    missing = pb.BatchGetServiceAccountsRequest(names=[*requested, "serviceAccounts/none"])
    assert admin.refusal("BatchGetServiceAccounts", missing).reason == "SERVICE_ACCOUNT_NOT_FOUND"


def test_list_service_accounts_page_by_page_shows_each_once(admin):
    for place in range(7):
        create(admin, f"shop-{place}")
    request = pb.ListServiceAccountsRequest(page_size=3, order_by="display_name desc")
    seen = []
    while True:
        page = admin("ListServiceAccounts", request)
        assert len(page.service_accounts) <= 3
        seen += [account.display_name for account in page.service_accounts]
        if not page.next_page_token:
            break
        request.page_token = page.next_page_token
    assert seen == [*(f"Shop-{place}" for place in reversed(range(7))), "Administrator"]


def test_list_service_accounts_with_the_token_of_another_query_is_refused(admin):
    create(admin, "shop")
    page = admin("ListServiceAccounts", pb.ListServiceAccountsRequest(page_size=1))
    other = pb.ListServiceAccountsRequest(page_size=1, page_token=page.next_page_token, show_deleted=True)
    assert admin.refusal("ListServiceAccounts", other).reason == "INVALID_PAGE_TOKEN"


def test_list_service_accounts_filters(admin):
    create(admin, "shop")
    create(admin, "till")
    admin("UpdateServiceAccount", update_request("till", "disabled", disabled=True))
    assert names(admin, filter="disabled = true") == ["serviceAccounts/till"]
    assert names(admin, filter='display_name : "ho"') == ["serviceAccounts/shop"]
    refusal = admin.refusal("ListServiceAccounts", pb.ListServiceAccountsRequest(filter="disabled = maybe"))
    assert (refusal.reason, refusal.metadata["position"]) == ("INVALID_FILTER", "12")
    refusal = admin.refusal("ListServiceAccounts", pb.ListServiceAccountsRequest(order_by="disabled"))
    assert refusal.reason == "INVALID_ORDER_BY"


@pytest.fixture
def clerk(admin):
    """Return a caller that may change accounts and read products, but nothing else."""
    role = pb.Role(display_name="Clerk", permissions=["accounts.read", "accounts.write", "products.read"])
    admin("CreateRole", pb.CreateRoleRequest(role=role, role_id="clerk"))
    return admin.make_account("clerk", roles=["clerk"])


@pytest.mark.parametrize("role", ["admin", "operator", "viewer"])
def test_account_with_more_than_the_caller_holds_is_refused(clerk, role):
    account = pb.ServiceAccount(display_name="x", roles=[f"roles/{role}"])
    refusal = clerk.refusal("CreateServiceAccount", pb.CreateServiceAccountRequest(service_account=account))
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.PERMISSION_DENIED, "PRIVILEGE_ESCALATION")
    assert refusal.metadata["permission"] in refusal.text


def test_caller_cannot_raise_itself_or_another(clerk):
    create(clerk, "other")
    for account_id in ("clerk", "other"):
        request = update_request(account_id, "roles", roles=["roles/clerk", "roles/admin"])
        assert clerk.refusal("UpdateServiceAccount", request).reason == "PRIVILEGE_ESCALATION"
    assert clerk("UpdateServiceAccount", update_request("other", "roles", roles=["roles/clerk"])).etag == "v2"


def test_caller_cannot_make_or_rotate_a_key_of_a_stronger_account(admin, clerk):
    admin.make_key("strong", roles=["operator"])
    request = pb.CreateApiKeyRequest(parent="serviceAccounts/strong", api_key=pb.ApiKey())
    assert clerk.refusal("CreateApiKey", request).reason == "PRIVILEGE_ESCALATION"
    rotate = pb.RotateApiKeyRequest(name="serviceAccounts/strong/apiKeys/main")
    assert clerk.refusal("RotateApiKey", rotate).reason == "PRIVILEGE_ESCALATION"
    request.api_key.scopes.append("products.read")
    assert clerk.refusal("CreateApiKey", request).reason == "PRIVILEGE_ESCALATION"


def test_caller_limited_by_scopes_cannot_give_what_its_account_holds(admin):
    limited = admin.make_account("limited", roles=["admin"], scopes=["accounts.read", "accounts.write"])
    account = pb.ServiceAccount(display_name="x", roles=["roles/viewer"])
    refusal = limited.refusal("CreateServiceAccount", pb.CreateServiceAccountRequest(service_account=account))
    assert refusal.reason == "PRIVILEGE_ESCALATION"


def test_role_with_more_than_the_caller_holds_is_refused(clerk):
    role = pb.Role(display_name="x", permissions=["products.read", "orders.write"])
    refusal = clerk.refusal("CreateRole", pb.CreateRoleRequest(role=role))
    assert (refusal.reason, refusal.metadata["permission"]) == ("PRIVILEGE_ESCALATION", "orders.write")
    raised = pb.Role(name="roles/clerk", display_name="Clerk", permissions=["accounts.write", "orders.write"])
    assert clerk.refusal("UpdateRole", pb.UpdateRoleRequest(role=raised)).reason == "PRIVILEGE_ESCALATION"
