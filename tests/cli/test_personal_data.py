"""Personal data on the command line."""

from __future__ import annotations

import json
from pathlib import Path

from tests.support.command_line import CommandLine


def test_export_of_a_customer_is_a_file_and_a_page(cli: CommandLine, tmp_path: Path) -> None:
    hostile = "<script>alert(1)</script>"
    cli.json("customers", "create", "--id", "exported", "--name", hostile, "--email", "ada@example.com")
    file, page = tmp_path / "data.json", tmp_path / "data.html"
    command = ("customers", "export", "exported", "--file", str(file), "--page", str(page))
    shown = cli(*command)
    assert (shown.code, "dry run" in shown.err, file.exists(), page.exists()) == (0, True, False, False)
    assert cli(*command, "--yes").code == 0
    document = json.loads(file.read_text())
    assert document["customer"] == "customers/exported"
    assert [one["email"] for one in document["data"]["customer"]] == ["ada@example.com"]
    assert [one["resource"] for one in document["data"]["audit_entry"]] == ["customers/exported"]
    assert len(cli.json("audit", "list", "--filter", 'resource = "customers/exported/exports/*"')) == 1
    assert file.stat().st_mode & 0o777 == page.stat().st_mode & 0o777 == 0o600
    text = page.read_text()
    assert "ada@example.com" in text
    assert "&lt;script&gt;alert(1)" in text
    assert "<script" not in text


def test_erase_and_merge_are_dry_runs_without_yes(cli: CommandLine) -> None:
    for customer_id in ("erased", "target", "source"):
        cli.json("customers", "create", "--id", customer_id, "--name", "Ada")
    shown = cli("customers", "erase", "erased")
    assert (shown.code, "dry run" in shown.err) == (0, True)
    assert cli.json("customers", "show", "erased")["displayName"] == "Ada"
    assert cli("customers", "erase", "erased", "--yes").code == 0
    assert cli.json("customers", "show", "erased")["eraseTime"]
    merge = ("customers", "merge", "target", "--source", "source")
    assert cli(*merge).code == 0
    assert not cli.json("customers", "show", "source")["mergedInto"]
    assert cli(*merge, "--yes").code == 0
    assert cli.json("customers", "show", "source")["mergedInto"] == "customers/target"
