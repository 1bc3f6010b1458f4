"""Write `docs/reference/`, and what stands between markers in other pages, from the contract and the server.

`python docs/generate.py` writes in place; with `--check` it changes nothing and fails on any difference.
What people wrote in the pages' sources is all there is: a page is corrected where it comes from.
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

from docs.pages import api, chain, configuration, database, errors, licenses, order_states, permissions  # noqa: E402

PAGES: dict[str, Callable[[], str]] = {
    "chain.md": chain.page,
    "errors.md": errors.page,
    "permissions.md": permissions.page,
    "configuration.md": configuration.page,
    "database.md": database.page,
    "licenses.md": licenses.page,
    "api/README.md": api.index,
}

SECTIONS: dict[str, dict[str, Callable[[], str]]] = {
    "technical-design.md": {"database": database.section, "order-states": order_states.section},
}
"""Pages that people write, and the parts of each that are written here: between `<!-- generated: NAME -->` and the end
mark."""
END = "<!-- /generated -->"


def with_sections(text: str, sections: dict[str, Callable[[], str]]) -> str:
    """A page with its generated parts as they are now.

    Raises: ValueError where a mark is missing.
    """
    for name, section in sections.items():
        begin = f"<!-- generated: {name} -->"
        start = text.index(begin) + len(begin)
        text = f"{text[:start]}\n{section()}{text[text.index(END, start) :]}"
    return text


def stale_sections() -> dict[str, str]:
    """The pages with generated parts that say something else now, and what they should say."""
    wanted = {name: with_sections((DOCS / name).read_text(), sections) for name, sections in SECTIONS.items()}
    return {name: text for name, text in wanted.items() if text != (DOCS / name).read_text()}


def pages() -> dict[str, str]:
    """Every page of the reference: its path below `docs/reference`, and what it says now."""
    return {name: page() for name, page in PAGES.items()} | api.pages()


def written() -> set[str]:
    """The paths of the pages that are there."""
    return {str(path.relative_to(REFERENCE)) for path in REFERENCE.rglob("*.md")}


def stale(wanted: dict[str, str]) -> list[str]:
    """The pages that are missing, left over, or say something else."""
    differing = {name for name, text in wanted.items() if name in written() and read(name) != text}
    return sorted(differing | (written() ^ set(wanted)))


def read(name: str) -> str:
    """What a page says on disk."""
    return (REFERENCE / name).read_text()


def write(wanted: dict[str, str], *, names: Iterable[str]) -> None:
    """Bring the named pages to what is wanted; remove those that nobody wants."""
    for name in names:
        path = REFERENCE / name
        if name not in wanted:
            path.unlink()
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(wanted[name])


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="change nothing; fail when a page is not up to date")
    options = parser.parse_args()
    wanted = pages()
    names = stale(wanted)
    sections = stale_sections()
    if options.check and (names or sections):
        sys.exit("docs are not what their sources say; run `make generate`: " + ", ".join([*names, *sections]))
    write(wanted, names=names)
    for name, text in sections.items():
        (DOCS / name).write_text(text)


if __name__ == "__main__":
    main()
