"""What the console offers to somebody works for them: no page, link or form needs more than what shows it.

For each permission of a route, a visitor with it alone opens its pages and follows all that they offer.
"""

from __future__ import annotations

import pytest

from storekeep.client import Storekeep
from storekeep.console.imports import ImportFiles
from storekeep.console.requests import Router
from storekeep.console.routes import build_routes
from tests.support.console_pages import fill_pattern, make_one_of_each
from tests.support.gateways import GatewayProcess
from tests.support.visitors import Visitor, sign_in

pytestmark = pytest.mark.engine("sqlite", reason="the console is a client; it never sees the database")
FILES = ImportFiles(report_error=lambda _, error: None)
ROUTES = build_routes(FILES)
FILES.close()
PERMISSIONS = sorted({route.permission for route in ROUTES if route.permission})
SKIPPED = ("/sign-out", "/import", "/account", "/static")


@pytest.fixture(scope="module")
def ids(client: Storekeep) -> dict[str, str]:
    """Make one resource of each kind."""
    return make_one_of_each(client, "Assam")


def is_forbidden(visitor: Visitor, path: str) -> bool:
    return visitor.get(path).status == 403


@pytest.mark.parametrize("permission", PERMISSIONS)
def test_page_offers_only_what_its_visitor_may(
    gateway: GatewayProcess, client: Storekeep, ids: dict[str, str], permission: str
):
    noun, read = permission.rpartition(".")[0].partition(".")[0], {permission}
    read |= {f"{noun}.read"} & set(PERMISSIONS) | ({"pricing.read"} if noun == "coupons" else set())
    visitor, router = sign_in(gateway, client, *read), Router(ROUTES)
    shown = [route for route in ROUTES if route.method == "GET" and route.permission == permission]
    links, forbidden = set(), []
    for route in shown:
        if "/import/" in route.pattern or route.pattern.endswith("/feed/stream"):
            continue
        path = fill_pattern(route.pattern, ids)
        page = visitor.get(path)
        if page.status == 403:
            forbidden.append(path)
        links |= {link for link in page.links if link.startswith("/") and not link.startswith(("/export", *SKIPPED))}
        for form in page.forms:
            action = form.action.partition("?")[0]
            found, _, _ = router.find(form.method.upper(), action)
            if found is not None and form.button and found.permission not in ("", *read):
                forbidden.append(f"{form.method} {action} on {path}")
    assert forbidden + [link for link in sorted(links) if is_forbidden(visitor, link)] == []
