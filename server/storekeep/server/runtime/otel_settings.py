"""The settings of OpenTelemetry. The standard `OTEL_*` variables say where telemetry is sent, and how much."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator
from pydantic_settings import BaseSettings, SettingsConfigDict

from storekeep.server.runtime.setting_types import split_words

Signals = Annotated[tuple[Literal["traces", "metrics"], ...], BeforeValidator(split_words)]


class OtelSettings(BaseSettings):
    """The part of the settings that decides about OpenTelemetry."""

    model_config = SettingsConfigDict(use_attribute_docstrings=True)

    otel_signals: Signals = ()
    """What to send by OTLP over gRPC, separated by spaces: `traces`, `metrics` or both. It needs the extra `otel`. The
    `OTEL_*` variables of OpenTelemetry decide where to. Empty: nothing, and nothing of OpenTelemetry is imported."""
