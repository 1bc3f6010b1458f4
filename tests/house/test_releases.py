"""The contract is compared with the last release, which is a git tag, also in CI's shallow clones."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.checkout import ROOT

SOURCES = ("protos", "buf.yaml")


def run(*command: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=120, check=False)


def git(*arguments: str, cwd: Path) -> None:
    identity = ("-c", "user.name=test", "-c", "user.email=test@example.com")
    result = run("git", *identity, *arguments, cwd=cwd)
    assert result.returncode == 0, result.stderr


def lint(clone: Path) -> subprocess.CompletedProcess[str]:
    return run(sys.executable, "protos/lint.py", cwd=clone)


@pytest.fixture
def upstream(tmp_path: Path) -> Path:
    """Return a repository with the current contract committed, without a tag."""
    path = tmp_path / "upstream"
    path.mkdir()
    git("init", "--quiet", cwd=path)
    run("cp", "-r", *(str(ROOT / source) for source in SOURCES), str(path), cwd=path)
    git("add", ".", cwd=path)
    git("commit", "--quiet", "--message=contract", cwd=path)
    return path


def rename_field(clone: Path) -> None:
    orders = clone / "protos/storekeep/v1/orders.proto"
    orders.write_text(orders.read_text().replace("string external_reference = 8", "string reference = 8"))


def test_lint_before_first_release_says_that_there_is_nothing_to_compare_with(upstream: Path) -> None:
    result = lint(upstream)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "nothing to compare with" in result.stdout


def test_lint_with_renamed_field_after_release_fails(upstream: Path) -> None:
    git("tag", "v0.9.0", cwd=upstream)
    rename_field(upstream)
    result = lint(upstream)
    assert result.returncode == 1
    assert "buf breaking against v0.9.0" in result.stderr


def test_lint_takes_highest_version_of_several(upstream: Path) -> None:
    git("tag", "v0.9.0", cwd=upstream)
    rename_field(upstream)
    git("commit", "--quiet", "--all", "--message=another contract", cwd=upstream)
    git("tag", "v0.10.0", cwd=upstream)
    result = lint(upstream)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "compared with v0.10.0" in result.stdout


def test_lint_in_shallow_clone_fetches_the_tags_of_releases(upstream: Path, tmp_path: Path) -> None:
    git("tag", "v0.9.0", cwd=upstream)
    clone = tmp_path / "clone"
    git("clone", "--quiet", "--depth=1", "--no-tags", upstream.as_uri(), str(clone), cwd=tmp_path)
    rename_field(clone)
    result = lint(clone)
    assert "buf breaking against v0.9.0" in result.stderr
