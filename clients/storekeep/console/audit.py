"""Pages of the audit log: who changed what, with the values before and after side by side."""

from __future__ import annotations

from storekeep.console.listings import fetch, join, show_list
from storekeep.console.rendering import compare
from storekeep.console.requests import Reply, Request, Route, quote_filter

READ = "audit.read"


def show_log(request: Request) -> Reply:
    """List audit entries, newest first."""
    query = request.query
    terms = [f"{name} = {quote_filter(query[name])}" for name in ("actor", "method", "resource") if query.get(name)]
    listing = request.session.client.audit.list(
        filter=join(*terms, query.get("filter", "")), order_by="sequence desc", page_size=50
    )
    return show_list(request, "audit.html", title="Audit log", fetch_page=lambda: fetch(request, listing))


def show_entry(request: Request) -> Reply:
    """Show one audit entry. Raises: AuditEntryNotFound."""
    entry = request.session.client.audit.get(f"auditEntries/{request.parameters['entry']}")
    return request.page(
        "audit-entry.html",
        title=f"Audit entry {entry.sequence}",
        entry=entry,
        differences=compare(entry.before, entry.after),
    )


def verify(request: Request) -> Reply:
    """Check the chain of the audit log. Raises: StorekeepError."""
    result = request.session.client.audit.verify_chain(timeout_s=60)
    return request.page("audit-check.html", title="Check of the audit log", result=result)


ROUTES = (
    Route("GET", "/audit", show_log, READ),
    Route("POST", "/audit/check", verify, READ, show_log),
    Route("GET", "/audit/{entry}", show_entry, READ),
)
