"""Pages of users: invite, roles, disable, and end sessions. The link that sets a password is shown once."""

from __future__ import annotations

from storekeep.client import CreatePasswordLinkResponse, User
from storekeep.console.access import READ, WRITE, list_roles
from storekeep.console.listings import fetch, fetch_part, show_list
from storekeep.console.requests import Inputs, Reply, Request, Route, quote_segment

SESSIONS_MAX = 50
INPUTS = Inputs({"display_name": "Name", "email": "Email"})


def show_users(request: Request) -> Reply:
    """List users. Raises: StorekeepError."""
    is_all = request.query["deleted"] == "yes"
    listing = request.session.client.users.list_users(order_by="create_time", page_size=100, show_deleted=is_all)
    return show_list(request, "users.html", title="Users", fetch_page=lambda: fetch(request, listing))


def show_new(request: Request) -> Reply:
    """Show the form of an invitation. Raises: StorekeepError."""
    chosen = request.form.get("role", ())
    return request.page(
        "user-new.html", title="Invite someone", inputs=INPUTS, roles=list_roles(request), chosen=chosen
    )


def invite(request: Request) -> Reply:
    """Create a user, and show the link that sets the password. Raises: StorekeepError, BadRequest."""
    client, options = request.session.client.users, request.write_options()
    user = User(
        display_name=request.field("display_name"),
        email=request.field("email"),
        roles=request.form.get("role", ()),
    )
    created = client.create_user(user, **options)
    return _show(request, created, link=client.create_password_link(created.name, **options))


def _get_name(request: Request) -> str:
    return f"users/{request.parameters['user']}"


def show_user(request: Request) -> Reply:
    """Show a user. Raises: StorekeepError."""
    return _show(request, request.session.client.users.get_user(_get_name(request)), link=None)


def _show(request: Request, user: User, *, link: CreatePasswordLinkResponse | None) -> Reply:
    sessions = request.session.client.users.list_user_sessions(
        user.name, order_by="create_time desc", page_size=SESSIONS_MAX
    )
    return request.page(
        "user.html",
        title=user.display_name or user.email or user.name.partition("/")[2],
        user=user,
        roles=list_roles(request),
        sessions=fetch_part(sessions),
        password_link="" if link is None else f"{request.origin}/password?token={quote_segment(link.link_token)}",
        link_expire_time=None if link is None else link.expire_time,
    )


def create_link(request: Request) -> Reply:
    """Show a new link that sets the password. Raises: StorekeepError, BadRequest."""
    client = request.session.client.users
    link = client.create_password_link(_get_name(request), **request.write_options())
    return _show(request, client.get_user(_get_name(request)), link=link)


def save_roles(request: Request) -> Reply:
    """Replace the roles. Raises: StorekeepError, BadRequest."""
    user = User(name=_get_name(request), roles=request.form.get("role", ()), etag=request.field("etag"))
    request.session.client.users.update_user(user, update_mask=["roles"], **request.write_options())
    return request.done(f"/{user.name}", "The roles are saved.")


def enable(request: Request) -> Reply:
    """Enable a user. Raises: StorekeepError, BadRequest."""
    return _set_disabled(request, disabled=False, notice="The user can sign in again.")


def disable(request: Request) -> Reply:
    """Disable a user. Raises: StorekeepError, BadRequest."""
    return _set_disabled(request, disabled=True, notice="The user can no longer sign in.")


def _set_disabled(request: Request, *, disabled: bool, notice: str) -> Reply:
    user = User(name=_get_name(request), disabled=disabled, etag=request.field("etag"))
    request.session.client.users.update_user(user, update_mask=["disabled"], **request.write_options())
    return request.done(f"/{user.name}", notice)


def reset_totp(request: Request) -> Reply:
    """Remove the authenticator app of a user. Raises: StorekeepError, BadRequest."""
    name, etag = _get_name(request), request.field("etag")
    request.session.client.users.reset_user_totp(name, etag=etag, **request.write_options())
    return request.done(f"/{name}", "The app is removed, and the sessions have ended.")


def end_sessions(request: Request) -> Reply:
    """End all sessions of a user. Raises: StorekeepError, BadRequest."""
    ended = request.session.client.users.revoke_user_sessions(_get_name(request), **request.write_options())
    notice = f"{request.count(ended, 'session')} {'has' if ended == 1 else 'have'} ended."
    return request.done(f"/{_get_name(request)}", notice)


def delete(request: Request) -> Reply:
    """Delete a user. Raises: StorekeepError, BadRequest."""
    name, etag = _get_name(request), request.field("etag")
    request.session.client.users.delete_user(name, etag=etag, **request.write_options())
    return request.done("/users", "The user is deleted.")


def restore(request: Request) -> Reply:
    """Restore a deleted user. Raises: StorekeepError, BadRequest."""
    name, etag = _get_name(request), request.field("etag")
    request.session.client.users.undelete_user(name, etag=etag, **request.write_options())
    return request.done(f"/{name}", "The user is restored.")


ROUTES = (
    Route("GET", "/users", show_users, READ),
    Route("GET", "/users/new", show_new, WRITE),
    Route("POST", "/users/new", invite, WRITE, show_new),
    Route("GET", "/users/{user}", show_user, READ),
    Route("POST", "/users/{user}/link", create_link, WRITE, show_user),
    Route("POST", "/users/{user}/roles", save_roles, WRITE, show_user),
    Route("POST", "/users/{user}/enable", enable, WRITE, show_user),
    Route("POST", "/users/{user}/disable", disable, WRITE, show_user),
    Route("POST", "/users/{user}/totp", reset_totp, WRITE, show_user),
    Route("POST", "/users/{user}/sessions", end_sessions, WRITE, show_user),
    Route("POST", "/users/{user}/delete", delete, WRITE, show_user),
    Route("POST", "/users/{user}/restore", restore, WRITE, show_user),
)
