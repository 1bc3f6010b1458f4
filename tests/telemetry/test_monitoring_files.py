"""The alert rules and the dashboard name only metrics that a running server has, and Prometheus accepts the rules."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import urllib.request

import pytest
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from storekeep.client import Storekeep
from tests.conftest import MakeServer
from tests.support.checkout import ROOT
from tests.support.clusters import await_condition

FILES = ROOT / "docs" / "operations"
NAME = re.compile(r"\bstorekeep_[a-z_]+")
ENDINGS = ("_bucket", "_count", "_sum")


def read_expressions() -> list[str]:
    rules = re.findall(r"^ +expr: '(.+)'$", (FILES / "alerts.yaml").read_text(), re.MULTILINE)
    panels = json.loads((FILES / "dashboard.json").read_text())["panels"]
    assert len(rules) > 10
    return rules + [target["expr"] for panel in panels for target in panel["targets"]]


def find_metric(name: str, families: dict[str, str]) -> bool:
    """Return whether a sample of this name belongs to a family of the right type."""
    for ending in ENDINGS:
        if name.endswith(ending) and families.get(name.removesuffix(ending)) == "histogram":
            return True
    if name.endswith("_total"):
        return families.get(name.removesuffix("_total")) == "counter"
    return families.get(name) == "gauge"


def read_metrics_after_write(client: Storekeep, address: str) -> list[Metric]:
    """Place an order and return the metrics."""
    client.orders.place(customer="customers/jonas-lind", lines=[("STRAINER", 1)], currency_code="EUR")
    with urllib.request.urlopen(f"http://{address}/metrics", timeout=60) as page:
        return list(text_string_to_metric_families(page.read().decode()))


def has_log_bytes(found: list[Metric]) -> bool:
    """Return whether SQLite's log has bytes according to the metrics."""
    return any(each.name == "storekeep_store_log_bytes" and each.value > 0 for one in found for each in one.samples)


def test_every_metric_of_the_files_exists_and_measures(make_server: MakeServer, engine: str):
    server = make_server("--sample", metrics_listen="127.0.0.1:0")
    address = re.search(r"http://(127\.0\.0\.1:\d+)", server.output())
    assert address is not None
    with Storekeep(server.address, api_key=server.admin_key) as client:
        assert list(client.products.list())
        found = read_metrics_after_write(client, address[1])
        if engine == "sqlite":  # a pause before the page is read may empty the log
            await_condition(
                lambda: has_log_bytes(read_metrics_after_write(client, address[1])), lambda: "the log is always empty"
            )
    families = {family.name: family.type for family in found}
    names = {name for expression in read_expressions() for name in NAME.findall(expression)}
    assert len(names) > 20
    unknown = [name for name in sorted(names) if not find_metric(name, families)]
    assert unknown == []

    values = {(s.name, s.labels.get("queue", "")): s.value for family in found for s in family.samples}
    assert values["storekeep_commit_size_writes_count", ""] >= 1
    assert values["storekeep_commit_duration_seconds_sum", ""] > 0
    for queue in "read", "write":
        assert values["storekeep_queue_wait_seconds_count", queue] >= 1
    assert values["storekeep_calls_queue_rejected_total", "write"] == 0
    if engine == "postgresql":
        assert values["storekeep_database_connections", ""] >= 0


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed")
def test_prometheus_accepts_the_alert_rules():
    subprocess.run(["promtool", "check", "rules", str(FILES / "alerts.yaml")], check=True, timeout=60)
