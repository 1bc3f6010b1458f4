"""One namespace package in three roots. A stray `__init__.py` would hide the other roots from Python."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.checkout import ROOT

ROOTS = ("generated", "server", "clients")


def portions() -> list[Path]:
    return sorted(path for root in ROOTS for path in (ROOT / root / "storekeep").iterdir() if path.name[0] not in "._")


@pytest.mark.parametrize("root", ROOTS)
def test_namespace_in_each_root_has_no_init(root: str) -> None:
    assert not (ROOT / root / "storekeep" / "__init__.py").exists()
    assert not (ROOT / root / "__init__.py").exists()


@pytest.mark.parametrize("portion", portions(), ids=lambda path: path.name)
def test_portion_of_namespace_is_marked_as_typed(portion: Path) -> None:
    assert portion.is_dir(), f"{portion.name} lies loose in the namespace: it belongs to a portion"
    assert (portion / "py.typed").exists()


def test_portions_do_not_share_a_name() -> None:
    names = [portion.name for portion in portions()]
    assert len(names) == len(set(names))
