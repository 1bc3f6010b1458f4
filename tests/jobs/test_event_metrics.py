"""Metrics of events and webhooks: what a watcher and an endpoint do is counted by a real server."""

from __future__ import annotations

from pathlib import Path

import grpc

from storekeep.client import Storekeep, WebhookEndpoint
from tests.conftest import MakeServer
from tests.support.clusters import Cluster, await_condition
from tests.support.receivers import answer_with, receive
from tests.support.shops import Shop
from tests.support.watches import Watch

FAILING = answer_with("500 Internal Server Error")


def add_up(cluster: Cluster, name: str) -> float:
    """Return the sum of a metric over all values of its labels."""
    return sum(cluster.metrics()[name].values())


def test_watchers_events_and_deliveries_are_counted(make_server: MakeServer, tmp_path: Path) -> None:
    with receive(tmp_path) as receiver:
        server = make_server(
            metrics_listen="127.0.0.1:0",
            webhook_allowed_networks="127.0.0.0/8",
            webhook_ports="any",
            webhook_ca_file=str(receiver.ca_file),
            webhook_interval_s="0.1",
        )
        receiver.answers["/fails"] = [FAILING]
        cluster = Cluster(server)
        with (
            Storekeep(server.address, api_key=server.admin_key) as client,
            grpc.insecure_channel(server.address) as channel,
        ):
            for path in ("/works", "/fails"):
                client.webhooks.create(WebhookEndpoint(url=receiver.url(path), event_types=["customer.created"]))
            shop = Shop(channel, api_key=server.admin_key)
            watch = Watch(shop)
            shop.customer()
            assert watch.take(1)

            def is_counted() -> bool:
                outcomes = cluster.metrics().get("storekeep_webhook_attempts_total", {})
                return (
                    add_up(cluster, "storekeep_event_watchers") == 1
                    and add_up(cluster, "storekeep_event_watchers_lag_entries") == 0
                    and add_up(cluster, "storekeep_events_sent_total") >= 1
                    and add_up(cluster, "storekeep_webhook_oldest_seconds") > 0
                    and len([outcome for outcome, count in outcomes.items() if count]) == 2
                )

            await_condition(is_counted, lambda: str(cluster.page("/metrics")))
            watch.close()
            await_condition(lambda: add_up(cluster, "storekeep_event_watchers") == 0, server.log)
