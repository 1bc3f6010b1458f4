"""Counts add up over threads and processes, and Prometheus can parse the metrics."""

from __future__ import annotations

import threading

import pytest
from prometheus_client.parser import text_string_to_metric_families

from storekeep.server.telemetry.counts import BOUNDS_US, CallCounts, Counts, add_counts
from storekeep.server.telemetry.prometheus import format_metrics
from storekeep.server.telemetry.status import DOWN, SERVING, Report, ServerStatus, WorkerStatus

THREADS = 8
CALLS = 2_000


def count_calls(*durations_us: int, method: str = "a.B/C", code: str = "OK", reason: str = "") -> Counts:
    counts = CallCounts()
    for duration_us in durations_us:
        counts.begin()
        counts.end(method, code, reason, duration_us)
    return counts.counts()


def read_samples(status: ServerStatus) -> dict[tuple[str, ...], float]:
    families = text_string_to_metric_families(format_metrics(status).decode())
    return {
        (sample.name, *(sample.labels[name] for name in sorted(sample.labels))): sample.value
        for family in families
        for sample in family.samples
    }


def make_serving_worker(counts: Counts, *, number: int = 0) -> WorkerStatus:
    return WorkerStatus(number=number, process_id=0, state=SERVING, report=Report(SERVING, True, 3, counts))


def test_threads_that_count_at_once_lose_nothing():
    counts = CallCounts()

    def call() -> None:
        for number in range(CALLS):
            counts.begin()
            counts.end("a.B/C", "OK" if number % 2 else "NOT_FOUND", "", number)

    threads = [threading.Thread(target=call) for _ in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = counts.counts()
    assert (found.begun, found.in_flight) == (THREADS * CALLS, 0)
    assert {(ended.code, ended.calls) for ended in found.ended} == {
        ("OK", THREADS * CALLS / 2),
        ("NOT_FOUND", THREADS * CALLS / 2),
    }


def test_call_is_in_flight_until_it_is_over_or_forwarded():
    counts = CallCounts()
    for _ in range(3):
        counts.begin()
    counts.end("a.B/C", "OK", "", 1)
    counts.forward()
    assert counts.counts().in_flight == 1


@pytest.mark.parametrize("place", range(len(BOUNDS_US)))
def test_duration_at_a_bound_is_within_it(place: int):
    (ended,) = count_calls(BOUNDS_US[place]).ended
    assert ended.buckets[place] == 1


def test_sums_are_of_all_parts():
    total = add_counts([count_calls(1, 10**9), count_calls(5, reason="X"), Counts(commits=2, writes=5)])
    assert (total.begun, total.commits, total.writes) == (3, 2, 5)
    assert [(ended.reason, ended.calls, ended.duration_us) for ended in total.ended] == [
        ("", 2, 10**9 + 1),
        ("X", 1, 5),
    ]


def test_histogram_is_cumulative_over_codes_and_workers():
    status = ServerStatus(
        (
            make_serving_worker(count_calls(200, 300)),
            make_serving_worker(count_calls(10**8, code="NOT_FOUND"), number=1),
        ),
        ended=count_calls(100),
    )
    found = read_samples(status)
    bucket = "storekeep_call_duration_seconds_bucket"
    assert found[bucket, "0.00025", "a.B/C"] == 2
    assert found[bucket, "0.0005", "a.B/C"] == 3
    assert found[bucket, "5.0", "a.B/C"] == 3
    assert found[bucket, "+Inf", "a.B/C"] == found["storekeep_call_duration_seconds_count", "a.B/C"] == 4
    assert found["storekeep_call_duration_seconds_sum", "a.B/C"] == pytest.approx(100.0006)
    assert found["storekeep_calls_total", "OK", "a.B/C", ""] == 3


def test_worker_that_does_not_answer_is_down_but_what_it_counted_stays():
    worker = WorkerStatus(number=0, process_id=0, state=DOWN, report=Report(SERVING, True, 0, count_calls(1)))
    found = read_samples(ServerStatus((worker,)))
    assert found["storekeep_worker_up", "0"] == found["storekeep_worker_writes", "0"] == 0
    assert found["storekeep_calls_total", "OK", "a.B/C", ""] == 1


def test_server_is_ready_when_somebody_serves_and_somebody_writes():
    reads = WorkerStatus(number=1, process_id=1, state=SERVING, report=Report(SERVING, False, 0, Counts()))
    assert not ServerStatus(()).is_ready
    assert not ServerStatus((reads,)).is_ready
    assert ServerStatus((reads, make_serving_worker(Counts()))).is_ready
