"""The standard variables of OpenTelemetry that the server evaluates itself; its exporter reads all others.

https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from storekeep.server.telemetry.traces import Sampler

SAMPLERS = {
    "always_on": Sampler(1.0, asks_parent=False),
    "always_off": Sampler(0.0, asks_parent=False),
    "traceidratio": Sampler(1.0, asks_parent=False),
    "parentbased_always_on": Sampler(1.0, asks_parent=True),
    "parentbased_always_off": Sampler(0.0, asks_parent=True),
    "parentbased_traceidratio": Sampler(1.0, asks_parent=True),
}
"""The values of `OTEL_TRACES_SAMPLER`. The ratio of those that end in `ratio` is that of `OTEL_TRACES_SAMPLER_ARG`."""
DEFAULT_SAMPLER = "parentbased_always_on"
PROTOCOL = "grpc"
MS_PER_S = 1_000
INTEGER_MAX = 1_000_000_000


class UnusableTelemetry(Exception):
    """OpenTelemetry cannot be started with these variables and packages."""


@dataclass(frozen=True, slots=True)
class OtelVariables:
    """The evaluated variables.

    Attributes:
        is_disabled: `OTEL_SDK_DISABLED`.
        sampler: `OTEL_TRACES_SAMPLER`.
        queue_max, batch_max, delay_s: `OTEL_BSP_*`, of the queue of spans.
        metric_interval_s: `OTEL_METRIC_EXPORT_INTERVAL`.
    """

    is_disabled: bool
    sampler: Sampler
    queue_max: int
    batch_max: int
    delay_s: float
    metric_interval_s: float


def read_otel_variables(environment: Mapping[str, str], *, signals: Iterable[str]) -> OtelVariables:
    """Evaluate the variables.

    Raises: UnusableTelemetry.
    """
    _check_protocol(environment, signals)
    return OtelVariables(
        is_disabled=environment.get("OTEL_SDK_DISABLED", "").strip().lower() == "true",
        sampler=_read_sampler(environment),
        queue_max=_read_number(environment, "OTEL_BSP_MAX_QUEUE_SIZE", 2_048),
        batch_max=_read_number(environment, "OTEL_BSP_MAX_EXPORT_BATCH_SIZE", 512),
        delay_s=_read_number(environment, "OTEL_BSP_SCHEDULE_DELAY", 5_000) / MS_PER_S,
        metric_interval_s=_read_number(environment, "OTEL_METRIC_EXPORT_INTERVAL", 60_000) / MS_PER_S,
    )


def _check_protocol(environment: Mapping[str, str], signals: Iterable[str]) -> None:
    for name in ("OTEL_EXPORTER_OTLP_PROTOCOL", *(f"OTEL_EXPORTER_OTLP_{each.upper()}_PROTOCOL" for each in signals)):
        value = environment.get(name, "").strip() or PROTOCOL
        if value != PROTOCOL:
            raise UnusableTelemetry(f"{name}: only grpc is supported, not {value!r}; collectors take it on port 4317")


def _read_sampler(environment: Mapping[str, str]) -> Sampler:
    name = environment.get("OTEL_TRACES_SAMPLER", "").strip().lower() or DEFAULT_SAMPLER
    sampler = SAMPLERS.get(name)
    if sampler is None:
        raise UnusableTelemetry(f"OTEL_TRACES_SAMPLER: {name!r} is none of {', '.join(SAMPLERS)}")
    argument = environment.get("OTEL_TRACES_SAMPLER_ARG", "").strip()
    if not name.endswith("ratio") or not argument:
        return sampler
    try:
        ratio = float(argument)
    except ValueError:
        ratio = -1.0
    if not 0.0 <= ratio <= 1.0:
        raise UnusableTelemetry(f"OTEL_TRACES_SAMPLER_ARG: {argument!r} is not a number from 0 to 1")
    return sampler._replace(ratio=ratio)


def _read_number(environment: Mapping[str, str], name: str, default: int) -> int:
    value = environment.get(name, "").strip()
    if not value:
        return default
    if not (value.isascii() and value.isdecimal() and 0 < int(value[:12]) <= INTEGER_MAX):
        raise UnusableTelemetry(f"{name}: {value!r} is not a whole number from 1 to {INTEGER_MAX}")
    return int(value)
