"""Write `docs/reference/`, and the marked sections of other pages, from the contract and the server.

`python docs/generate.py` writes in place. With `--check` it changes nothing and fails if a page is out of date.
To correct a page, correct its source: a comment in the contract or a docstring in the code.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
REFERENCE = DOCS / "reference"
sys.path[:0] = [str(ROOT), str(ROOT / "protos")]

from docs.pages import (  # noqa: E402
    api,
    chain,
    configuration,
    database,
    errors,
    licenses,
    openapi,
    order_states,
    permissions,
    personal_data,
)

PAGES: dict[str, Callable[[], str]] = {
    "chain.md": chain.build_page,
    "errors.md": errors.build_page,
    "changeable-fields.md": order_states.build_fields_page,
    "permissions.md": permissions.build_page,
    "personal-data.md": personal_data.build_page,
    "configuration.md": configuration.build_page,
    "gateway-configuration.md": configuration.build_gateway_page,
    "database.md": database.build_page,
    "licenses.md": licenses.build_page,
    "openapi.yaml": openapi.build_yaml,
    "api/README.md": api.build_index,
}

SECTIONS: dict[str, dict[str, Callable[[], str]]] = {
    "technical-design.md": {"database": database.build_section, "order-states": order_states.build_section},
}
"""Handwritten pages and their generated sections, between `<!-- generated: NAME -->` and the end mark."""
END = "<!-- /generated -->"
SHIPPED: dict[str, Callable[[], str]] = {"clients/storekeep/gateway/openapi.json": openapi.build_json}
"""Generated files of the packages, by their path in the repository."""


def replace_sections(text: str, sections: dict[str, Callable[[], str]]) -> str:
    """Return the page `text` with its generated sections replaced by current ones.

    Raises: ValueError if a mark is missing.
    """
    for name, section in sections.items():
        begin = f"<!-- generated: {name} -->"
        start = text.index(begin) + len(begin)
        text = f"{text[:start]}\n{section()}{text[text.index(END, start) :]}"
    return text


def find_stale_sections() -> dict[str, str]:
    """Return the current text of each handwritten page whose generated sections are out of date."""
    current = {name: replace_sections((DOCS / name).read_text(), sections) for name, sections in SECTIONS.items()}
    return {name: text for name, text in current.items() if text != (DOCS / name).read_text()}


def find_stale_shipped() -> dict[str, str]:
    """Return the current text of each file of the packages that is missing or out of date."""
    current = {name: build() for name, build in SHIPPED.items()}
    return {name: text for name, text in current.items() if not _holds(ROOT / name, text)}


def _holds(path: Path, text: str) -> bool:
    return path.exists() and path.read_text() == text


def build_pages() -> dict[str, str]:
    """Return the current text of every reference page, by its path in `docs/reference`."""
    return {name: build() for name, build in PAGES.items()} | api.build_pages()


def list_existing() -> set[str]:
    """Return the paths of the existing reference pages."""
    return {str(path.relative_to(REFERENCE)) for path in REFERENCE.rglob("*") if path.is_file()}


def find_stale(pages: dict[str, str]) -> list[str]:
    """Return the names of reference pages that are missing, obsolete or different from `pages`."""
    existing = list_existing()
    differing = {name for name, text in pages.items() if name in existing and read_page(name) != text}
    return sorted(differing | (existing ^ set(pages)))


def read_page(name: str) -> str:
    """Return the text of a reference page on disk."""
    return (REFERENCE / name).read_text()


def write_pages(pages: dict[str, str], *, names: Iterable[str]) -> None:
    """Write the named pages; remove those that are not in `pages`."""
    for name in names:
        path = REFERENCE / name
        if name not in pages:
            path.unlink()
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(pages[name])


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="change nothing; fail if a page is out of date")
    options = parser.parse_args()
    pages = build_pages()
    names = find_stale(pages)
    sections = find_stale_sections()
    shipped = find_stale_shipped()
    if options.check and (names or sections or shipped):
        sys.exit("docs are out of date; run `make generate`: " + ", ".join([*names, *sections, *shipped]))
    for name, text in shipped.items():
        (ROOT / name).write_text(text)
    write_pages(pages, names=names)
    for name, text in sections.items():
        (DOCS / name).write_text(text)


if __name__ == "__main__":
    main()
