"""The pages that describe the API: its OpenAPI file, Swagger UI to read and try it, and a start page with links.

`docs/generate.py` writes the file from the contract. Swagger UI is the one in the package swagger-ui-py; the page loads
nothing from elsewhere and runs no script that stands in it.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from storekeep.gateway.errors import Header

HERE = Path(__file__).parent
PAGE = b"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>Storekeep API</title>
<link rel="icon" href="data:,">
<link rel="stylesheet" href="/docs/swagger-ui.css">
</head>
<body>
<div id="api"><p>Loading the description of the API, which takes a few seconds.</p></div>
<noscript>This page needs JavaScript. The description itself is <a href="/openapi.json">/openapi.json</a>.</noscript>
<script src="/docs/swagger-ui-bundle.js"></script>
<script src="/docs/start.js"></script>
</body>
</html>
"""
INDEX = b"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>Storekeep</title>
<link rel="icon" href="data:,">
</head>
<body>
<h1>Storekeep</h1>
<p>This is the HTTP gateway of a Storekeep server.</p>
<ul>
<li><a href="/docs">/docs</a>: read and try the API</li>
<li><a href="/openapi.json">/openapi.json</a>: its description for programs</li>
<li><a href="/readyz">/readyz</a>: whether it can be used now</li>
<li><a href="/.well-known/jwks.json">/.well-known/jwks.json</a>: the keys that verify access tokens</li>
</ul>
</body>
</html>
"""
START = b"""SwaggerUIBundle({
  url: "/openapi.json",
  dom_id: "#api",
  deepLinking: true,
  docExpansion: "none",
  defaultModelsExpandDepth: 0,
  validatorUrl: null,
});
"""
POLICY = (
    b"default-src 'none'; script-src 'self'; style-src 'self'; style-src-attr 'unsafe-inline'; img-src 'self' data:; "
    b"connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""Swagger UI sets styles of single elements and has icons in its own files."""


def read_documents(*, has_start_page: bool) -> dict[str, tuple[list[Header], bytes]]:
    """Return the headers and the body of each page by its path.

    Args:
        has_start_page: whether `/` shows links to the pages; it does not if the console is there.
    """
    static = _find_static()
    bodies = {
        "/openapi.json": (b"application/json; charset=utf-8", (HERE / "openapi.json").read_bytes()),
        "/docs": (b"text/html; charset=utf-8", PAGE),
        "/docs/": (b"text/html; charset=utf-8", PAGE),
        "/docs/start.js": (b"text/javascript; charset=utf-8", START),
        "/docs/swagger-ui.css": (b"text/css; charset=utf-8", (static / "swagger-ui.css").read_bytes()),
        "/docs/swagger-ui-bundle.js": (
            b"text/javascript; charset=utf-8",
            (static / "swagger-ui-bundle.js").read_bytes(),
        ),
    }
    if has_start_page:
        bodies["/"] = (b"text/html; charset=utf-8", INDEX)
    return {
        path: ([(b"content-type", kind), (b"content-security-policy", POLICY)], body)
        for path, (kind, body) in bodies.items()
    }


def _find_static() -> Path:
    """Return the folder of Swagger UI's files. The package itself is not imported: it is for other frameworks."""
    spec = find_spec("swagger_ui")
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError("swagger_ui", name="swagger_ui")
    return Path(spec.submodule_search_locations[0], "static")
