"""Pages of roles, which are sets of permissions: create, change and delete. The list is on the page of access."""

from __future__ import annotations

from storekeep.client import Role
from storekeep.console.access import READ, WRITE
from storekeep.console.forms import FormField, build_conflict, join_boxes
from storekeep.console.requests import Reply, Request, Route

FIELDS = (FormField("display_name", "Name"), FormField("permissions", "Permissions", kind="area"))
"""The fields that are compared if two people change a role at once."""


def show_new(request: Request) -> Reply:
    """Show the form of a new role."""
    return _show(request, Role(), title="New role")


def _get_name(request: Request) -> str:
    return f"roles/{request.parameters['role']}"


def show_role(request: Request) -> Reply:
    """Show a role. Raises: RoleNotFound."""
    role = request.session.client.auth.get_role(_get_name(request))
    return _show(request, role, title=role.display_name)


def _show(request: Request, role: Role, *, title: str) -> Reply:
    """Show the form of a role: it offers its permissions and those that the person can grant."""
    is_kept = "display_name" in request.form
    chosen = request.form.get("permission", ()) if is_kept else role.permissions
    return request.page(
        "role.html",
        title=title,
        role=role,
        name=request.field("display_name") if is_kept else role.display_name,
        offered=sorted(request.session.permissions.union(role.permissions)),
        chosen=chosen,
        compared=[(item, "") for item in FIELDS],
        conflict=build_conflict(FIELDS, role, join_boxes(request, "permissions", box="permission")),
    )


def _read(request: Request, name: str = "") -> Role:
    return Role(
        name=name,
        display_name=request.field("display_name"),
        permissions=request.form.get("permission", ()),
        etag=request.field("etag"),
    )


def create(request: Request) -> Reply:
    """Create a role. Raises: StorekeepError, BadRequest."""
    auth, options = request.session.client.auth, request.write_options()
    created = auth.create_role(_read(request), role_id=request.field("role_id"), **options)
    return request.done(f"/{created.name}", "The role has been created.")


def update(request: Request) -> Reply:
    """Change name and permissions of a role. Raises: StorekeepError, BadRequest."""
    role, mask = _read(request, _get_name(request)), ["display_name", "permissions"]
    request.session.client.auth.update_role(role, update_mask=mask, **request.write_options())
    return request.done(f"/{role.name}", "The role has been changed.")


def delete(request: Request) -> Reply:
    """Delete a role. Raises: StorekeepError, BadRequest."""
    name, etag = _get_name(request), request.field("etag")
    request.session.client.auth.delete_role(name, etag=etag, **request.write_options())
    return request.done("/access", "The role has been deleted.")


ROUTES = (
    Route("GET", "/roles/new", show_new, WRITE),
    Route("POST", "/roles/new", create, WRITE, show_new),
    Route("GET", "/roles/{role}", show_role, READ),
    Route("POST", "/roles/{role}", update, WRITE, show_role),
    Route("POST", "/roles/{role}/delete", delete, WRITE, show_role),
)
