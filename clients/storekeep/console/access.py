"""Pages of access: service accounts with their API keys. The secret of a key is shown once."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from storekeep.client import ApiKey, Role, ServiceAccount
from storekeep.console.forms import FormField, build_conflict, join_boxes
from storekeep.console.listings import fetch, fetch_part, show_list
from storekeep.console.requests import BadRequest, Inputs, Reply, Request, Route, parse_number
from storekeep.console.spellings import split_lines

READ, WRITE = "accounts.read", "accounts.write"
ROLES_MAX = 100
OVERLAP_HOURS_MAX = 720
EXPIRE_TIME = FormField("expire_time", "Expires", kind="time", hint="empty: never")

FIELDS = (FormField("display_name", "Name"), FormField("roles", "Roles", kind="area"))
"""The fields that are compared if two people change an account at once."""
NEW_INPUTS = Inputs({"display_name": "Name", "account_id": "Id"}, {"service_account_id": "account_id"})
ACCOUNT_INPUTS = Inputs({item.name: item.label for item in FIELDS})
KEY_INPUTS = Inputs({"display_name": "Purpose", "scopes": "Only these permissions", "expire_time": "Expires"})


def list_roles(request: Request) -> Sequence[Role]:
    """Return the roles that can be chosen. Raises: StorekeepError."""
    return request.session.client.auth.list_roles(page_size=ROLES_MAX).page().items


def show_accounts(request: Request) -> Reply:
    """List service accounts and roles."""
    client = request.session.client.auth
    listing = client.list_service_accounts(
        order_by="display_name", page_size=100, show_deleted=request.query["deleted"] == "yes"
    )
    return show_list(
        request,
        "access.html",
        title="Access",
        fetch_page=lambda: fetch(request, listing),
        roles=fetch_part(client.list_roles(page_size=ROLES_MAX)),
    )


def show_new(request: Request) -> Reply:
    """Show the form of a new service account. Raises: StorekeepError."""
    chosen = request.form.get("role", ())
    return request.page(
        "account-new.html",
        title="New service account",
        inputs=NEW_INPUTS,
        roles=list_roles(request),
        chosen=chosen,
    )


def create_account(request: Request) -> Reply:
    """Create a service account. Raises: StorekeepError, BadRequest."""
    account = ServiceAccount(display_name=request.field("display_name"), roles=request.form.get("role", ()))
    created = request.session.client.auth.create_service_account(
        account, service_account_id=request.field("account_id"), **request.write_options()
    )
    key = created.name.rpartition("/")[2]
    return request.done(f"/access/{key}", "The account has been created. Create an API key for it next.")


def _get_name(request: Request) -> str:
    return f"serviceAccounts/{request.parameters['account']}"


def _get_path(request: Request) -> str:
    return f"/access/{request.parameters['account']}"


def show_account(request: Request) -> Reply:
    """Show a service account with its keys. Raises: ServiceAccountNotFound."""
    return _show_account(request, secret="")


def _show_account(request: Request, *, secret: str) -> Reply:
    client, name = request.session.client.auth, _get_name(request)
    account = client.get_service_account(name)
    keys = fetch_part(client.list_api_keys(name, page_size=100))
    is_kept = request.problem is not None and "display_name" in request.form and "scopes" not in request.form
    return request.page(
        "account.html",
        title=account.display_name or name,
        account=account,
        inputs=KEY_INPUTS if "scopes" in request.form else ACCOUNT_INPUTS,
        keys=keys,
        secret=secret,
        roles=list_roles(request),
        name=request.field("display_name") if is_kept else account.display_name,
        chosen=request.form.get("role", ()) if is_kept else account.roles,
        expiry=[(EXPIRE_TIME, request.field("expire_time"))],
        compared=[(item, "") for item in FIELDS],
        conflict=build_conflict(FIELDS, account, join_boxes(request, "roles", box="role")) if is_kept else [],
    )


def update_account(request: Request) -> Reply:
    """Change name and roles of a service account. Raises: StorekeepError, BadRequest."""
    account = ServiceAccount(
        name=_get_name(request),
        display_name=request.field("display_name"),
        roles=request.form.get("role", ()),
        etag=request.field("etag"),
    )
    mask = ["display_name", "roles"]
    request.session.client.auth.update_service_account(account, update_mask=mask, **request.write_options())
    return request.done(_get_path(request), "The account has been changed.")


def change_state(request: Request) -> Reply:
    """Disable, enable, delete or restore a service account. Raises: StorekeepError, BadRequest."""
    auth, name, step = request.session.client.auth, _get_name(request), request.field("step")
    etag, options = request.field("etag"), request.write_options()
    if step in ("disable", "enable"):
        account = ServiceAccount(name=name, disabled=step == "disable", etag=etag)
        auth.update_service_account(account, update_mask=["disabled"], **options)
    elif step == "delete":
        auth.delete_service_account(name, etag=etag, **options)
    elif step == "undelete":
        auth.undelete_service_account(name, etag=etag, **options)
    else:
        raise BadRequest("There is no such step.")
    return request.done(_get_path(request), "The account has been changed.")


def create_key(request: Request) -> Reply:
    """Create an API key and show its secret, once. Raises: StorekeepError, BadRequest."""
    key = ApiKey(display_name=request.field("display_name"), scopes=split_lines(request.field("scopes")))
    EXPIRE_TIME.write(key, request.field("expire_time"))
    reply = request.session.client.auth.create_api_key(_get_name(request), key, **request.write_options())
    return _show_account(request, secret=reply.secret)


def _get_key_name(request: Request) -> str:
    return f"{_get_name(request)}/apiKeys/{request.parameters['key']}"


def rotate_key(request: Request) -> Reply:
    """Replace an API key by a new one, and show its secret, once. Raises: StorekeepError, BadRequest."""
    hours = parse_number(request.field("overlap_hours", "24"), label="Hours")
    if not 0 <= hours <= OVERLAP_HOURS_MAX:
        raise BadRequest(f"Hours: enter a number from 0 to {OVERLAP_HOURS_MAX}.")
    reply = request.session.client.auth.rotate_api_key(
        _get_key_name(request), overlap=timedelta(hours=hours), etag=request.field("etag"), **request.write_options()
    )
    return _show_account(request, secret=reply.secret)


def revoke_key(request: Request) -> Reply:
    """Revoke an API key. Raises: StorekeepError, BadRequest."""
    name, options = _get_key_name(request), request.write_options()
    request.session.client.auth.revoke_api_key(name, etag=request.field("etag"), **options)
    return request.done(_get_path(request), "The key is revoked.")


ROUTES = (
    Route("GET", "/access", show_accounts, READ),
    Route("GET", "/access/new", show_new, WRITE),
    Route("POST", "/access/new", create_account, WRITE, show_new),
    Route("GET", "/access/{account}", show_account, READ),
    Route("POST", "/access/{account}", update_account, WRITE, show_account),
    Route("POST", "/access/{account}/state", change_state, WRITE, show_account),
    Route("POST", "/access/{account}/keys", create_key, WRITE, show_account),
    Route("POST", "/access/{account}/keys/{key}/rotate", rotate_key, WRITE, show_account),
    Route("POST", "/access/{account}/keys/{key}/revoke", revoke_key, WRITE, show_account),
)
