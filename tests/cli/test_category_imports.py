"""`storekeep import categories`: a tree in the order of its rows, in a dry run too."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.command_line import CommandLine
from tests.support.shops import new_id

COUNTS = ("created", "updated", "unchanged", "failed")

pytestmark = pytest.mark.engine("sqlite", reason="the command line does not know the engine")


def run_import(cli: CommandLine, path: Path, *rows: str, mode: str = "--yes") -> tuple[int, ...]:
    path.write_text("\n".join(("id,name,parent,description", *rows)))
    run = cli("import", "categories", str(path), mode, "--json")
    assert run.code in (0, 5), run.err
    document = run.document
    return tuple(document[name] for name in COUNTS)


def test_tree_is_created_then_changed_and_a_repeat_changes_nothing(cli: CommandLine, tmp_path: Path) -> None:
    root, leaf, path = new_id("root"), new_id("leaf"), tmp_path / "tree.csv"
    rows = (f"{root},Drinks,,All drinks", f"{leaf},Tea,{root},")
    assert run_import(cli, path, *rows, mode="--dry-run") == (2, 0, 0, 0)
    assert run_import(cli, path, *rows) == (2, 0, 0, 0)
    assert run_import(cli, path, *rows) == (0, 0, 2, 0)
    assert cli.json("categories", "show", leaf)["parentCategory"] == f"categories/{root}"
    assert run_import(cli, path, rows[0], f"{leaf},Teas,,") == (0, 1, 1, 0)
    shown = cli.json("categories", "show", leaf)
    assert (shown["displayName"], shown["parentCategory"]) == ("Teas", f"categories/{root}")


@pytest.mark.parametrize("mode", ["--dry-run", "--yes"])
def test_child_above_its_parent_or_with_a_wrong_id_fails_alone(cli: CommandLine, tmp_path: Path, mode: str) -> None:
    child, parent = new_id("child"), new_id("parent")
    rows = (f"{child},Child,{parent},", f"{parent},Parent,,", "a b,Wrong,,", f"{new_id('c')},,,")
    assert run_import(cli, tmp_path / "tree.csv", *rows, mode=mode) == (1, 0, 0, 3)


def test_deleted_category_is_reported(cli: CommandLine, tmp_path: Path) -> None:
    name, path = new_id("gone"), tmp_path / "tree.csv"
    assert run_import(cli, path, f"{name},Gone,,") == (1, 0, 0, 0)
    assert cli("categories", "delete", name).code == 0
    assert run_import(cli, path, f"{name},Gone,,") == (0, 0, 0, 1)
